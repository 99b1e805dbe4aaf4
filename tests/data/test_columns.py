from __future__ import annotations

import numpy as np
from datasets import Dataset

from mlm_recipes.data.columns import column, flat_column


def test_a_selection_has_only_its_own_rows():
    rows = Dataset.from_dict({"n": list(range(10)), "ids": [[i] * i for i in range(10)]})
    assert column(rows.select([7, 2]), "n").tolist() == [7, 2]
    assert column(rows.select([]), "n").tolist() == []
    parts = list(flat_column(rows.select([3, 1, 2]), "ids", batch_size=2))
    assert [part.tolist() for part in parts] == [[3, 3, 3, 1], [2, 2]]
    assert column(rows, "n").dtype == np.int64
