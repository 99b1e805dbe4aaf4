from __future__ import annotations

import pytest
from datasets import Dataset

from mlm_recipes.data.all_ids import count_ids, fingerprint
from mlm_recipes.data.rows import NumberedRows


@pytest.mark.parametrize("make", [list, Dataset.from_list, NumberedRows])
def test_the_fingerprint_depends_on_ids_lengths_and_order(make):
    rows = [{"input_ids": [101, i, 102], "example_id": i} for i in range(5)]
    same = fingerprint(make(rows))
    assert same == fingerprint(make([dict(row) for row in rows]))
    changed = [dict(row) for row in rows]
    changed[3]["input_ids"] = [101, 99, 102]
    joined = [dict(row) for row in rows]
    joined[0]["input_ids"], joined[1]["input_ids"] = [101, 0], [102, 101, 1, 102]
    marked = [row | {"special_tokens_mask": [1, 1, 1]} for row in rows]
    for other in (changed, joined, marked, rows[:4], rows[::-1]):
        assert fingerprint(make(other)) != same


@pytest.mark.parametrize("make", [list, Dataset.from_list])
def test_the_fingerprint_depends_on_the_shares_that_rows_bring(make):
    rows = [{"input_ids": [101, i, 102], "example_id": i} for i in range(3)]
    shared = [row | {"mlm_probability": 0.3} for row in rows]
    other = [*shared[:2], shared[2] | {"mlm_probability": 0.31}]
    found = [fingerprint(make(each)) for each in (rows, shared, other)]
    assert len(set(found)) == 3
    assert found[1] == fingerprint(shared)


def test_the_fingerprint_of_a_selection_is_that_of_its_rows():
    rows = Dataset.from_list([{"input_ids": [101, i, 102], "example_id": i} for i in range(5)])
    assert fingerprint(rows.select([2, 0])) == fingerprint(Dataset.from_list([rows[2], rows[0]]))


def test_a_costly_sequence_is_sampled():
    class Costly(list):
        reads = 0

        def __getitem__(self, index):
            Costly.reads += 1
            return super().__getitem__(index)

    rows = NumberedRows(Costly({"input_ids": [1]} for _ in range(5000)))
    view = type("View", (), {"__len__": lambda self: 5000, "__getitem__": lambda self, i: rows[i]})()
    fingerprint(view)
    assert Costly.reads <= 1000


@pytest.mark.parametrize("make", [list, Dataset.from_list, NumberedRows])
def test_every_id_is_counted_but_special_tokens(make):
    rows = [{"input_ids": [1, 3, 3, 2], "special_tokens_mask": [1, 0, 0, 1]}] * 3
    assert count_ids(make(rows), size=5).tolist() == [0, 0, 0, 6, 0]
    assert count_ids(make([{"input_ids": row["input_ids"]} for row in rows]), size=5).tolist() == [0, 3, 3, 6, 0]
    with pytest.raises(ValueError, match=r"row 0 has the id 3\. Accepted: 0 to 2"):
        count_ids(make(rows), size=3)
