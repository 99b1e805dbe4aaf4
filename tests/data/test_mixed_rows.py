"""Rows of other texts among those that are trained on: which, how many, when, and with which masks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes import DataCollatorForMaskedLM, mix_rows
from mlm_recipes.data.mixed_rows import IDS_OF_A_TEXT, MixedOrder, Part
from mlm_recipes.data.rows_of_epoch import RowsOfEpoch
from mlm_recipes.data.windows import window_ids


def rows_of(lengths, first_id=0):
    return Dataset.from_dict(
        {
            "input_ids": [[101, *[200 + i] * (n - 2), 102] for i, n in enumerate(lengths)],
            "special_tokens_mask": [[1, *[0] * (n - 2), 1] for n in lengths],
            "example_id": [first_id + i for i in range(len(lengths))],
        }
    )


def orders(own, sizes, seed, shuffled):
    parts, first = [], own
    for rows, rows_per_epoch in sizes:
        parts.append(Part(f"text {first}", 0.1, first, rows, 10 * rows, rows_per_epoch))
        first += rows
    return MixedOrder(own, parts, seed, shuffled), parts


@given(
    own=st.integers(1, 30),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 40)), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    shuffled=st.booleans(),
    epochs=st.integers(1, 4),
)
def test_an_epoch_has_all_rows_of_the_text_and_the_others_in_turn(own, sizes, seed, shuffled, epochs):
    order, parts = orders(own, sizes, seed, shuffled)
    seen = Counter()
    for epoch in range(epochs):
        pairs = order((epoch, place) for place in range(len(order)))
        assert sorted(pair for pair in pairs if pair[1] < own) == [(epoch, row) for row in range(own)]
        assert [row for _, row in pairs] == order.rows(epoch).tolist()
        for part in parts:
            here = [pair for pair in pairs if part.first <= pair[1] < part.first + part.rows]
            assert len(here) == part.rows_per_epoch
            seen.update(here)
    assert max(seen.values()) == 1, "a row has the same masks twice"
    for part in parts:
        times = Counter(row for _, row in seen if part.first <= row < part.first + part.rows)
        read = [times[row] for row in range(part.first, part.first + part.rows)]
        assert sum(read) == epochs * part.rows_per_epoch
        assert max(read) - min(read) <= 1, "a row was read again before others were read"


def test_the_order_is_a_function_of_seed_and_epoch_in_any_order_of_asking():
    def rows(seed, epoch, order=None):
        order = order or orders(3, [(50, 50), (50, 20)], seed, shuffled=True)[0]
        return tuple(order.rows(epoch).tolist())

    found = {(seed, epoch): rows(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(set(found.values())) == 9
    assert found[0, 0][3:53] != found[0, 1][3:53], "each reading has the same order"
    same = orders(3, [(50, 50), (50, 20)], 1, shuffled=True)[0]
    assert [rows(1, epoch, same) for epoch in (2, 0, 1, 2)] == [found[1, epoch] for epoch in (2, 0, 1, 2)]
    a, b = np.array(found[0, 0][3:53]) - 3, np.array(orders(3, [(50, 50), (50, 50)], 0, True)[0].rows(0)[53:]) - 53
    assert (a != b).any(), "two texts are read in the same order"


def test_a_sequential_order_spreads_the_texts_evenly():
    """Of any 20 places in a row, as many are of each text as their share, but for one at each end."""
    order, _ = orders(70, [(9, 20), (50, 10)], seed=0, shuffled=False)
    rows = order.rows(0)
    assert [row for row in rows if row < 70] == list(range(70))
    assert [row for row in rows if 70 <= row < 79] == [70 + i % 9 for i in range(20)]
    for first in range(81):
        window = rows[first : first + 20]
        assert abs((window < 70).sum() - 14) <= 2
        assert abs(((window >= 70) & (window < 79)).sum() - 4) <= 1


@pytest.mark.slow
@given(
    own=st.lists(st.integers(3, 60), min_size=1, max_size=40),
    others=st.lists(
        st.tuples(st.lists(st.integers(3, 60), min_size=1, max_size=10), st.floats(0.01, 0.3)), min_size=1, max_size=3
    ),
)
def test_the_share_is_of_the_tokens_to_half_a_row(own, others):
    mixed = mix_rows(rows_of(own), {str(i): (rows_of(lengths), share) for i, (lengths, share) in enumerate(others)})
    total = sum(own) / (1 - sum(share for _, share in others))
    for part, (lengths, share) in zip(mixed.parts, others, strict=True):
        mean = sum(lengths) / len(lengths)
        missed = abs(part.rows_per_epoch * mean - share * total)
        assert missed <= mean / 2 * (1 + 1e-9) or part.rows_per_epoch == 1
    whole = sum(own) + sum(part.rows_per_epoch * part.tokens / part.rows for part in mixed.parts)
    assert sum(mixed.share(part) for part in mixed.parts) == pytest.approx(1 - sum(own) / whole)
    assert len(mixed) == len(own) + sum(part.rows_per_epoch for part in mixed.parts)


def test_a_row_that_is_read_twice_has_other_masks_and_other_texts_have_other_ids(tokenizer):
    """Without ids of its own, the first row of each text would be masked at the same positions."""
    mixed = mix_rows(rows_of([40] * 6), {"a": (rows_of([40] * 2), 0.4), "b": (rows_of([40] * 2), 0.2)})
    ids = mixed.rows["example_id"][:]
    assert ids == [*range(6), IDS_OF_A_TEXT, IDS_OF_A_TEXT + 1, 2 * IDS_OF_A_TEXT, 2 * IDS_OF_A_TEXT + 1]
    order = mixed.order(seed=0, shuffled=True)
    keyed = RowsOfEpoch(mixed.rows, order=order)
    assert len(keyed) == len(mixed) == len(order) == 15
    batch = keyed.__getitems__([*range(15), -1, *range(15, 30)])
    assert batch[15] is None
    assert [row["epoch"] for row in batch[6:12]] == [0, 0, 1, 1, 2, 2]
    assert [row["epoch"] for row in batch[22:28]] == [3, 3, 4, 4, 5, 5]
    masked = DataCollatorForMaskedLM(tokenizer, mlm_probability=0.3, seed=1)([row for row in batch if row is not None])
    positions = {tuple((labels != -100).nonzero().flatten().tolist()) for labels in masked["labels"]}
    assert len(positions) == 30


def test_rows_of_long_paragraphs_keep_their_windows():
    long = rows_of([9, 9, 9]).remove_columns("example_id").add_column("example_id", window_ids(7, 3))
    ids = mix_rows(rows_of([9] * 9), {"a": (long, 0.5)}).rows["example_id"][9:]
    assert ids == window_ids(IDS_OF_A_TEXT + 7, 3)


def test_a_sequence_of_an_epochs_rows():
    mixed = mix_rows(rows_of([5] * 8), {"a": (rows_of([5, 5]), 0.2)})
    assert len(mixed) == 10 == len(list(mixed))
    assert {row["example_id"] for row in mixed} == {*range(8), IDS_OF_A_TEXT, IDS_OF_A_TEXT + 1}
    assert mixed[-1] == mixed[9]
    with pytest.raises(IndexError):
        mixed[10]


def test_a_few_rows_are_the_same_mixture():
    mixed = mix_rows(rows_of([5] * 90), {"a": (rows_of([5] * 40), 0.1)}).few(9)
    assert (mixed.own, mixed.own_tokens, len(mixed), len(mixed.rows)) == (9, 45, 10, 18)
    assert mixed.rows["example_id"][:] == [*range(9), *range(IDS_OF_A_TEXT, IDS_OF_A_TEXT + 9)]
    assert mixed.share(mixed.parts[0]) == pytest.approx(0.1)


def test_rows_of_other_types_are_cast_and_columns_that_no_batch_needs_are_left_out():
    narrow = Features(
        input_ids=List(Value("int32")), special_tokens_mask=List(Value("int8")), example_id=Value("int64")
    )
    other = rows_of([5, 6]).cast(narrow).add_column("cut_off", [0, 0])
    mixed = mix_rows(rows_of([5] * 8), {"a": (other, 0.2)})
    assert mixed.rows.column_names == ["input_ids", "special_tokens_mask", "example_id"]
    assert mixed.rows[9]["input_ids"] == other[1]["input_ids"]


@pytest.mark.parametrize(
    ("rows", "others", "says"),
    [
        (rows_of([5]), {}, "mix: received no text. Accepted: shares"),
        (rows_of([5]), {"a": (rows_of([5]), 0)}, "mix: received 0 for 'a'. Accepted: a share of the training tokens"),
        (rows_of([5]), {"a": (rows_of([5]), 1.0)}, "mix: received 1 for 'a'"),
        (rows_of([5]), {"a": (rows_of([5]), float("nan"))}, "mix: received nan for 'a'"),
        (rows_of([5]), {"a": (rows_of([5]), 0.4), "b": (rows_of([5]), 0.6)}, r"mix: received 0.4 \+ 0.6. Accepted"),
        (rows_of([5]), {"a": ([[5, 6]], 0.1)}, "mix: received list as 'a'. Accepted: a datasets.Dataset"),
        ([[5, 6]], {"a": (rows_of([5]), 0.1)}, "mix: received list as 'rows'"),
        (rows_of([5]), {"a": (rows_of([]), 0.1)}, "mix: received 0 rows with input_ids"),
        (
            rows_of([5]), {"a": (Dataset.from_dict({"text": ["to be"]}), 0.1)},
            "mix: received 1 rows with text as 'a'. .* tokenize",
        ),
        (
            rows_of([5]).add_column("labels", [[5] * 5]), {"a": (rows_of([5]), 0.1)},
            "mix: 'a' has the columns example_id, input_ids, special_tokens_mask, and the rows to mix it into have",
        ),
        (rows_of([5], first_id=IDS_OF_A_TEXT), {"a": (rows_of([5]), 0.1)}, "example_id: received 4294967296 in 'rows'"),
        (rows_of([5]), {"a": (rows_of([5], first_id=IDS_OF_A_TEXT), 0.1)}, "example_id: received 4294967296 in 'a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_refused(rows, others, says):
    with pytest.raises(ValueError, match=says):
        mix_rows(rows, others)
