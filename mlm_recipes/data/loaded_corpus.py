"""`Corpus`: what `load_corpus` returns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from datasets import DatasetDict

from ..metrics_file import LoadedCorpus


class Corpus(DatasetDict):
    """A `DatasetDict` with `train` and `validation`, each with the columns `text` and `example_id`, and its `facts`.

    `facts` is plain data for metrics.json:

    - name, source and licence
    - how many paragraphs and words there are, and how many paragraphs are in `train` and `validation`
    - how many paragraphs are duplicates, and how many copies of held-out paragraphs are not measured again
    - a fingerprint of all text that was read
    - how much was dropped, cut or replaced while reading (`COUNTS`)
    - with a `validation_corpus`, the same for that

    They describe the text that was loaded, and are kept by `map`, `filter` and the other methods of DatasetDict.
    """

    facts: LoadedCorpus


#: The methods of DatasetDict that return another one, of the same text.
_SAME_TEXT = (
    *(
        "align_labels_with_mapping",
        "cast",
        "cast_column",
        "class_encode_column",
        "filter",
        "flatten",
        "flatten_indices",
    ),
    *("map", "remove_columns", "rename_column", "rename_columns", "select_columns", "shuffle", "sort", "with_format"),
    "with_transform",
)


def _keeping_facts(name: str) -> Callable[..., Any]:
    method = getattr(DatasetDict, name)

    @functools.wraps(method)
    def kept(self: Corpus, *args: Any, **kwargs: Any) -> Any:
        found = method(self, *args, **kwargs)
        if isinstance(found, DatasetDict) and hasattr(self, "facts"):
            found = Corpus(found)
            found.facts = self.facts
        return found

    return kept


for _name in _SAME_TEXT:
    setattr(Corpus, _name, _keeping_facts(_name))
