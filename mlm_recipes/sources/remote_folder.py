"""Files of a folder elsewhere, such as `s3://bucket/folder`, by fsspec: read, or copied to this disk and checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import fsspec

from .credentials import without_credentials
from .missing_packages import missing_package


def is_elsewhere(name: str) -> bool:
    """Tell whether a name is that of a folder elsewhere; at an http(s) URL, a name with a slash at its end.

    >>> [is_elsewhere(name) for name in ("s3://texts/shards", "https://a.org/shards/", "https://a.org/a", "shards/")]
    [True, True, False, False]
    """
    protocol, found, _ = name.partition("://")
    return bool(found) and (protocol not in ("http", "https") or name.endswith("/"))


class RemoteFolder:
    """A folder at an address that fsspec understands: s3://, gs://, hf://, memory://, https://.../

    Raises: MissingPackageError, a ValueError, if the protocol needs a package that is not installed; ValueError for an
    unknown protocol, and from each method for what cannot be fetched.
    """

    def __init__(self, address: str) -> None:
        self.said = without_credentials(address)
        accepted = "Accepted: an address that fsspec can open, or a folder on this disk."
        try:
            self._files, self._path = fsspec.core.url_to_fs(address.rstrip("/"))
        except ImportError as error:
            missing = missing_package(error, f"corpus: {self.said!r}", accepted)
            raise (missing or ValueError(f"corpus: {self.said!r} cannot be opened: {error}. {accepted}")) from error
        except ValueError as error:  # fsspec names the protocols
            raise ValueError(f"corpus: {self.said!r} cannot be opened: {error}. {accepted}") from error

    def read(self, name: str) -> bytes:
        """Return a file's contents."""
        try:
            return bytes(self._files.cat_file(f"{self._path}/{name}"))
        except Exception as error:  # each protocol has errors of its own
            raise self._not_fetched(name, error) from error

    def copy(self, name: str, place: Path, size: int, sha256: str) -> None:
        """Copy a file to `place`, unless it is there already; it gets its name only if its sha256 is right."""
        if place.exists() and place.stat().st_size == size:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f".fetching-{place.name}-{os.getpid()}")
        try:
            self._fetch(name, aside)
            with aside.open("rb") as file:
                received = _sha256(file)
            if received != sha256:
                raise ValueError(
                    f"corpus: {self.said}/{name} was fetched, but its sha256 is {received}. Accepted: {sha256}, as its "
                    "index says. The file was discarded. Run again; if this repeats, prepare the corpus again."
                )
            os.replace(aside, place)
        finally:
            aside.unlink(missing_ok=True)

    def _fetch(self, name: str, place: Path) -> None:
        try:
            self._files.get_file(f"{self._path}/{name}", str(place))
        except Exception as error:
            raise self._not_fetched(name, error) from error

    def _not_fetched(self, name: str, error: Exception) -> ValueError:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        return ValueError(
            f"corpus: {self.said}/{name} cannot be fetched ({without_credentials(why)}). Accepted: a folder that "
            "`mlm-recipes prepare` wrote, with all its files. Check the address, and the access to it."
        )


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
