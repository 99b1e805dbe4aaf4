"""Numbers as people write and read them: 110M, 2B, 1.7T."""

from __future__ import annotations

import re

_LETTERS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def parse_quantity(text: str, name: str) -> float:
    """Return the number that `text` writes, with k, M, B (or G) or T for thousands, millions, billions or trillions.

    Raises: ValueError, naming the option `name`, for anything else and for what is not above zero.

    >>> [parse_quantity(text, "tokens") for text in ("110M", "1.7T", "2e9", "4_096")]
    [110000000.0, 1700000000000.0, 2000000000.0, 4096.0]
    """
    found = re.fullmatch(r"([\d_,]*\.?\d+(?:e[+-]?\d+)?)\s*([kmbgt]?)", text.strip().lower())
    number = float(re.sub("[_,]", "", found[1])) * _LETTERS[found[2]] if found else 0.0
    if not 0 < number < float("inf"):
        raise ValueError(
            f"{name}: received {text!r}. Accepted: a number above zero, with k, M, B or T for thousands, millions, "
            "billions or trillions, such as 110M or 2B. Write it like one of these."
        )
    return number


def shown_quantity(number: float) -> str:
    """Return a number in the letters that `parse_quantity` reads, with three digits.

    >>> [shown_quantity(number) for number in (110e6, 1.719e12, 4096, 12, 999_999)]
    ['110M', '1.72T', '4.1k', '12', '1M']
    """
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
