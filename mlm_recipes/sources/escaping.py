"""Escapes untrusted text for where it is shown: a terminal, Markdown, a shell command.

A corpus, a file name, a model's vocabulary or a recipe may contain anything. Jinja escapes HTML, and the YAML and JSON
writers escape their formats; this module covers the rest.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

from .names import unlike

T = TypeVar("T")

#: What a terminal acts on instead of showing it: C0 and C1 controls (ESC starts a command) and delete; characters that
#: change the direction of a line, so that it reads differently (https://trojansource.codes); line separators that do
#: not end a line in a file; invisible characters; and lone surrogates, which no file can hold.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)

#: Markdown syntax that works anywhere in a line (a code span, emphasis, a link, a table cell, a formula).
_OPENS = re.compile(r"([\\`*_\[\]|#~$])")

#: Markdown syntax that works at the beginning of a line (a list, a heading, a rule).
_BEGINS = re.compile(r"^(\d{1,9}(?=[.)](\s|$))|(?=(?:[-+]|-+|=+)(?:\s|$)))")


def terminal(text: str) -> str:
    r"""Return `text` with everything that a terminal would act on escaped; line feeds and tabs stay.

    >>> print(terminal("a\x1b[31mred\x1b[0m\rb"))
    a\x1b[31mred\x1b[0m\x0db
    """
    return _OBEYED.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""Return `text` as `terminal` does, in one line: any run of white space becomes one space.

    >>> one_line("two\r\n  lines\x07")
    'two lines\\x07'
    """
    return terminal(" ".join(text.split()))


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, without its full stop; its type if there is no message.

    >>> first_line(OSError("\nNo space left on device.\n"))
    'No space left on device'
    >>> first_line(KeyError())
    'KeyError'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(". ")


def whole_message(error: BaseException, *speaking: type[BaseException]) -> str:
    """Return an error's type and all of its message in one line; no type before the message of one of `speaking`.

    >>> whole_message(KeyError("gain")), whole_message(ValueError("Not a number."), ValueError)
    ("KeyError: 'gain'", 'Not a number')
    >>> whole_message(ValueError(), ValueError)
    'ValueError'
    """
    name, said = type(error).__name__, one_line(str(error)).rstrip(".")
    return said if said and isinstance(error, speaking) else f"{name}: {said}" if said else name


def markdown(value: Any) -> str:
    r"""Return a value as Markdown that shows it literally, in a paragraph, a heading, a list or a table cell.

    Not for code spans, inside which nothing can be escaped.

    >>> print(markdown("[a](javascript:b) <i> `c` | d\n# e"))
    \[a\](javascript:b) &lt;i&gt; \`c\` \| d \# e
    >>> print(markdown("1. http://example.org"), markdown(-0.25), markdown("- a"))
    1\. http&#58;//example.org -0.25 \- a
    """
    text = one_line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _OPENS.sub(r"\\\1", text)
    # GitHub and the hub turn bare URLs into links.
    text = text.replace("://", "&#58;//").replace("@", "&#64;")
    text = re.sub(r"(?i)\b(www)\.", r"\1&#46;", text)
    return _BEGINS.sub(r"\1\\", text)


def shell(*words: str) -> str:
    """Return words as a command line that this system's shell splits into the same words.

    >>> print(shell("fill", "The [MASK] of man."))
    fill 'The [MASK] of man.'
    """
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def in_all(values: T, escape: Callable[[str], str]) -> T:
    r"""Return plain data, as in JSON, with `escape` applied to every string in it, including keys.

    Nothing is lost: keys that become the same are numbered.

    >>> in_all({"top": [["a\x1b", 0.5]]}, one_line)
    {'top': [['a\\x1b', 0.5]]}
    >>> in_all({"a b": 1, "a\nb": 2}, one_line)
    {'a b': 1, 'a b (2)': 2}
    """
    return cast(T, _in_all(values, escape))


def _in_all(values: Any, escape: Callable[[str], str]) -> Any:
    if isinstance(values, str):
        return escape(values)
    if isinstance(values, dict):
        found: dict[Any, Any] = {}
        for key, value in values.items():
            found[unlike(_in_all(key, escape), found)] = _in_all(value, escape)
        return found
    if isinstance(values, list | tuple):
        return type(values)(_in_all(value, escape) for value in values)
    return values


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
