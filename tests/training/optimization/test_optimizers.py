"""An optimizer or a schedule that cannot be made is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import NUMBERED, make_trainer

from mlm_recipes import MLMConfig, cli, train
from mlm_recipes.sources.missing_packages import MissingPackageError
from mlm_recipes.training.optimization.optimizers import refuse_unusable

# Every way in which transformers says it: an ImportError, a ValueError, one with an address instead of a name.
PACKAGES = {
    "adamw_bnb_8bit": "bitsandbytes",
    "paged_lion_8bit": "bitsandbytes",
    "adamw_apex_fused": "git+https://github.com/NVIDIA/apex",
    "adamw_anyprecision": "git+https://github.com/pytorch/torchdistx",
    "galore_adamw": "git+https://github.com/jiaweizzhao/GaLore",
    "apollo_adamw": "git+https://github.com/zhuhanqing/APOLLO",
    "lomo": "lomo-optim",
    "grokadamw": "grokadamw",
    "schedule_free_radam": "schedulefree",
    "stable_adamw": "torch-optimi",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_xla": "torch-xla",
}


def known(optim):
    from transformers.training_args import OptimizerNames

    return optim in [name.value for name in OptimizerNames]


@pytest.mark.parametrize("optim", [name for name in PACKAGES if known(name)])
def test_the_package_that_an_optimizer_needs_is_named(optim):
    args = MLMConfig(optim=optim, optim_target_modules="all-linear", use_cpu=True)
    with pytest.raises(MissingPackageError, match=rf"^optim: '{optim}' needs a package") as caught:
        refuse_unusable(args)
    assert str(caught.value).endswith(f"pip install {PACKAGES[optim]}")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_optimizers_that_need_no_package_are_accepted(optim):
    refuse_unusable(MLMConfig(optim=optim, use_cpu=True))


@pytest.mark.parametrize(
    ("schedule", "given", "says"),
    [
        ("cosine_with_min_lr", None, "with which transformers cannot make the schedule cosine_with_min_lr .*min_lr"),
        ("warmup_stable_decay", {"decay_steps": 2}, "unexpected keyword argument 'decay_steps'"),
        ("cosine_with_restarts", {"cycles": 2}, "unexpected keyword argument 'cycles'"),
        ("cosine_with_restarts", {"num_cycles": "a"}, "could not convert string to float"),
    ],
)
def test_what_a_schedule_does_not_take_is_refused(schedule, given, says):
    args = MLMConfig(lr_scheduler_type=schedule, lr_scheduler_kwargs=given, use_cpu=True)
    with pytest.raises(ValueError, match=rf"^lr_scheduler_kwargs: received .*{says}.*Accepted: "):
        refuse_unusable(args)


def test_a_trainer_refuses_it_at_its_first_step_and_evaluates_all_the_same(tokenizer):
    trainer = make_trainer(tokenizer, NUMBERED, optim="adamw_bnb_8bit")
    assert trainer.evaluate()["eval_loss"] > 0
    with pytest.raises(MissingPackageError, match=r"bitsandbytes"):
        trainer.train()


def test_a_run_is_refused_before_its_text_is_read(capsys):
    with pytest.raises(MissingPackageError):
        train("adapt", corpus="no-such-corpus", optim="adamw_bnb_8bit")
    assert cli.main(["train", "adapt", "--corpus", "no-such-corpus", "--optim", "lomo"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: optim: 'lomo' needs a package that is not installed here: lomo-optim. ")
    assert len(said.splitlines()) == 1
    assert not list(Path.cwd().iterdir())


def test_a_tracker_without_its_package_is_refused_in_python_too(tokenizer, monkeypatch):
    monkeypatch.setattr("mlm_recipes.training.callbacks.trackers.get_available_reporting_integrations", list)
    with pytest.raises(MissingPackageError, match=r"^report_to: 'wandb' needs .*pip install wandb"):
        make_trainer(tokenizer, NUMBERED, report_to="wandb")
