from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from same_run import loss_bound

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer, tokenize
from mlm_recipes.evaluation.measured_text import MeasuredText, change, draws_for, gain
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.masking.vocabulary import special_token_ids

#: Which of sixty tokens are masked in draws 0 and 1.
GOLDEN = [[23, 47, 51, 52], [4, 6, 9, 14, 27, 43, 46, 52]]


def evaluate_with(model, tokenizer, batch_size=5):
    def evaluate(rows, draw):
        collator = DataCollatorForMaskedLM(tokenizer).frozen(0, draw)
        return TokenResults.of([evaluate_tokens(model, rows, collator, batch_size)])

    return evaluate


def text_of(rows, tokenizer, **changes):
    values = {"name": "notes", "seed": 0, "draws": 2, "budget": 1_500, "unit": "paragraphs"} | changes
    return MeasuredText.of(rows=rows, special_ids=special_token_ids(tokenizer), **values)


@pytest.fixture
def data(corpus, tokenizer):
    return tokenize(corpus["validation"].select(range(14)), tokenizer, max_length=64)  # some are split


@pytest.fixture
def models(tiny_bert, tokenizer):
    """A model before and after a change."""
    from conftest import make_bert

    after = make_bert(tokenizer)
    after.cls.predictions.bias.data[200:300] += 1.0
    return tiny_bert, after


def test_a_longer_text_has_fewer_draws():
    assert [draws_for(tokens, 5) for tokens in (1, 13_000, 14_000, 40_000, 10**9)] == [5, 5, 4, 1, 1]
    assert all(draws_for(tokens, 5) * 0.15 * tokens <= 10_000 for tokens in range(1_000, 60_000, 500))


def test_the_first_draw_equals_an_evaluation_during_training(models, data, tokenizer):
    text = text_of(data, tokenizer)
    found = text.measure(evaluate_with(models[0], tokenizer)).summary()
    trainer = MLMTrainer(models[0], args=MLMConfig(), eval_dataset=data, processing_class=tokenizer)
    evaluated = trainer.evaluate()
    names = ("loss", "accuracy", "perplexity", "masked_tokens")
    assert {name: found["first_draw"][name] for name in names} == pytest.approx(
        {name: evaluated[f"eval_{name}"] for name in names},
        rel=8 * loss_bound(models[0]),  # a perplexity's rounding depends on the loss, not on a share of it
    )
    assert found["masked_tokens"] > 1.5 * evaluated["eval_masked_tokens"]


def test_the_masks_of_each_draw_are_unchanged(tokenizer):
    """Draw 0 is the same as when it was the only one, so that figures of earlier runs can still be compared."""
    rows = [{"input_ids": [101, *range(200, 260), 102], "example_id": 5}]
    found = [
        np.flatnonzero(DataCollatorForMaskedLM(tokenizer).frozen(0, draw)(rows)["labels"][0] != -100).tolist()
        for draw in range(2)
    ]
    assert found == GOLDEN


def test_the_evaluation_seed_decides_which_tokens_are_masked_alone(data, tokenizer):
    one, other = (text_of(data, tokenizer, seed=seed).alone.of_row.tolist() for seed in (0, 1))
    assert one != other


def test_windows_of_a_paragraph_count_as_one_paragraph(models, data, tokenizer):
    text = text_of(data, tokenizer)
    assert len(data) > 14
    before, after = (text.measure(evaluate_with(model, tokenizer)) for model in models)
    assert change(before, after)["paragraphs"] == 14
    assert gain(before, after)["paragraphs"] == 14


def test_the_order_of_the_paragraphs_and_the_batch_size_change_nothing(models, corpus, tokenizer):
    def found(rows, batch_size):
        text = text_of(rows, tokenizer)
        before, after = (text.measure(evaluate_with(model, tokenizer, batch_size)) for model in models)
        return change(before, after)

    rows = corpus["validation"].select(range(14))
    data = tokenize(rows, tokenizer, max_length=24, long_text="truncate")
    one, other = found(data, 1), found(data.select(range(13, -1, -1)), 16)
    assert other["pseudo_perplexity_sample"] == one["pseudo_perplexity_sample"]
    for name, measure in one["measures"].items():
        assert other["measures"][name].pop("verdict") == measure.pop("verdict")
        assert other["measures"][name] == pytest.approx(measure, abs=1e-4, rel=1e-4), name


