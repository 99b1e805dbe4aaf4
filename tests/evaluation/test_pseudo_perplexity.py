from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from same_run import loss_bound

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.evaluation.pseudo_perplexity import mask_alone
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.masking.vocabulary import special_token_ids


@pytest.fixture
def data(rows):
    return Dataset.from_list(
        [
            row | {"example_id": 10 + i, "special_tokens_mask": [1, *[0] * (len(row["input_ids"]) - 2), 1]}
            for i, row in enumerate(rows)
        ]
    )


def naive_loss(model, rows, chosen=None):
    """The definition: each token in turn is masked in a copy of its row."""
    nats = []
    for index, row in enumerate(rows):
        for position in range(1, len(row["input_ids"]) - 1):
            if chosen is not None and (index, position) not in chosen:
                continue
            ids = torch.tensor([row["input_ids"]])
            token = ids[0, position].item()
            ids[0, position] = 103
            with torch.no_grad():
                nats.append(-model.eval()(ids).logits[0, position].log_softmax(-1)[token].item())
    return np.mean(nats), len(nats)


def evaluated(model, alone, tokenizer):
    collate = DataCollatorForMaskedLM(tokenizer).frozen(seed=0)
    return TokenResults.of([evaluate_tokens(model, alone.rows, collate, batch_size=7)])


def test_a_short_text_equals_the_naive_loop_over_all_tokens(tiny_bert, tokenizer, data):
    alone = mask_alone(data, special_token_ids(tokenizer), seed=0, budget=10_000)
    found = evaluated(tiny_bert, alone, tokenizer)
    expected, tokens = naive_loss(tiny_bert, data)
    assert (alone.share, len(found)) == (1.0, tokens)
    assert found.nats.mean() == pytest.approx(expected, rel=loss_bound(tiny_bert))


def test_a_sample_equals_the_naive_loop_over_that_sample(tiny_bert, tokenizer, data, monkeypatch):
    monkeypatch.setattr("mlm_recipes.evaluation.pseudo_perplexity._FEWEST", 1)
    alone = mask_alone(data, special_token_ids(tokenizer), seed=4, budget=150)
    found = evaluated(tiny_bert, alone, tokenizer)
    chosen = set(zip(alone.of_row[found.row].tolist(), found.position.tolist(), strict=True))
    expected, tokens = naive_loss(tiny_bert, data, chosen)
    assert 1 < tokens == len(found) < 30
    assert found.nats.mean() == pytest.approx(expected, rel=loss_bound(tiny_bert))


def test_the_chosen_tokens_depend_on_seed_and_paragraph(tokenizer, data):
    special, budget = special_token_ids(tokenizer), 400

    def chosen(rows, seed=0):
        alone = mask_alone(rows, special, seed, budget)
        return {(row["example_id"], int(np.argmin(row["special_tokens_mask"]))) for row in alone.rows}

    assert chosen(data) == chosen(data.select(range(7, -1, -1)))
    assert chosen(data) != chosen(data, seed=1)


def test_the_budget_is_kept_and_the_share_reported(corpus, tokenizer):
    from mlm_recipes import tokenize

    rows = tokenize(corpus["train"], tokenizer, max_length=128)
    alone = mask_alone(rows, special_token_ids(tokenizer), seed=0, budget=40_000)
    assert sum(len(row["input_ids"]) for row in alone.rows) == pytest.approx(40_000, rel=0.2)
    maskable = sum(len(row["input_ids"]) - 2 for row in rows)
    assert len(alone.rows) / maskable == pytest.approx(alone.share, rel=0.2)
    assert len(np.unique(alone.of_row)) > 150  # from the whole text, not from a few paragraphs


def test_tokens_repeated_as_context_are_not_scored(tokenizer, data):
    marked = data.map(lambda row: {"special_tokens_mask": [1, 1, *row["special_tokens_mask"][2:]]})
    alone = mask_alone(marked, special_token_ids(tokenizer), seed=0, budget=10_000)
    assert len(alone.rows) == sum(len(row["input_ids"]) - 3 for row in data)


def test_a_row_as_long_as_the_budget_is_measured(tokenizer):
    rows = Dataset.from_dict(
        {"input_ids": [[101, *[200] * 600, 102]], "special_tokens_mask": [[1, *[0] * 600, 1]], "example_id": [0]}
    )
    assert 10 < len(mask_alone(rows, special_token_ids(tokenizer), seed=0, budget=100).rows) < 60
