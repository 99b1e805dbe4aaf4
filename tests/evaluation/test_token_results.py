from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_model
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from same_run import assert_close, loss_bound

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.evaluation.forward_passes import evaluate_examples
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.positions import first_position


def results(model, rows, collate, batch_size=3, **more):
    return TokenResults.of([evaluate_tokens(model, rows, collate, batch_size, **more)])


def the_same(a, b, model):
    for name in ("row", "position", "token"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert_close(a.nats, b.nats, loss_bound(model))
    assert np.abs(a.rank - b.rank).max() <= 1  # two words may be equally likely, except for rounding


def by_hand(model, rows, collate):
    """One token at a time, from the logits of its row without a batch."""
    found = []
    for index, row in enumerate(rows):
        batch = collate([row])
        with torch.no_grad():
            logits = model.eval()(batch["input_ids"]).logits[0]  # (seq_len, vocab)
        for position, token in enumerate(batch["labels"][0].tolist()):
            if token != -100:
                probabilities = logits[position].log_softmax(-1)
                better = sum(p > probabilities[token] for p in probabilities.tolist())
                found.append([index, position, token, -probabilities[token].item(), better])
    return TokenResults.of([np.array(found)])


def test_each_tokens_result_equals_that_of_a_plain_loop(tiny_bert, frozen, numbered):
    expected = by_hand(tiny_bert, numbered, frozen)
    assert len(expected) >= len(numbered)  # at least one of each
    for size in (1, 3, 8):
        the_same(results(tiny_bert, numbered, frozen, size), expected, tiny_bert)
    the_same(results(tiny_bert, Dataset.from_list(numbered), frozen), expected, tiny_bert)
    the_same(results(tiny_bert, numbered, frozen, sparse=True), expected, tiny_bert)
    for row, position, token in zip(expected.row, expected.position, expected.token, strict=True):
        assert numbered[row]["input_ids"][position] == token


# Only if positions are counted from the first real token, since padding on the left shifts BERT's positions.
@pytest.mark.parametrize(
    ("architecture", "side"), [("bert", "right"), ("roberta", "right"), ("roberta", "left"), ("modernbert", "left")]
)
def test_joined_and_padded_rows_give_the_same_results(tokenizer, numbered, architecture, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    model = make_model(architecture, tokenizer)
    collate = DataCollatorForMaskedLM(tokenizer).frozen(seed=0)
    padded = results(model, numbered, collate)
    assert use_padding_free(model) is None
    joined = replace(collate, padding_free=True, position_ids_start=first_position(model))
    the_same(results(model, numbered, joined, sparse=True), padded, model)
    places = zip(padded.row.tolist(), padded.position.tolist(), strict=True)
    assert [numbered[row]["input_ids"][position] for row, position in places] == padded.token.tolist()


@given(order=st.permutations(range(8)), size=st.integers(1, 9), processes=st.integers(1, 4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_do_not_depend_on_order_batch_or_processes(tiny_bert, frozen, numbered, order, size, processes):
    expected = results(tiny_bert, numbered, frozen)
    shuffled = [numbered[index] for index in order]
    parts = [
        evaluate_tokens(tiny_bert, shuffled, frozen, size, process=process, processes=processes)
        for process in range(processes)
    ]
    found = TokenResults.of(reversed(parts))
    place = np.argsort(order)  # the new place of each row
    back = np.concatenate([np.flatnonzero(found.row == place[index]) for index in range(8)])
    the_same(replace(found.where(back), row=expected.row), expected, tiny_bert)


def test_every_process_has_the_same_number_of_passes(tiny_bert, frozen, numbered):
    """A model that is sharded over the processes would wait forever for a process without rows."""
    passes = []
    tiny_bert.register_forward_hook(lambda *_: passes.append(1))
    counts = []
    for process in range(3):
        passes.clear()
        evaluate_tokens(tiny_bert, numbered, frozen, 2, sparse=True, process=process, processes=3)  # four batches
        counts.append(len(passes))
    assert counts == [2, 2, 2]


def test_draws_differ_and_the_first_equals_an_evaluation_during_training(tiny_bert, tokenizer, numbered):
    collate = DataCollatorForMaskedLM(tokenizer)
    draws = [results(tiny_bert, numbered, collate.frozen(3, draw)) for draw in range(3)]
    masked = [set(zip(draw.row.tolist(), draw.position.tolist(), strict=True)) for draw in draws]
    assert masked[0] != masked[1] != masked[2] != masked[0]
    again = results(tiny_bert, numbered[::-1], collate.frozen(3, 1))
    assert {(7 - row, position) for row, position in zip(again.row, again.position, strict=True)} == masked[1]
    sums = evaluate_examples(tiny_bert, [collate.frozen(3)(numbered)], gather=lambda rows: rows)
    assert_close(draws[0].sums(draws[0].row, 8)[:, [0, 1, 3]], sums, loss_bound(tiny_bert))


def test_a_groups_sums_equal_a_plain_count(tiny_bert, frozen, numbered):
    found = results(tiny_bert, numbered, frozen)
    for row, (nats, correct, top5, tokens) in enumerate(found.sums(found.row, 8)):
        mine = found.row == row
        assert nats == pytest.approx(found.nats[mine].sum())
        assert (correct, top5, tokens) == ((found.rank[mine] == 0).sum(), (found.rank[mine] < 5).sum(), mine.sum())


def test_equal_logits_rank_as_in_argmax(tiny_bert, frozen, numbered):
    """In half precision many logits are equal; with a tie, only one token is the first choice."""
    with torch.no_grad():
        for weight in tiny_bert.parameters():
            weight.zero_()  # all logits are 0
    found = results(tiny_bert, numbered, frozen)
    assert np.array_equal(found.rank, found.token)


def test_the_models_mode_is_unchanged(tiny_bert, frozen, numbered):
    for mode in (True, False):
        tiny_bert.train(mode)
        results(tiny_bert, numbered, frozen)
        assert tiny_bert.training is mode
