"""`model_init` and `hyperparameter_search`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import make_bert
from small_run import NUMBERED, weights
from transformers import trainer as upstream
from transformers.trainer_utils import HPSearchBackend

from mlm_recipes import MLMConfig, MLMTrainer, load_model

SPACE = [{"learning_rate": 1e-2}, {"mlm_probability": 0.9, "per_device_train_batch_size": 4}, {"seed": 7}]


def make(tokenizer, model_init, model=None, **changes):
    values = {
        "output_dir": "out", "max_steps": 2, "per_device_train_batch_size": 2, "save_steps": 2, "seed": 1,
        "mlm_probability": 0.4, "use_cpu": True, "learning_rate": 1e-3, "disable_tqdm": True,
    }  # fmt: skip
    return MLMTrainer(
        model, MLMConfig(**(values | changes)), train_dataset=NUMBERED, eval_dataset=NUMBERED,
        processing_class=tokenizer, model_init=model_init,
    )  # fmt: skip


@pytest.fixture
def stub(monkeypatch):
    """A backend that tries the values of SPACE one after the other, in place of optuna; it returns what it saw."""
    seen = []

    class Backend:
        default_hp_space = None

        def ensure_available(self):
            pass

        def run(self, trainer, n_trials, direction):
            for number in range(n_trials):
                trial = SimpleNamespace(number=number, params=SPACE[number])
                trainer.train(trial=trial)
                loss = trainer.compute_objective(trainer.evaluate())
                seen.append(SimpleNamespace(args=trainer.args, weights=weights(trainer), loss=loss))
                trainer.model = trainer.model_wrapped = None  # as optuna's does
            return seen

    monkeypatch.setitem(upstream.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Backend)
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial.params)
    return seen


def search(trainer, **values):
    return trainer.hyperparameter_search(lambda trial: trial.params, n_trials=3, backend="optuna", **values)


@pytest.mark.parametrize("takes_trial", [False, True])
def test_a_model_for_each_run(tokenizer, takes_trial):
    made = []

    def init(*trial):
        made.append(trial)
        return make_bert(tokenizer)

    trainer = make(tokenizer, (lambda trial: init(trial)) if takes_trial else (lambda: init()))
    assert len(made) == 1  # not once for us and once for upstream
    trainer.train()
    first = weights(trainer)
    trainer.train()
    assert torch.equal(weights(trainer), first)
    assert trainer.padding_free
    assert trainer.sparse_prediction
    plain = make(tokenizer, None, make_bert(tokenizer))
    plain.train()
    assert torch.equal(weights(plain), first)


@pytest.mark.slow
def test_random_weights_are_those_of_the_seed(tokenizer):
    config = make_bert(tokenizer).config
    made = [make(tokenizer, lambda: type(make_bert(tokenizer))(config), seed=seed) for seed in (1, 1, 2)]
    for trainer in made:
        torch.manual_seed(99)
        trainer.train()
    assert torch.equal(weights(made[0]), weights(made[1]))
    assert not torch.equal(weights(made[0]), weights(made[2]))


def test_a_run_with_model_init_is_resumed_exactly(tokenizer):
    whole = make(tokenizer, lambda: make_bert(tokenizer), max_steps=4)
    whole.train()
    again = make(tokenizer, lambda: make_bert(tokenizer), max_steps=4)
    again.train(resume_from_checkpoint="out/checkpoint-2")
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.slow
def test_each_trial_is_a_run_of_its_own(tokenizer, stub, tmp_path):
    trainer = make(tokenizer, lambda: make_bert(tokenizer))
    config = trainer.args
    trials = search(trainer)
    assert trainer.args is config
    assert (config.learning_rate, config.mlm_probability, config.seed) == (1e-3, 0.4, 1)
    for number, (trial, values) in enumerate(zip(trials, SPACE, strict=True)):
        alone = make(tokenizer, lambda: make_bert(tokenizer), output_dir=f"alone-{number}", **values)
        alone.train()
        assert torch.equal(trial.weights, weights(alone)), values  # nothing of the trial before is left
        assert trial.loss == alone.evaluate()["eval_loss"]
        state = json.loads((tmp_path / f"out/run-{number}/checkpoint-2/trainer_state.json").read_text())
        contract = state["stateful_callbacks"]["ResumeContract"]["attributes"]["contract"]
        assert contract["values"].items() >= values.items()
        assert contract["facts"]["masking"]["mlm_probability"] == values.get("mlm_probability", 0.4)
    alone.train(resume_from_checkpoint=str(tmp_path / "out/run-2/checkpoint-2"))  # it is this run, and complete


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "trial"),
    [
        ({"mlm_probability_schedule": "linear", "mlm_probability_end": 0.1}, {"mlm_probability_end": 0.2}),
        pytest.param({}, {"mlm_probability_schedule": "linear", "mlm_probability_end": 0.2}, marks=pytest.mark.slow),
        (
            {"mlm_probability_schedule": "linear", "mlm_probability_end": 0.1},
            {"mlm_probability_schedule": "constant", "mlm_probability_end": None},
        ),
        pytest.param({"head_warmup_steps": 1}, {"head_warmup_steps": "0.5"}, marks=pytest.mark.slow),
        ({"freeze": "body", "muon": True}, {"freeze": "lower-1", "layerwise_lr_decay": 0.5}),
    ],
)
def test_a_trial_may_have_a_value_of_another_type(tokenizer, stub, monkeypatch, config, trial):
    monkeypatch.setattr("test_searching_trainer.SPACE", [trial])
    trainer = make(tokenizer, lambda: make_bert(tokenizer), **config)
    (found,) = trainer.hyperparameter_search(lambda trial: trial.params, n_trials=1, backend="optuna")
    alone = make(tokenizer, lambda: make_bert(tokenizer), output_dir="alone", **config | trial)
    alone.train()
    assert torch.equal(found.weights, weights(alone))
    alone.check_resume(Path("out/run-0/checkpoint-2"))  # it is this run


@pytest.mark.slow
def test_what_was_found_can_be_set_and_trained(tokenizer, stub):
    trainer = make(tokenizer, lambda: make_bert(tokenizer))
    best = search(trainer)[1]
    for name, value in SPACE[1].items():
        setattr(trainer.args, name, value)
    trainer.train()
    assert torch.equal(weights(trainer), best.weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mlm_prob": 0.3}, "hp_space: mlm_prob: no such value. Did you mean 'mlm_probability'"),
        ({"max_length": 64}, "hp_space: received max_length.*would change nothing"),
        ({"evaluation_seed": 1}, "hp_space: received evaluation_seed"),
        ({"output_dir": "elsewhere"}, "hp_space: received output_dir"),
        ({"mlm_probability": 0.0}, r"mlm_probability: received 0\.0"),
    ],
)
def test_values_that_a_trial_cannot_have_are_refused(tokenizer, stub, values, message):
    trainer = make(tokenizer, lambda: make_bert(tokenizer))
    with pytest.raises(ValueError, match=message):
        trainer.hyperparameter_search(lambda trial: values, n_trials=1, backend="optuna")
    assert trainer.hp_search_backend is None


@pytest.mark.parametrize(
    ("init", "model", "changes", "message"),
    [
        (None, None, {}, "model: received None and model_init None. Accepted: one of them"),
        (lambda tokenizer: make_bert(tokenizer), make_bert, {}, "model: received BertForMaskedLM and model_init too"),
        (lambda tokenizer: None, None, {}, "model_init should not return None"),
        (lambda tokenizer: "mini", None, {}, "model_init: it returned str"),
    ],
)
def test_what_cannot_make_a_model_is_refused(tokenizer, init, model, changes, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make(tokenizer, init and (lambda: init(tokenizer)), model and model(tokenizer), **changes)


def test_a_search_that_would_mislead_is_refused(tokenizer, stub):
    trainer = make(tokenizer, lambda: make_bert(tokenizer))
    with pytest.raises(ValueError, match="direction: received 'maximize' without compute_objective"):
        search(trainer, direction="maximize")
    with pytest.raises(ValueError, match="resume_from_checkpoint: received 'auto' with hyperparameter_search"):
        search(make(tokenizer, lambda: make_bert(tokenizer), resume_from_checkpoint="auto"))
    with pytest.raises(ValueError, match="model_init: received None with hyperparameter_search"):
        search(make(tokenizer, None, make_bert(tokenizer)))
    trainer.eval_dataset = {"a": NUMBERED, "b": NUMBERED}
    with pytest.raises(ValueError, match=r"compute_objective: .*eval_a_loss, eval_b_loss"):
        search(trainer)
    trainer.eval_dataset = None
    with pytest.raises(ValueError, match="eval_dataset: received None"):
        search(trainer)


@pytest.mark.slow
def test_the_objective_may_be_another_measure(tokenizer, stub):
    trainer = make(tokenizer, lambda: make_bert(tokenizer))
    trials = search(trainer, direction="maximize", compute_objective=lambda metrics: metrics["eval_masked_tokens"])
    assert all(trial.loss > 8 for trial in trials)


def test_a_model_by_name_can_be_made_for_each_run(checkpoint, tokenizer):
    trainer = make(tokenizer, lambda: load_model(checkpoint, tokenizer))
    trainer.train()
    assert trainer.state.global_step == 2
