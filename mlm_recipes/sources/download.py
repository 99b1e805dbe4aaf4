"""Text from elsewhere, as a file on this disk: an http(s) address, standard input."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import datasets

from .credentials import HIDDEN, are_left_out, without_credentials

logger = logging.getLogger(__name__)

#: Seconds to wait for a connection, and then for the next bytes.
TIMEOUT = 4


def is_url(name: str) -> bool:
    """Tell whether a name is an http(s) address.

    >>> is_url("https://example.org/text.txt"), is_url("someone/texts")
    (True, False)
    """
    return name.startswith(("http://", "https://"))


def download(url: str, sha256: str | None = None) -> Path:
    """Fetch a file and check it before anyone reads it; one that is here already under its sha256 needs no network.

    Without a `sha256` the address is asked each time, since what lies there may change, and the one received is logged.

    Raises: ValueError where it cannot be fetched whole, has another sha256, or is an address of which recipe.yaml
    left the credentials out.
    """
    if are_left_out(url):
        raise ValueError(
            f"corpus: {url} is an address without its credentials, as recipe.yaml holds it: {HIDDEN} stands where they "
            "stood. Accepted: the whole address. Give it again: --corpus 'https://...' (or --validation_corpus, "
            "--general_corpus)."
        )
    import pooch
    import requests

    said = without_credentials(url)
    name = PurePosixPath(urlsplit(url).path).name or "text"
    pooch.get_logger().setLevel("ERROR")  # it announces each download
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="fetching-") as aside:
        folder = Path(aside) if sha256 is None else _cache() / sha256[:32]
        try:
            file = Path(pooch.retrieve(url, sha256, fname=name, path=folder, downloader=fetch))
        except OSError as error:  # and what requests raises
            answer = error.response if isinstance(error, requests.HTTPError) else None
            why = f"it answers {answer.status_code} {answer.reason}" if answer is not None else _short(error)
            raise ValueError(
                f"corpus: {said} cannot be fetched: {why}. Accepted: an address that gives the whole file within "
                "reason, "
                "or a copy of the file: name its path instead. Without a network use the bundled `meditations`."
            ) from error
        except ValueError as error:
            received = re.search(r"but got ([0-9a-f]+)", str(error))
            raise ValueError(
                f"corpus: {said} was fetched, but its sha256 is {received.group(1) if received else 'another'}. "
                "Accepted: "
                f"{sha256}. The file was discarded: run again, and if this repeats, the text at that address has "
                "changed."
            ) from error
        return file if sha256 is not None else _keep(file, said)


def from_standard_input() -> Path:
    """Write what comes from standard input to a file, so that a run can read it more than once.

    Raises: ValueError where it is a terminal, or one of several processes would read it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "corpus: received -, standard input, in several processes, of which one would get it. Accepted: a file. "
            "Write the text to one first."
        )
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("corpus: received -, and standard input is a terminal. Accepted: cat FILE | mlm-recipes ...")
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="reading-") as aside:
        file = Path(aside) / "stdin.txt"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return _keep(file, "standard input")


def _keep(file: Path, source: str) -> Path:
    """Move a file to where it is found again by its content; the same content is kept once."""
    with file.open("rb") as content:
        digest = hashlib.sha256()
        while block := content.read(2**20):
            digest.update(block)
    logger.info("%s: sha256 %s", source, digest.hexdigest())
    place = _cache() / digest.hexdigest()[:32] / file.name
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        os.replace(file, place)
    return place


def _cache() -> Path:
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "mlm_recipes" / "files"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _short(error: OSError) -> str:
    reason = str(error)
    if "timed out" in reason.lower():
        return f"no answer for {TIMEOUT} s"
    if "IncompleteRead" in reason or "Connection broken" in reason:
        return "the connection was cut before the end"
    return "no connection"
