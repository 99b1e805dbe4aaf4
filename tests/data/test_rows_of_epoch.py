from __future__ import annotations

from datasets import Dataset

from mlm_recipes.data.rows_of_epoch import AllBut, RowsOfEpoch


def test_rows_of_an_epoch_contain_it():
    rows = [{"input_ids": [101, i, 102], "example_id": 10 + i} for i in range(4)]
    for source in (rows, Dataset.from_list(rows)):
        keyed = RowsOfEpoch(source)
        assert len(keyed) == 4
        assert keyed[4 * 7 + 2] == {"input_ids": [101, 2, 102], "example_id": 12, "epoch": 7}
        found = keyed.__getitems__([5, -1, 3])
        assert found == [rows[1] | {"epoch": 1}, None, rows[3] | {"epoch": 0}]
        assert keyed.__getitems__([-1]) == [None]


def test_other_collators_get_rows_without_our_columns():
    rows = [{"input_ids": [101, 7, 102], "special_tokens_mask": [1, 0, 1], "example_id": 5, "cut_off": 0}]
    expected = {"input_ids": [101, 7, 102], "special_tokens_mask": [1, 0, 1]}
    assert RowsOfEpoch(rows, plain=AllBut("cut_off", "example_id", "epoch"))[0] == expected
    assert RowsOfEpoch(rows, plain=["input_ids", "special_tokens_mask"])[0] == expected
    assert RowsOfEpoch([[101, 7, 102]], plain=[])[0] == [101, 7, 102]
