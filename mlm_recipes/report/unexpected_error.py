"""An error that nobody expected: its traceback goes into a file, and one sentence says where the file is."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import __version__
from ..sources.credentials import HIDDEN, without_credentials
from ..sources.escaping import first_line, shell

#: Flags whose value is not written anywhere.
_SECRET = ("--hub_token", "--hub-token")

_REPORT = " Please report it to the maintainers, with that file; --traceback shows it here."

#: The attribute of an error that names the folder of the run in which it happened.
_FOLDER = "mlm_recipes_run_folder"


@contextmanager
def happening_in(folder: Path) -> Iterator[None]:
    """Note on every error that leaves `with` that it happened in a run's folder, for `keep`."""
    try:
        yield
    except Exception as error:
        setattr(error, _FOLDER, folder)
        raise


def keep(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write an error's traceback, the command and the versions to a new file, and return its path; None if it cannot.

    The file is in the run's folder, if there is one yet (`happening_in`), otherwise in the working directory, or in
    the system's folder for temporary files if nothing can be written there. No file is ever replaced: each process of
    a run writes its own.
    """
    run = getattr(error, _FOLDER, None)
    folders = ([run] if run is not None and run.is_dir() else []) + [Path.cwd(), Path(tempfile.gettempdir())]
    text = _text(error, arguments)
    for folder in folders:
        try:
            return _write(folder, text)
        except OSError:
            continue
    return None


def sentence(error: BaseException, kept: Path | None) -> str:
    """Return what is printed about an unexpected error whose traceback is in the file `kept`.

    >>> print(sentence(KeyError("gain"), Path("runs/notes/error-1.txt")))
    KeyError: 'gain'. This is probably a fault of mlm-recipes, not yours. The traceback is in runs/notes/error-1.txt. \
Please report it to the maintainers, with that file; --traceback shows it here.
    """
    said = first_line(error)
    said = said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
    where = "The traceback could not be written to a file; --traceback shows it."
    if kept is not None:
        where = f"The traceback is in {kept}.{_REPORT}"
    whose = "This is probably a fault of mlm-recipes, not yours."
    if lost_another(error):
        whose = "Another process of this run has probably failed before; its own error says why."
        where = where.replace(_REPORT, "")
    return f"{said}. {whose} {where}"


def lost_another(error: BaseException | None) -> bool:
    """Tell whether an error, or what it came from, is only that another process cannot be reached: torch's, or gloo's.

    >>> lost_another(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    True
    """
    if error is None:
        return False
    named = type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError")
    said = str(error) if isinstance(error, RuntimeError) else ""
    here = named or "Connection closed by peer" in said or "gloo/" in said
    return here or lost_another(error.__cause__ or error.__context__)


def _text(error: BaseException, arguments: Sequence[str]) -> str:
    lines = [
        f"mlm-recipes {__version__}, Python {platform.python_version()}, {platform.platform()}",
        "versions: " + ", ".join(f"{name} {found}" for name, found in _versions().items()),
        f"process: rank {os.environ.get('RANK', '0')} of {os.environ.get('WORLD_SIZE', '1')}",
        f"command: {shell('mlm-recipes', *_without_secrets(arguments))}",
        "",
        "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    ]
    return without_credentials("\n".join(lines))


def _versions() -> dict[str, str]:
    """Return the versions of the packages that were imported when the error happened."""
    names = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy")
    return {name: str(getattr(sys.modules[name], "__version__", "?")) for name in names if name in sys.modules}


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    """Return a command line without the values of flags that are secret.

    >>> _without_secrets(["train", "--hub_token", "hf_abc", "--hub-token=hf_abc"])
    ['train', '--hub_token', '***', '--hub-token=***']
    """
    found: list[str] = []
    for word in arguments:
        if found and found[-1] in _SECRET:
            word = HIDDEN
        found.append(f"{word.split('=')[0]}={HIDDEN}" if word.split("=")[0] in _SECRET and "=" in word else word)
    return found


def _write(folder: Path, text: str) -> Path:
    rank = os.environ.get("RANK")
    stem = f"error-{time.strftime('%Y%m%d-%H%M%S')}" + ("" if rank is None else f"-rank{rank}")
    for number in range(1, 1000):
        path = folder / (f"{stem}.txt" if number == 1 else f"{stem}-{number}.txt")
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:  # fails if it exists
                file.write(text)
            return path
        except FileExistsError:
            continue
    raise OSError(f"{folder} is full of files named {stem}")
