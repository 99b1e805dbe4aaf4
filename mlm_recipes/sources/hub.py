"""Downloads from the Hugging Face hub, pinned to a commit and checked before they are used.

huggingface_hub writes a file under a temporary name until its size is right, so a broken connection leaves no partial
file in its cache. It does not compare the content with the sha256 that the hub states and that it uses as the file
name. This module does so, once, when a file arrives.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .escaping import first_line

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

logger = logging.getLogger(__name__)

#: What is fetched: a tokenizer is a model's repository without its weights.
Kind = Literal["model", "tokenizer", "dataset"]
PATIENCE = 6.0  # seconds for the first answer

# The field of MLMConfig that named it, for messages.
_FIELD = {"model": "model", "tokenizer": "tokenizer", "dataset": "corpus"}
_REPOSITORY = {"model": "model", "tokenizer": "model", "dataset": "dataset"}
_WEIGHTS = ("model*.safetensors", "adapter_model.safetensors")
_BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.codes")


class NotOnHubError(ValueError):
    """The hub reports that it has no such repository."""


class HubUnreachableError(ValueError):
    """The hub did not answer, or access to it is turned off, and the cache does not have the files."""


def fetch_model(name: str, revision: str | None = None, *, with_code: bool = False) -> Path:
    """Return the folder of a hub model: its config, tokenizer and weights, fetched unless they are cached.

    Args:
        name: `owner/name`; the oldest models have no owner.
        revision: a branch, a tag or a commit (7 to 40 hex digits); None is the branch `main`.
        with_code: also fetch its Python files, for a model whose code is trusted.

    Weights are fetched as safetensors only, never as a `.bin`, which can run code when it is read. They are compared
    with the sha256 that the hub states, and discarded if it differs. If the hub does not answer, the cached files are
    used, with a warning; with HF_HUB_OFFLINE=1 the hub is not contacted.

    Raises: NotOnHubError; HubUnreachableError; ValueError for a gated model, an unknown revision, a broken connection,
    or content that does not match the hub's sha256.
    """
    return _fetch_model(name, "model", revision or "main", with_code)


def fetch_tokenizer(name: str, revision: str | None = None, *, with_code: bool = False) -> Path:
    """Return the folder of a hub model's tokenizer, as `fetch_model` does, without fetching its weights."""
    return _fetch_model(name, "tokenizer", revision or "main", with_code)


@functools.cache  # a run needs its model several times
def _fetch_model(name: str, kind: Kind, revision: str, with_code: bool) -> Path:
    weights = _WEIGHTS if kind == "model" else ()
    wanted = [*_BESIDE_WEIGHTS, *weights, *(["*.py"] if with_code else [])]
    info = ask(name, kind, revision)
    if info is None:
        return cached(name, kind, revision, wanted)
    names = [file.rfilename for file in info.siblings or []]
    files = [file for file in names if any(fnmatch(file, pattern) for pattern in wanted)]
    folder = fetch(name, kind, str(info.sha), files)
    remember(name, kind, revision, str(info.sha))
    return folder


def ask(name: str, kind: Kind, revision: str) -> ModelInfo | DatasetInfo | None:
    """Ask the hub, once, for the commit and the files of a repository; return None if it does not answer.

    On their own, transformers and datasets retry for 23 to 46 s before they report that there is no network, and wait
    forever for a hub that accepts the connection but does not respond.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().repo_info(name, repo_type=_REPOSITORY[kind], revision=revision, timeout=PATIENCE)  # type: ignore[return-value]
    except GatedRepoError as error:
        raise gated(name, kind) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{_FIELD[kind]}_revision: {name!r} has no revision {revision!r} on the hub. Accepted: a branch, a tag, or "
            'a commit (7 to 40 hex digits) of this repository. Look them up under "Files and versions" on its page.'
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        called = "data set" if kind == "dataset" else "model"
        raise NotOnHubError(
            f"{_FIELD[kind]}: {name!r} is neither a local path nor a {called} on the hub. "
            "Accepted: an id owner/name, as shown on its hub page. Check the name; a private repository needs "
            "`hf auth login`."
        ) from error
    except Exception as error:  # offline, no route, no answer, a server error: each has a class of its own
        logger.debug("the hub does not answer: %r", error)
        return None


def fetch(name: str, kind: Kind, commit: str, files: Iterable[str]) -> Path:
    """Fetch the files that are not cached yet, check them, and return their folder."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.hf_api import RepoFile

    files = sorted(set(files))
    cached = {file: try_to_load_from_cache(name, file, repo_type=_REPOSITORY[kind], revision=commit) for file in files}
    missing = [file for file, path in cached.items() if not isinstance(path, str)]
    with broken_connection(name, kind):
        stated = {
            file.path: file.lfs.sha256
            for file in (
                HfApi().get_paths_info(name, missing, repo_type=_REPOSITORY[kind], revision=commit) if missing else ()
            )
            if isinstance(file, RepoFile) and file.lfs is not None
        }
        try:
            folder = snapshot_download(
                name, repo_type=_REPOSITORY[kind], revision=commit, allow_patterns=[glob.escape(file) for file in files]
            )
        finally:  # even if another file failed: a complete file is not fetched again, so it would never be checked
            for file, sha256 in stated.items():
                path = try_to_load_from_cache(name, file, repo_type=_REPOSITORY[kind], revision=commit)
                if isinstance(path, str):
                    _check(Path(path), sha256, f"{_FIELD[kind]}: {file} of {name!r}")
    return Path(folder)