def test_the_change_is_measured_on_the_same_tokens(models, data, tokenizer):
    text = text_of(data, tokenizer)
    before, after = (text.measure(evaluate_with(model, tokenizer)) for model in models)
    found, gained = change(before, after), gain(before, after)
    assert set(found["measures"]) == {"loss", "perplexity", "pseudo_perplexity", "accuracy", "top5_accuracy"}
    loss = found["measures"]["loss"]
    assert (loss["before"], loss["after"]) == (before.summary()["loss"], after.summary()["loss"])
    assert gained["loss"] == pytest.approx(-loss["change"])
    assert (gained["low"], gained["high"]) == (-loss["high"], -loss["low"])
    pseudo = found["measures"]["pseudo_perplexity"]
    assert pseudo["before"] == pytest.approx(np.exp(before.alone.nats.mean()))
    assert pseudo["low"] <= pseudo["change"] <= pseudo["high"]
    assert found["masked_tokens"] == before.summary()["masked_tokens"]
    places = {(draw.row[i], draw.position[i]) for draw in before.draws for i in range(len(draw))}
    assert found["distinct_tokens"] == len(places) < found["masked_tokens"]


def test_packed_rows_are_not_called_paragraphs(models, data, tokenizer):
    text = text_of(data, tokenizer, unit="rows")
    measured = text.measure(evaluate_with(models[0], tokenizer))
    assert change(measured, measured)["unit"] == "rows"
    assert "rows" in gain(measured, measured)
    assert change(measured, measured)["measures"]["loss"]["verdict"] == "no measurable change"


def test_rows_that_are_equal_to_the_model_are_measured_once(models, corpus, tokenizer):
    """Whatever made them equal: here all that differs is cut off; or two documents end with the same window."""
    texts = [f"{text} {end}" for text in corpus["validation"]["text"][:12] for end in ("one", "two", "three")]
    rows = Dataset.from_dict({"text": texts})
    cut = tokenize(rows, tokenizer, max_length=16, long_text="truncate")
    text, once = text_of(cut, tokenizer), text_of(cut.select(range(0, 36, 3)), tokenizer)
    assert (text.repeated, once.repeated) == (24, 0)
    found, expected = (each.measure(evaluate_with(models[0], tokenizer)) for each in (text, once))
    assert found.summary() == expected.summary()
    assert found.sample()["repeated_rows"] == 24
    assert found.sample()["paragraphs"] == 12
    licence = "this text may be copied by all who read it . " * 3
    documents = Dataset.from_dict({"text": [f"{name} . {licence}" for name in ("reason", "nature", "reason itself")]})
    windows = tokenize(documents, tokenizer, max_length=14)
    repeated = len(windows) - len({tuple(ids) for ids in windows["input_ids"]})
    assert text_of(windows, tokenizer).repeated == repeated > 0


def test_rows_with_arbitrary_ids_are_measured(tokenizer, models):
    rows = Dataset.from_dict(
        {"input_ids": [[101, 200, 201, 102]], "special_tokens_mask": [[1, 0, 0, 1]], "example_id": [77]}
    )
    found = text_of(rows, tokenizer).measure(evaluate_with(models[0], tokenizer))
    assert found.sample()["paragraphs"] == 1
    assert found.sample()["pseudo_perplexity_sample"] == {"tokens": 2, "paragraphs": 1, "share": 1.0}


def test_the_fingerprint_identifies_the_masked_tokens(models, data, tokenizer):
    def fingerprint(rows=data, model=models[0], batch_size=5, seed=0, **changes):
        def evaluate(rows, draw):
            collator = DataCollatorForMaskedLM(tokenizer).frozen(seed, draw)
            return TokenResults.of([evaluate_tokens(model, rows, collator, batch_size)])

        return text_of(rows, tokenizer, **changes).measure(evaluate).fingerprint()

    first = fingerprint()
    assert fingerprint(model=models[1], batch_size=3, name="other") == first
    others = {fingerprint(seed=1), fingerprint(data.select(range(13))), fingerprint(data.select([1, 0, *range(2, 14)]))}
    assert len(others | {first}) == 4
