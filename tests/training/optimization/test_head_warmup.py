"""In a run's first steps only the head is trained; then everything, also after a resume."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import make
from conftest import CHECKPOINTING, make_bert
from same_run import PROPORTIONAL_STEPS, assert_same_weights, gradient_bound
from small_run import NUMBERED, STEPS, make_trainer, weights
from transformers import TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer, train
from mlm_recipes.model.loading import load_model, load_model_and_missing, missing_weights
from mlm_recipes.training.optimization.head_warmup import HeadWarmUp, warmup_steps

WARM = {"head_warmup_steps": 3, "disable_tqdm": True, "weight_decay": 0.1}


class Watch(TrainerCallback):
    """Record in each step which parameters have a gradient, and which the optimizer has a state for."""

    def __init__(self):
        self.gradients, self.states, self.norms = [], [], []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append({name for name, weight in model.named_parameters() if weight.grad is not None})
        found = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
        self.norms.append(float(torch.cat(found).norm()))

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.states.append({name for name, weight in model.named_parameters() if optimizer.state.get(weight)})


@pytest.mark.parametrize("optimizer", [{}, {"muon": True}, {"optim": "adafactor"}])
def test_the_body_is_as_if_frozen_until_the_boundary(tokenizer, optimizer):
    watch = Watch()
    trainer = make_trainer(
        tokenizer, NUMBERED, callback=watch, save_strategy="no", max_grad_norm=1e9, **WARM, **optimizer
    )
    everything = {name for name, _ in trainer.model.named_parameters()}
    head = {name for name in everything if name.startswith("cls.")}
    trainer.train()
    assert watch.gradients == 3 * [head] + 3 * [everything]
    assert watch.states == 3 * [head] + 3 * [everything]
    logged = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    assert logged == pytest.approx(watch.norms, rel=gradient_bound(trainer.model))
    assert all(weight.requires_grad for weight in trainer.model.parameters())


def test_the_first_steps_are_those_of_a_frozen_body(tokenizer):
    values = {"save_strategy": "no", "disable_tqdm": True, "weight_decay": 0.1, "lr_scheduler_type": "constant"}
    warm = make_trainer(tokenizer, NUMBERED, max_steps=3, head_warmup_steps=3, **values)
    warm.train()
    frozen = make_trainer(tokenizer, NUMBERED, max_steps=3, freeze="body", **values)
    frozen.train()
    assert torch.equal(weights(warm), weights(frozen))
    assert not torch.equal(weights(warm), weights(make_trainer(tokenizer, NUMBERED, **values)))


@pytest.mark.slow
@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("saved", [2, 4])  # before the boundary and after it
def test_a_resumed_run_is_the_uninterrupted_one(tokenizer, tmp_path, saved, muon):
    whole = make_trainer(tokenizer, NUMBERED, tmp_path / "run", muon=muon, **WARM)
    whole.train()
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "run", muon=muon, **WARM)
    resumed.train(resume_from_checkpoint=tmp_path / f"run/checkpoint-{saved}")
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.state.global_step == STEPS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saved", "steps", "head_steps"),
    [
        (4, 12, 3),  # the body has learned since step 4, and half of 12 is 6
        (2, 12, 6),  # only the head has learned so far
        (2, 4, 2),
        (3, 4, 3),  # half of 4 is 2, and a third step was made already
    ],
)
def test_a_body_that_learns_is_not_frozen_again_by_more_steps(tokenizer, tmp_path, saved, steps, head_steps):
    values = WARM | {"head_warmup_steps": 0.5, "save_steps": 1}
    make_trainer(tokenizer, NUMBERED, tmp_path / "run", **values).train()
    watch, last = Watch(), tmp_path / f"run/checkpoint-{saved}"
    change = {"max_steps": steps, "change_on_resume": ["max_steps"]}
    resumed = make_trainer(tokenizer, NUMBERED, tmp_path / "more", callback=watch, **values, **change)
    resumed.train(resume_from_checkpoint=last)
    frozen = [all(name.startswith("cls.") for name in names) for names in watch.gradients]
    assert frozen == [step < head_steps for step in range(saved, steps)]
    assert resumed.head_warmup.steps_of(resumed.state) == head_steps
    again = make_trainer(tokenizer, NUMBERED, tmp_path / "more", callback=(watch := Watch()), **values, **change)
    again.train(resume_from_checkpoint=last if saved == steps - 1 else tmp_path / f"more/checkpoint-{steps - 1}")
    assert torch.equal(weights(again), weights(resumed))
    assert again.head_warmup.steps_of(again.state) == head_steps


def test_accumulation_and_checkpointing_change_nothing(tokenizer):
    values = WARM | {"save_strategy": "no"} | PROPORTIONAL_STEPS
    one = make_trainer(tokenizer, NUMBERED, **values)
    one.train()
    more = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, CHECKPOINTING: True}
    two = make_trainer(tokenizer, NUMBERED, **values, **more)
    two.train()
    assert_same_weights(weights(two), weights(one), make_bert(tokenizer), STEPS)


def test_an_interrupted_run_leaves_a_body_that_learns(tokenizer):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyError("stop")

    trainer = make_trainer(tokenizer, NUMBERED, callback=Stop(), save_strategy="no", **WARM)
    with pytest.raises(KeyError, match="stop"):
        trainer.train()
    assert all(weight.requires_grad for weight in trainer.model.parameters())


@pytest.mark.parametrize(
    ("asked", "new", "steps", "expected"),
    [
        (0.0, True, 10, 0),
        (3.0, False, 10, 3),
        (30.0, False, 10, 10),
        (0.25, False, 10, 3),
        (0.07, False, 100, 7),  # 0.07 * 100 is above 7 in floating point
        ("auto", True, 130, 13),
    ],
)
def test_the_number_of_steps(asked, new, steps, expected):
    assert warmup_steps(asked, new, steps) == expected


def test_what_is_frozen_stays_frozen(tokenizer):
    watch = Watch()
    trainer = make_trainer(tokenizer, NUMBERED, callback=watch, freeze="lower-1", save_strategy="no", **WARM)
    trainer.train()
    assert not any("layer.0." in name or "embeddings" in name for name in watch.gradients[-1])
    assert any("layer.1." in name for name in watch.gradients[-1])
    assert not trainer.model.bert.embeddings.word_embeddings.weight.requires_grad


@pytest.fixture
def headless(tokenizer, tmp_path):
    """A folder with a BERT that was saved without its head."""
    make_bert(tokenizer).bert.save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    return tmp_path / "headless"


def test_auto_trains_a_head_first_only_if_it_is_new(tokenizer, headless, tmp_path):
    values = {"use_cpu": True, "head_warmup_steps": "auto", "max_steps": 10}
    trainer = MLMTrainer(headless, MLMConfig(**values), train_dataset=NUMBERED)
    assert isinstance(trainer.head_warmup, HeadWarmUp)
    trainer.model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    assert MLMTrainer(tmp_path / "whole", MLMConfig(**values), train_dataset=NUMBERED).head_warmup is None


def test_auto_knows_of_an_object_that_was_loaded_here_and_of_its_copies(tokenizer, headless):
    args = MLMConfig(use_cpu=True, head_warmup_steps="auto", max_steps=10)
    model = load_model(headless, tokenizer)
    for each in (model, copy.deepcopy(model)):
        trainer = MLMTrainer(each, args, train_dataset=NUMBERED, processing_class=tokenizer)
        assert isinstance(trainer.head_warmup, HeadWarmUp)


def test_auto_asks_about_an_object(tokenizer):
    args = MLMConfig(use_cpu=True, head_warmup_steps="auto")
    with pytest.raises(ValueError, match=r"^head_warmup_steps: received 'auto' with a BertForMaskedLM object"):
        MLMTrainer(make_bert(tokenizer), args, train_dataset=NUMBERED, processing_class=tokenizer)


def test_missing_weights_are_known_of_what_was_loaded(tokenizer, headless):
    model, missing = load_model_and_missing(headless, tokenizer)
    assert missing_weights(model) == missing
    assert "cls.predictions.bias" in missing
    assert missing_weights(copy.deepcopy(model)) == missing
    assert missing_weights(make_bert(tokenizer)) is None


@pytest.mark.slow
def test_a_run_says_what_it_does_first(headless, tmp_path, caplog):
    (tmp_path / "text.txt").write_text("\n".join(f"to be or not to be, {number} times over" for number in range(40)))
    with caplog.at_level("INFO", "mlm_recipes"):
        result = train(
            "quickstart", corpus="text.txt", model=str(headless), head_warmup_steps="auto", max_steps=2, eval_draws=1,
            pseudo_perplexity_tokens=50, general_corpus="none", use_cpu=True, prompts_compared=5, train_minutes=None,
            output_dir=str(tmp_path / "run"), freeze="lower-1", per_device_train_batch_size=4,
        )  # fmt: skip
    assert "Only the head is trained in the first step." in caplog.text
    assert "Frozen: the embeddings and the first layer" in caplog.text
    assert result.metrics["train"]["head_warmup_steps"] == 1
    frozen = result.metrics["train"]["frozen"]
    assert frozen["part"] == "lower-1"
    assert 0 < frozen["trained_parameters"] < frozen["parameters"]
    report = (tmp_path / "run/report.html").read_text("utf-8")
    assert "Only the head is trained in the first step." in report
    assert "Frozen: the embeddings and the first layer" in report
    assert "head_warmup_steps: auto" in (tmp_path / "run/recipe.yaml").read_text("utf-8")


def test_a_model_without_a_head_of_its_own_is_refused():
    with pytest.raises(ValueError, match="does not tell its head from the rest"):
        HeadWarmUp(make("bert").bert, 3.0, head_is_new=True)
