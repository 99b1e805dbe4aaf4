"""Removes credentials from URLs, so that they are never printed or saved."""

from __future__ import annotations

import re

#: Replaces removed credentials.
HIDDEN = "***"

_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#]*@")
# The whole query, not only `token` or `sig`: no list of such names is complete.
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?#]*)[?#]\S*")

_NO_QUERY = re.compile(rf"\?{re.escape(HIDDEN)}( \(\d+\))?\Z")


def without_credentials(text: str) -> str:
    """Return a text without the user, password, query and fragment of every URL in it.

    >>> without_credentials("fetching https://me:secret@example.org/a.txt?sig=abc broke off")
    'fetching https://***@example.org/a.txt?*** broke off'
    >>> without_credentials("https://example.org/a.txt"), without_credentials("what? notes/*.txt")
    ('https://example.org/a.txt', 'what? notes/*.txt')
    """
    return _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def are_left_out(address: str) -> bool:
    """Tell whether credentials were removed from a URL.

    >>> are_left_out("https://example.org/a.txt?***"), are_left_out("https://example.org/a.txt?page=1")
    (True, False)
    >>> are_left_out("https://example.org/a.txt?*** (2)")  # in a recipe, the second that differs only in its query
    True
    """
    return f"://{HIDDEN}@" in address or _NO_QUERY.search(address) is not None
