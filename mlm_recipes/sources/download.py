"""External text, saved as a local file: from an http(s) URL or standard input."""

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
    """Tell whether a name is an http(s) URL.

    >>> is_url("https://example.org/text.txt"), is_url("someone/texts")
    (True, False)
    """
    return name.startswith(("http://", "https://"))


def download(url: str, sha256: str | None = None) -> Path:
    """Fetch a file and check it before it is read; a file that is cached under its sha256 needs no network.

    Without a `sha256` the file is fetched each time, since it may change, and the sha256 received is logged.

    Raises: ValueError if the file cannot be fetched completely or has another sha256, or if the URL is one from which
    recipe.yaml removed the credentials.
    """
    if are_left_out(url):
        raise ValueError(
            f"corpus: {url} is a URL without its credentials: recipe.yaml has {HIDDEN} instead of them. Accepted: the "
            "complete URL. Pass it again: --corpus 'https://...' (or --validation_corpus, --general_corpus, --mix)."
        )
    import pooch
    import requests

    said = without_credentials(url)
    name = PurePosixPath(urlsplit(url).path).name or "text"
    pooch.get_logger().setLevel("ERROR")  # it would log each download
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="fetching-") as aside:
        folder = Path(aside) if sha256 is None else _cache() / sha256[:32]
        try:
            file = Path(pooch.retrieve(url, sha256, fname=name, path=folder, downloader=fetch))
        except OSError as error:  # includes what requests raises
            answer = error.response if isinstance(error, requests.HTTPError) else None
            why = f"it answers {answer.status_code} {answer.reason}" if answer is not None else _short(error)
            raise ValueError(
                f"corpus: {said} cannot be fetched: {why}. Accepted: a URL that returns the complete file, or the path "
                "of a local copy. Without a network, use the bundled `meditations`."
            ) from error
        except ValueError as error:
            received = re.search(r"but got ([0-9a-f]+)", str(error))
            raise ValueError(
                f"corpus: {said} was fetched, but its sha256 is {received.group(1) if received else 'another'}. "
                f"Accepted: {sha256}. The file was discarded. Run again; if this repeats, the text at that URL has "
                "changed."
            ) from error
        return file if sha256 is not None else _keep(file, said)


def from_standard_input() -> Path:
    """Write standard input to a file, so that a run can read it more than once.

    Raises: ValueError if it is a terminal, or if there are several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "corpus: received - (standard input) with several processes, of which only one could read it. Accepted: a "
            "file. Write the text to a file first."
        )
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("corpus: received -, but standard input is a terminal. Accepted: cat FILE | mlm-recipes ...")
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="reading-") as aside:
        file = Path(aside) / "stdin.txt"
        with file.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return _keep(file, "standard input")


def _keep(file: Path, source: str) -> Path:
    """Move a file into the cache, under its sha256; the same content is stored once."""
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
