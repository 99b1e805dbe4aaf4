from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.masking.flat_tokens import FlatTokens
from mlm_recipes.masking.policy_table import POLICIES
from mlm_recipes.masking.random_keys import sequence_keys

every = pytest.mark.parametrize("name", sorted(POLICIES))


def batch_of(lengths, ids=None):
    """Return sequences of some lengths; each begins and ends with a special token, and a word has three tokens."""
    total = sum(lengths)
    ends = np.cumsum(lengths)
    maskable = np.full(total, True)
    maskable[ends - 1] = maskable[ends - np.array(lengths)] = False
    place = np.arange(total) - np.repeat(ends - np.array(lengths), lengths)
    keys = sequence_keys(0, 0, range(len(lengths)) if ids is None else ids)
    tokens = np.where(maskable, 200 + place % 50, 101)
    return FlatTokens(tokens, maskable, keys, np.array(lengths), words=(place + 2) // 3, weights=np.ones(300), ngram=4)


@every
@given(st.lists(st.integers(2, 60), min_size=1, max_size=8), st.floats(0.01, 1.0), st.booleans())
def test_no_special_token_is_chosen(name, lengths, share, at_least_one):
    tokens = batch_of(lengths)
    chosen = POLICIES[name].choose(tokens, np.full(len(lengths), share), at_least_one)
    assert chosen.dtype == np.bool_
    assert chosen.shape == tokens.maskable.shape
    assert not chosen[~tokens.maskable].any()


@every
@given(st.lists(st.integers(2, 60), min_size=1, max_size=8), st.floats(0.01, 1.0), st.booleans(), st.data())
def test_a_sequences_masks_do_not_depend_on_its_batch(name, lengths, share, at_least_one, data):
    one = data.draw(st.integers(0, len(lengths) - 1))
    together = POLICIES[name].choose(batch_of(lengths), np.full(len(lengths), share), at_least_one)
    alone = POLICIES[name].choose(batch_of([lengths[one]], [one]), np.array([share]), at_least_one)
    assert (np.split(together, np.cumsum(lengths)[:-1])[one] == alone).all()


@every
@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
def test_the_share_is_the_one_asked_for(name, share):
    tokens = batch_of([128] * 2000)
    chosen = POLICIES[name].choose(tokens, np.full(2000, share), False)
    # Neighbours may be chosen together; the bound is four standard deviations if these were independent in rows of 16.
    tolerance = 4 * (share * (1 - share) / (tokens.maskable.sum() / 16)) ** 0.5
    assert abs(chosen[tokens.maskable].mean() - share) < tolerance


@every
@pytest.mark.parametrize("share", [0.15, 0.5])
@pytest.mark.parametrize("length", [3, 6, 20])
def test_each_place_of_a_short_row_has_its_share(name, share, length):
    rows = 20_000
    chosen = POLICIES[name].choose(batch_of([length] * rows), np.full(rows, share), False).reshape(rows, length)
    # Rows are independent; four and a half standard deviations, since there are hundreds of places.
    assert (abs(chosen[:, 1:-1].mean(0) - share) < 4.5 * (share * (1 - share) / rows) ** 0.5).all()


@every
def test_at_least_one_token_of_every_sequence_is_chosen_if_asked(name):
    tokens = batch_of([5] * 500)
    chosen = POLICIES[name].choose(tokens, np.full(500, 1e-9), True)
    assert (np.add.reduceat(chosen, np.arange(0, 2500, 5)) >= 1).all()


@pytest.fixture(scope="module")
def rows(corpus, tokenizer):
    texts = corpus["train"]["text"][:48]
    return [{"input_ids": ids, "example_id": i, "epoch": 3} for i, ids in enumerate(tokenizer(texts)["input_ids"])]


def values(name, tokenizer):
    found = {"masking_policy": name, "mask_replace_prob": 0.5, "random_replace_prob": 0.3, "seed": 4}
    return found | ({"token_weights": np.linspace(1, 3, len(tokenizer))} if POLICIES[name].weights else {})


@every
def test_a_row_is_masked_the_same_joined_padded_alone_and_in_a_worker(name, rows, tokenizer):
    collate = DataCollatorForMaskedLM(tokenizer, **values(name, tokenizer))
    padded, joined = collate(rows), collate.changed(padding_free=True)(rows)
    starts = joined["cu_seq_lens_q"].tolist()
    other_order = [rows[i] for i in range(len(rows) - 1, -1, -1)]
    loader = torch.utils.data.DataLoader(other_order, batch_size=5, num_workers=1, collate_fn=collate)
    in_workers = {}
    for batch in loader:
        for ids, labels, attended in zip(
            *(batch[each] for each in ("input_ids", "labels", "attention_mask")), strict=True
        ):
            in_workers[len(in_workers)] = ids[attended.bool()].tolist(), labels[attended.bool()].tolist()
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        expected = padded["input_ids"][i, :length].tolist(), padded["labels"][i, :length].tolist()
        part = slice(starts[i], starts[i + 1])
        assert (joined["input_ids"][0, part].tolist(), joined["labels"][0, part].tolist()) == expected
        alone = collate([row])
        assert (alone["input_ids"][0].tolist(), alone["labels"][0].tolist()) == expected
        assert in_workers[len(rows) - 1 - i] == expected


@every
def test_what_replaces_a_chosen_token_is_in_the_proportions_asked_for(name, rows, tokenizer):
    ids = [row | {"example_id": i, "epoch": epoch} for epoch in range(8) for i, row in enumerate(rows)]
    batch = DataCollatorForMaskedLM(tokenizer, **values(name, tokenizer))(ids)
    chosen = batch["labels"] != -100
    seen, label = batch["input_ids"][chosen], batch["labels"][chosen]
    # A run of at most a dozen pieces is decided on at once.
    tolerance = 4 * (0.25 / (len(label) / 12)) ** 0.5
    assert abs((seen == tokenizer.mask_token_id).float().mean() - 0.5) < tolerance
    assert abs((seen == label).float().mean() - 0.2) < tolerance  # and a random token that happens to be the same
    assert not torch.isin(label, torch.tensor(tokenizer.all_special_ids)).any()
    assert (
        batch["input_ids"][~chosen]
        == DataCollatorForMaskedLM(tokenizer, **values(name, tokenizer) | {"mlm_probability": 1e-12})(ids)["input_ids"][
            ~chosen
        ]
    ).all()


@every
def test_evaluation_masks_the_same_tokens_whatever_training_does(name, rows, tokenizer):
    found, plain = (
        DataCollatorForMaskedLM(tokenizer, **values(each, tokenizer)).frozen(7)(rows) for each in (name, "token")
    )
    assert found["labels"].tolist() == plain["labels"].tolist()
    assert found["input_ids"].tolist() == plain["input_ids"].tolist()
