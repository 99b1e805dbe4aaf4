"""The rows of a prepared corpus, mapped into memory: opening them takes no time, however many there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..masking.random_keys import Ints
from .id_limits import IdLimits
from .prepared_files import HELD_OUT
from .prepared_index import PreparedIndex


class PreparedRows(Dataset):
    """Rows of token ids that `mlm-recipes prepare` wrote: a `datasets.Dataset`, and its `index`.

    What is to be known of all rows (what identifies them, the longest, how often each token occurs) is in the index,
    and the rows are not read for it. A selection or another change of these rows is a plain Dataset.
    """

    index: PreparedIndex

    @classmethod
    def open(cls, folder: Path, index: PreparedIndex) -> PreparedRows:
        """Map the shards of a folder into memory. Raises: ValueError if there are no rows."""
        if not index.total("rows"):
            raise ValueError(
                f"corpus: {str(folder)!r} has no rows: each paragraph of its text is held out. Accepted: a text with "
                "at least one that is not. Prepare a longer text, or with a lower --validation_fraction."
            )
        whole = concatenate_datasets([Dataset.from_file(str(folder / shard["file"])) for shard in index.shards])
        rows = cls(whole.data, info=whole.info, split=whole.split, fingerprint=index.fingerprint)
        rows.index = index
        return rows

    def identity(self, limits: IdLimits) -> str:
        """Return what identifies the rows in the resume contract; the model's `limits` are held against the index.

        Raises: ValueError for rows that are longer, or have a higher id, than the model takes.
        """
        highest = len(self.index.token_counts) - 1
        if self.index.longest > limits.positions or highest >= limits.ids:
            raise ValueError(
                f"{limits.rows}: the prepared rows have up to {self.index.longest} tokens and ids up to {highest}. "
                f"Accepted: at most {limits.positions} tokens, the model's positions, and ids up to {limits.ids - 1}. "
                "Prepare the corpus for this model: mlm-recipes prepare CORPUS --model NAME."
            )
        return f"{len(self)} rows, prepared, {self.index.fingerprint}"

    def counts(self, size: int) -> Ints:
        """Return how often each id of a model occurs, without special tokens, shape `(size,)`."""
        found = self.index.token_counts
        return np.pad(found, (0, max(0, size - len(found))))


def held_out_text(folder: Path) -> Dataset:
    """Return the held-out paragraphs of a prepared corpus, with `text` and `example_id`."""
    return Dataset.from_file(str(folder / HELD_OUT))
