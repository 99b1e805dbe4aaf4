"""What may not be written down: the credentials in an address."""

from __future__ import annotations

import re

#: What stands in their place.
HIDDEN = "***"

_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#]*@")
# Not only the ones called `token` or `sig`: nobody has a list of these names that is whole.
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s?#]*)[?#]\S*")


def without_credentials(text: str) -> str:
    """Return a text with user and password, the query and the fragment of every address in it left out.

    >>> without_credentials("fetching https://me:secret@example.org/a.txt?sig=abc broke off")
    'fetching https://***@example.org/a.txt?*** broke off'
    >>> without_credentials("https://example.org/a.txt"), without_credentials("what? notes/*.txt")
    ('https://example.org/a.txt', 'what? notes/*.txt')
    """
    return _QUERY.sub(rf"\1?{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def are_left_out(address: str) -> bool:
    """Tell whether an address is one whose credentials were left out.

    >>> are_left_out("https://example.org/a.txt?***"), are_left_out("https://example.org/a.txt?page=1")
    (True, False)
    """
    return f"://{HIDDEN}@" in address or address.endswith(f"?{HIDDEN}")
