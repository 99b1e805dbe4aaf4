from __future__ import annotations

import math

import evaluate
import numpy as np
import pytest
import torch
from same_run import loss_bound

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.evaluation import metric as metric_file
from mlm_recipes.evaluation.metric import MaskedLM, compute
from mlm_recipes.evaluation.word_frequencies import token_counts, word_frequency_metrics


@pytest.fixture
def evaluated(tiny_bert, tokenizer, rows):
    """The result of `evaluate()` with a given batch size."""

    def evaluate(size):
        args = MLMConfig(per_device_eval_batch_size=size, save_strategy="no")
        found = MLMTrainer(tiny_bert, args=args, eval_dataset=rows, processing_class=tokenizer).evaluate()
        return {name: found[f"eval_{name}"] for name in ("loss", "accuracy", "perplexity", "masked_tokens")}

    return evaluate


def test_the_metric_equals_the_plain_formula(tiny_bert, tokenizer, rows, evaluated):
    found = evaluated(8)
    batch = DataCollatorForMaskedLM(tokenizer).frozen(0)([row | {"example_id": i} for i, row in enumerate(rows)])
    with torch.no_grad():
        logits = tiny_bert.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    masked = batch["labels"] != -100
    expected = torch.nn.functional.cross_entropy(logits[masked], batch["labels"][masked]).item()
    assert found["masked_tokens"] == masked.sum().item()
    assert found["loss"] == pytest.approx(expected, rel=loss_bound(tiny_bert))
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=expected * loss_bound(tiny_bert))
    hits = (logits.argmax(-1) == batch["labels"])[masked].float().mean().item()
    assert found["accuracy"] == pytest.approx(hits)


def test_the_metric_is_independent_of_the_batch_size_and_repeatable(tiny_bert, evaluated):
    one = evaluated(1)
    for size in (2, 3, 8):
        # A perplexity's rounding depends on the loss, not on a share of it.
        assert evaluated(size) == pytest.approx(one, rel=one["loss"] * loss_bound(tiny_bert))
    assert evaluated(1) == one


def test_a_text_without_masked_tokens_is_an_error_and_not_nan():
    with pytest.raises(ValueError, match="none of the tokens is masked"):
        compute(np.array([[0.0, 0, 0]]))
    with pytest.raises(ValueError, match="none of the tokens is masked"):
        MaskedLM(keep_in_memory=True).compute(predictions=[5], references=[-100])


@pytest.fixture(params=["class", "path"])
def metric(request, tmp_path):
    if request.param == "class":
        return MaskedLM(keep_in_memory=True)
    return evaluate.load(metric_file.__file__, keep_in_memory=True, cache_dir=str(tmp_path))


LOGITS = np.random.default_rng(0).normal(size=(3, 4, 11)).astype(np.float32)
LABELS = np.array([[-100, 3, -100, 4], [10, -100, -100, 0], [-100, 2, 2, -100]])


def expected_measures():
    where = torch.tensor(LABELS) != -100
    logits, labels = torch.tensor(LOGITS)[where].double(), torch.tensor(LABELS)[where]
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(-1) == labels).double().mean().item()
    return {"loss": loss, "accuracy": accuracy, "perplexity": math.exp(loss), "masked_tokens": 6}


@pytest.mark.parametrize("form", [np.asarray, torch.tensor, lambda array: array.tolist()])
@pytest.mark.parametrize("flat", [False, True])
def test_predictions_and_references_as_in_evaluate(metric, form, flat):
    logits, labels = (LOGITS.reshape(12, 11), LABELS.reshape(12)) if flat else (LOGITS, LABELS)
    assert metric.compute(predictions=form(logits), references=form(labels)) == pytest.approx(expected_measures())
    ids = metric.compute(predictions=form(logits.argmax(-1)), references=form(labels))
    assert ids == {name: pytest.approx(expected_measures()[name]) for name in ("accuracy", "masked_tokens")}


def test_batches_are_summed_before_anything_is_divided(metric):
    for row in range(3):
        metric.add_batch(predictions=LOGITS[row : row + 1], references=LABELS[row : row + 1])
    assert metric.compute() == pytest.approx(expected_measures())
    for logits, labels in zip(LOGITS.reshape(12, 11), LABELS.reshape(12), strict=True):
        metric.add(prediction=logits, reference=labels)
    assert metric.compute() == pytest.approx(expected_measures())


def test_rows_of_different_lengths(metric):
    predictions, references = [[5, 6], [7], [8, 9, 1]], [[5, -100], [8], [8, 9, 2]]
    assert metric.compute(predictions=predictions, references=references) == {"accuracy": 0.6, "masked_tokens": 5}
    with pytest.raises(ValueError, match="predictions: received rows of other lengths"):
        metric.compute(predictions=[[5], [6, 7]], references=[[5, 6], [7]])


def test_it_combines_with_others(metric, tmp_path):
    both = evaluate.combine([metric, MaskedLM(keep_in_memory=True)])
    found = both.compute(predictions=LOGITS.argmax(-1), references=LABELS)
    assert sum(name.endswith("accuracy") for name in found) == 2


def test_probabilities_in_place_of_ids_are_refused(metric):
    with pytest.raises(ValueError, match="predictions: received numbers that are not integers"):
        metric.compute(predictions=[0.7, 0.2], references=[1, 0])


def test_word_frequencies_score_equals_counting():
    found = word_frequency_metrics(
        token_counts([[4, 4, 5], [4]], 8), [torch.tensor([[4, -100], [6, 5]])], special_ids=[0, 1]
    )
    counts = np.array([0, 0, 1, 1, 4, 2, 1, 1])  # one added to each
    expected = -np.mean(np.log(counts[[4, 6, 5]] / counts.sum()))
    assert found["loss"] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["masked_tokens"] == 3
