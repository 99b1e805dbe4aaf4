"""Reads a text file with one entry per line that the user wrote: words to add, or prompts."""

from __future__ import annotations

from pathlib import Path


def read_lines(given: str | Path, option: str, contents: str, advice: str) -> list[str]:
    """Return the lines of a file in UTF-8, without their ends.

    Args:
        given: the file; `~` is the home folder.
        option: the option that names the file, for messages.
        contents: what the file should be, for messages, such as "a text file with one word per line".
        advice: what to do if the file is not there, a whole sentence.

    Raises: FileNotFoundError if it is not a file; ValueError if it is not UTF-8.

    >>> read_lines("words.txt", "add_tokens", "a text file with one word per line", "Check the path.")
    Traceback (most recent call last):
    ...
    FileNotFoundError: add_tokens: 'words.txt' is not a file (looked in ...). Accepted: a text file with one word per \
line. Check the path.
    """
    path = Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"{option}: {str(path)!r} is not a file (looked in {Path.cwd()}). Accepted: {contents}. {advice}"
        )
    try:
        return path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{option}: {str(path)!r} is not UTF-8 ({error.reason} at byte {error.start}). Accepted: text in UTF-8. "
            "Save it in that encoding."
        ) from error