def _check(path: Path, sha256: str, what: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        path.resolve().unlink()  # the target of the snapshot's link
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{what} arrived with the sha256 {digest.hexdigest()}. Accepted: {sha256}, as the hub states. The file was "
            "discarded. Run again; if this repeats, contact the operator of your proxy or hub mirror."
        )


@contextlib.contextmanager
def broken_connection(name: str, kind: Kind) -> Iterator[None]:
    """Turn the HTTP client's errors, which huggingface_hub passes through, into one clear ValueError."""
    from huggingface_hub.errors import GatedRepoError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        yield
    except GatedRepoError as error:
        raise gated(name, kind) from error
    except (OSError, httpx.HTTPError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # a disk error: full, or no permission
        raise ValueError(
            f"{_FIELD[kind]}: fetching {name!r} from the hub was interrupted ({first_line(error)}). Accepted: "
            "a connection that lasts until the end. Partial files are not used. Run again: only missing files are "
            "fetched."
        ) from error


def gated(name: str, kind: Kind) -> ValueError:
    """Return the error for a hub repository that needs permission."""
    return ValueError(
        f"{_FIELD[kind]}: {name!r} is gated on the hub. Accepted: a repository that you have access to. Request access "
        "on its page, log in with `hf auth login`, and run again."
    )


def _storage(name: str, kind: Kind) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=_REPOSITORY[kind])


def remember(name: str, kind: Kind, revision: str, commit: str) -> None:
    """Record which commit a branch or tag points to, as huggingface_hub does, but only after all files arrived."""
    if revision == commit:
        return
    ref = _storage(name, kind) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    unfinished = ref.with_name(f"{ref.name}.{os.getpid()}")
    unfinished.write_text(commit, encoding="utf-8")
    unfinished.replace(ref)  # atomically: another process may be reading


def cached(name: str, kind: Kind, revision: str, patterns: list[str]) -> Path:
    """Return the cached folder, or raise the error that the hub is needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name,
            repo_type=_REPOSITORY[kind],
            revision=revision,
            allow_patterns=patterns,
            local_files_only=True,
        )
    except LocalEntryNotFoundError as error:
        raise unreachable(name, kind) from error
    if not HF_HUB_OFFLINE:
        logger.warning(
            "%s: the hub cannot be reached; using the cached files (revision %s, commit %.7s).",
            name,
            revision,
            Path(folder).name,
        )
    return Path(folder)


def unreachable(name: str, kind: Kind, what: str = "") -> HubUnreachableError:
    """Return the error for a hub that does not answer, with what to do instead."""
    instead = {
        "model": "Without a network, use the built-in `mini`, or copy the model's folder from another machine and pass "
        "its path.",
        "tokenizer": "Without a network, copy the tokenizer's folder from another machine and pass its path.",
        "dataset": "Without a network, use a text file, a folder, or the bundled `meditations`.",
    }
    return HubUnreachableError(
        f"{_FIELD[kind]}: {name!r} is not a local path, and the hub cannot be reached"
        f"{what or ' (and the cache does not have all of it)'}. Accepted: a network that reaches the hub, or a cached "
        f"copy of the same revision. {instead[kind]}"
    )
