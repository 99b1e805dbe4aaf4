"""Overlapping k-mers, by the steps that any fast tokenizer can save in its tokenizer.json."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, normalizers

#: The letters of nucleotides, with those for several possible ones (IUPAC).
_NUCLEOTIDES = set("ACGTUNRYSWKMBDHV")

#: With longer k-mers, most would occur once.
LONGEST = 12


def overlapping(letters: Iterable[str], k: int) -> normalizers.Normalizer:
    """Return a normaliser that writes a sequence as its k-mers, with spaces between them, as DNABERT reads them.

    A k-mer begins at every letter that has k - 1 letters after it (Ji et al. 2021,
    https://doi.org/10.1093/bioinformatics/btab083). A sequence shorter than k stays as it is. Case is ignored. A
    character that is no letter of `letters` ends a sequence.

    A rule of tokenizers replaces text by a fixed text, so a letter cannot be copied at once. One rule copies one of the
    letters to those places where it is the d-th after the k-mer's first: the originals are in lower case, their copies
    in upper case. There are (k - 1) rules for each letter, and the time grows with the length of the text.

    >>> overlapping("ACGT", 3).normalize_str("GATTACA ca\\nNGGGTN")
    'GAT ATT TTA TAC ACA CA\\nn GGG GGT n'
    """
    letters = sorted(letters)
    own, copy = f"[{''.join(letters).lower()}]", f"[{''.join(letters)}]"
    other = f"[^{''.join(letters).lower()}\\s]"
    steps: list[normalizers.Normalizer] = [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(f"(?<={own})(?={other})|(?<={other})(?={own})"), " "),
    ]
    for distance in range(1, k):
        for letter in letters:
            if distance == 1:  # only where the whole k-mer fits
                place = f"(?<={own})(?={letter.lower()}(?:{copy}?{own}){{{k - 2}}})"
            else:
                place = f"(?<={copy})(?=(?:{own}{copy}*){{{distance - 1}}}{letter.lower()})"
            steps.append(normalizers.Replace(Regex(place), letter))
    if k > 1:
        steps.append(normalizers.Replace(Regex(f"(?<={copy}){own}{{1,{k - 1}}}(?!{own}|{copy})"), ""))
        steps.append(normalizers.Replace(Regex(f"(?<={copy})(?={own})"), " "))
    else:
        steps.append(normalizers.Replace(Regex(f"(?<={own})(?={own})"), " "))
    return normalizers.Sequence([*steps, *(normalizers.Replace(letter.lower(), letter) for letter in letters)])


def letters_of(texts: Iterable[str]) -> str:
    """Return the letters of sequences, A to Z, in upper case.

    Raises: ValueError for texts without any.

    >>> letters_of(["gattaca", "AACN 12"])
    'ACGNT'
    """
    found = set().union(*(set(text) for text in texts)) & set(string.ascii_letters)
    if not found:
        raise ValueError(
            "tokenizer_type: received kmer, and the text has no letter from A to Z. Accepted: sequences such as DNA "
            "or proteins, one letter for each unit. Choose another type, such as --tokenizer_type character."
        )
    return "".join(sorted({letter.upper() for letter in found}))


def vocabulary_of(
    texts: Iterable[str], normalizer: normalizers.Normalizer, letters: str, k: int, size: int
) -> list[str]:
    """Return at most `size` k-mers: those of the texts, the most frequent first, then others of the same alphabet.

    Of DNA or RNA, all 4 ** k are in the vocabulary if they fit, as in DNABERT's, since held-out text has others than
    the training text.

    >>> vocabulary_of(["GATTA"], overlapping("AGT", 2), "AGT", 2, 20)[:5]
    ['AT', 'GA', 'TA', 'TT', 'AA']
    """
    counts = Counter(
        word for text in texts for word in normalizer.normalize_str(text).split() if set(word) <= set(letters)
    )
    found = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:size]
    bases = "ACGU" if "U" in letters and "T" not in letters else "ACGT"
    if set(letters) <= _NUCLEOTIDES:
        have = set(found)
        every = [word for word in map("".join, itertools.product(bases, repeat=k)) if word not in have]
        found += every if len(found) + len(every) <= size else []
    return found
