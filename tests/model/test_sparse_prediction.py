"""The head on masked positions gives the same loss and gradients as on all positions, in every architecture."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES, LONGEST, assert_same_gradients, batch_of, make
from conftest import make_bert
from same_run import (
    PROPORTIONAL_STEPS,
    assert_close,
    assert_same_weights,
    flat_weights,
    gradient_bound,
    loss_bound,
)

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.evaluation.forward_passes import evaluate_examples
from mlm_recipes.masking.batch_plan import masked_positions
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.sparse_prediction import only_at, unsupported


def loss_and_gradients(model, inputs, labels, sparse):
    model.zero_grad()
    if sparse:
        with only_at(model, masked_positions(labels)):
            loss = masked_lm_loss(model(**inputs), labels)
    else:
        loss = masked_lm_loss(model(**inputs), labels)
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("lengths", "masked"), [([9, 1, LONGEST, 17], 0.3), ([7, 12], 1.0), ([4, 6], 0.0)], ids=["some", "all", "none"]
)
def test_loss_and_gradients_equal_those_of_the_full_head(architecture, lengths, masked):
    model = make(architecture)
    assert unsupported(model) is None
    inputs, labels = batch_of(lengths, masked)
    dense, sparse = (loss_and_gradients(model, inputs, labels, sparse) for sparse in (False, True))
    assert sparse[0] == pytest.approx(dense[0], rel=loss_bound(model))
    assert_same_gradients(dense[1], sparse[1], gradient_bound(model))
    if not masked:
        assert sparse[0] == 0.0
        assert all(gradient is None or not gradient.any() for gradient in sparse[1].values())


def test_the_head_sees_the_masked_positions_and_no_others():
    model = make("bert")
    inputs, labels = batch_of([9, 5], 0.4)
    seen = []
    model.cls.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    with only_at(model, masked_positions(labels)):
        assert model(**inputs).logits.shape == (1, int((labels != -100).sum()), 120)
    assert seen == [(1, int((labels != -100).sum()), 32)]
    assert model(**inputs).logits.shape == (2, 9, 120)  # and afterwards everything is as it was


def test_sums_of_an_evaluation_are_the_same():
    model = make("modernbert")
    inputs, labels = batch_of([9, 1, 17], 0.5)
    batch = inputs | {"labels": labels}
    sparse, dense = (evaluate_examples(model, [batch], lambda rows: rows, sparse) for sparse in (True, False))
    assert_close(sparse, dense, loss_bound(model))


def trained(tokenizer, rows, **changes):
    args = MLMConfig(
        **{"max_steps": 6, "per_device_train_batch_size": 4, "save_strategy": "no", "mlm_probability": 0.4}
        | PROPORTIONAL_STEPS
        | changes
    )  # fmt: skip
    model = make_bert(tokenizer, hidden_dropout_prob=0.1)
    trainer = MLMTrainer(model, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer, flat_weights(model)


def test_a_run_is_the_same_with_and_without_it(tokenizer, rows):
    """With dropout: the encoder draws the same numbers."""
    with_it, weights = trained(tokenizer, rows)
    without, expected = trained(tokenizer, rows, sparse_prediction=False)
    assert (with_it.sparse_prediction, without.sparse_prediction) == (True, False)
    begun = make_bert(tokenizer)
    assert_same_weights(weights, expected, begun, steps=6)
    assert with_it.evaluate()["eval_loss"] == pytest.approx(
        without.evaluate()["eval_loss"], rel=loss_bound(begun, steps=6)
    )


def test_it_is_off_if_every_position_has_a_label(tokenizer, rows, caplog):
    trainer, _ = trained(tokenizer, rows, loss_on="all", padding="max_length", max_length=16, max_steps=1)
    assert not trainer.sparse_prediction
    assert "sparse_prediction" not in caplog.text


def test_the_reason_is_logged_if_it_cannot_be_used_and_the_loss_is_right(tokenizer, rows, caplog):
    class Mixing(torch.nn.Module):
        """A head that looks at a position's neighbour."""

        def __init__(self, head):
            super().__init__()
            self.head = head

        def forward(self, states):
            return self.head(states + states.roll(1, dims=1))

    model = make_bert(tokenizer)
    model.cls = Mixing(model.cls)
    args = MLMConfig(max_steps=1, per_device_train_batch_size=4, save_strategy="no")
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    assert not trainer.sparse_prediction
    assert "sparse_prediction is off: its logits differ by" in caplog.text
    trainer.train()
    ours = {"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum() * 0}
    MLMTrainer(make_bert(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer, **ours)
    assert "compute_loss_func is your own" in caplog.text
