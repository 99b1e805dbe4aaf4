from __future__ import annotations

import random

import pytest
import torch
from conftest import ROOT, make_bert

from mlm_recipes import DataCollatorForMaskedLM, cli, verify
from mlm_recipes.masking.random_keys import sequence_keys
from mlm_recipes.model.sparse_prediction import only_at
from mlm_recipes.recipes import verification, verification_bench, verification_checks
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.verification import VerifyResult
from mlm_recipes.recipes.verification_checks import Check
from mlm_recipes.training.batches.example_order import EpochSampler


@pytest.fixture(scope="module")
def values(tokenizer, short_text, tmp_path_factory):
    """A recipe's values with a model that has dropout, like most real models."""
    folder = tmp_path_factory.mktemp("dropout")
    make_bert(tokenizer, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"model": str(folder), "corpus": str(short_text)}


@pytest.fixture
def bench(values, tmp_path):
    return verification_bench.Bench.of(verification_bench.cut_down(read_config("adapt", values), tmp_path))


# Values that a run of four steps cannot use, so that verify must replace them.
ODD = ("--dataloader_drop_last", "--logging_strategy=no", "--eval_on_start", "--save_only_model", "--eval_delay=9")


@pytest.mark.slow
def test_a_correct_recipe_passes(values, capsys, monkeypatch, tmp_path):
    """The README's command, in bf16 and with dropout, with a real process that is killed; no files are left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    arguments = [f"--{name}={value}" for name, value in values.items()]
    recipe = str(ROOT / "recipes/quickstart.yaml")
    assert cli.main(["verify", recipe, *arguments, "--gradient_accumulation_steps=4", "--bf16", *ODD]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "All properties hold. 15 properties checked in" in table
    assert "killed after step 2 of 4 and resumed: every bit 0 0 ok" in table
    assert [path for path in tmp_path.iterdir() if path.name.startswith("mlm-recipes")] == []


def test_the_exit_code_is_1_if_a_property_fails(monkeypatch, capsys):
    checks = [Check("a", 0.0, 0.0), Check("b", 2e-3, 1e-6), Check("c", float("nan"), 1.0)]
    monkeypatch.setattr(verification, "verify", lambda *recipe, **values: VerifyResult(checks, seconds=1.0))
    assert cli.main(["verify"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "b 2.0e-03 1.0e-06 FAILS" in shown
    assert "Failed: b; c. Do not trust" in shown


def measured(checks):
    return {check.name: check.ok for check in checks}


@pytest.mark.slow
def test_a_loss_divided_per_micro_batch_is_detected(bench, monkeypatch):
    def mean_of_means(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs.logits[0], labels[labels != -100])

    assert all(measured(verification_checks.accumulation(bench)).values())
    monkeypatch.setattr("mlm_recipes.training.trainers.fast_trainer.masked_lm_loss", mean_of_means)
    # Trainer.__init__ takes the function from kwargs before the module's default, as here.
    assert not any(measured(verification_checks.accumulation(bench)).values())


@pytest.mark.parametrize("first", [{"head_warmup_steps": 2}, {"add_tokens": ["zzword"], "train_new_tokens_first": 2}])
def test_the_step_that_is_verified_trains_all_weights(values, tmp_path, first):
    config = verification_bench.cut_down(read_config("adapt", values | first), tmp_path)
    bench = verification_bench.Bench.of(config)
    _, gradient = verification_checks._one_step(bench)
    given = (gradient != 0).sum()
    _, usual = verification_checks._one_step(bench, head_warmup_steps=0.0, train_new_tokens_first=None)
    assert given == (usual != 0).sum() > 0.5 * len(usual)
    assert torch.equal(gradient, usual)


def test_a_new_head_is_verified_as_it_is_trained(tokenizer, short_text, tmp_path):
    make_bert(tokenizer).bert.save_pretrained(tmp_path / "body")
    tokenizer.save_pretrained(tmp_path / "body")
    values = {"model": str(tmp_path / "body"), "corpus": str(short_text), "head_warmup_steps": "auto"}
    bench = verification_bench.Bench.of(verification_bench.cut_down(read_config("adapt", values), tmp_path))
    assert bench.trainer().head_warmup is not None


def test_a_global_batch_and_phases_that_do_not_come_are_no_hindrance(values, tmp_path, caplog):
    """The recipe's own run has them; four steps of four rows do not."""
    changes = {"global_batch_size": 50, "mlm_probability": 0.3, "mlm_probability_schedule": "step"}
    changes |= {"mlm_probability_end": [0.2, 0.1, 0.05], "mlm_probability_boundaries": [0.5, 0.8, 0.95]}
    bench = verification_bench.Bench.of(verification_bench.cut_down(read_config("adapt", values | changes), tmp_path))
    assert all(measured(verification_checks.accumulation(bench)).values())
    trainer, _ = bench.train()
    assert [entry["mlm_probability"] for entry in trainer.state.log_history if "loss" in entry] == [0.3, 0.3, 0.2, 0.2]
    assert "mlm_probability_schedule: received" not in caplog.text


@pytest.mark.slow
def test_a_changed_head_is_detected(bench, monkeypatch):
    assert len(measured(verification_checks.fast_paths(bench))) == 4
    assert all(measured(verification_checks.fast_paths(bench)).values())
    monkeypatch.setattr(
        "mlm_recipes.training.trainers.fast_trainer.only_at", lambda model, positions: only_at(model, positions.roll(1))
    )
    found = measured(verification_checks.fast_paths(bench))
    assert not any(ok for name, ok in found.items() if name.startswith("head"))


@pytest.mark.slow
def test_attention_across_sequences_is_detected(bench, monkeypatch):
    """This is detected even if the trainer's own check of the model does not find it."""

    def across(query, key, value, *rest):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    monkeypatch.setattr("mlm_recipes.model.padding_free._difference", lambda *args: None)
    monkeypatch.setattr("mlm_recipes.model.joined_attention._one_by_one", across)
    found = measured(verification_checks.fast_paths(bench))
    assert not found["joined in one row or padded: gradient"]
    assert found["head on masked positions or on all: gradient"]


def test_a_model_that_attends_to_padding_is_detected(bench, monkeypatch):
    """This is detected even if the trainer's own check of the model does not find it."""
    monkeypatch.setattr("mlm_recipes.training.speed.fast_paths.dependence", lambda *args: None)
    assert all(measured(verification_checks.padding(bench)).values())
    forward = bench.run.model.forward
    bench.run.model.forward = lambda attention_mask=None, **inputs: forward(**inputs)
    assert not any(measured(verification_checks.padding(bench)).values())


@pytest.mark.slow
def test_masks_that_depend_on_the_batch_are_detected(bench, monkeypatch):
    assert all(measured(verification_checks.masks(bench)).values())
    keys = DataCollatorForMaskedLM._keys
    without = lambda self, rows: keys(self, [row | {"example_id": i} for i, row in enumerate(rows)])  # noqa: E731
    monkeypatch.setattr(DataCollatorForMaskedLM, "_keys", without)
    assert not measured(verification_checks.masks(bench))["masks by batch, order and worker: examples that differ"]


def test_masks_that_never_change_are_detected(bench, monkeypatch):
    keys = DataCollatorForMaskedLM._keys
    without = lambda self, rows: keys(self, [row | {"epoch": 0} for row in rows])  # noqa: E731
    monkeypatch.setattr(DataCollatorForMaskedLM, "_keys", without)
    assert not measured(verification_checks.masks(bench))["masks of two epochs: examples that do not differ"]


def test_an_order_that_depends_on_the_layout_is_detected(bench, monkeypatch):
    assert all(measured(verification_checks.order(bench)).values())
    order = EpochSampler._order
    monkeypatch.setattr(EpochSampler, "_order", lambda self: order(self)[:: -1 if self.filled != self.kept else 1])
    assert not measured(verification_checks.order(bench))["order by accumulation, processes: layouts that differ"]


def test_a_repeated_example_is_detected(bench, monkeypatch):
    order = EpochSampler._order
    monkeypatch.setattr(EpochSampler, "_order", lambda self: [*order(self)[:-1], order(self)[0]])
    assert not measured(verification_checks.order(bench))["order: examples that an epoch has twice or never"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mlm_probability": 0.01},
        {"mlm_probability": 1.0},
        {"static_masks": True, "loss_on": "all", "padding": "max_length"},
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 5},
        {"train_sampling_strategy": "group_by_length", "data_seed": 3},
        {"mlm_probability": 0.3, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.05},
    ],
)
def test_correct_variants_pass(values, changes, tmp_path):
    bench = verification_bench.Bench.of(verification_bench.cut_down(read_config("adapt", values | changes), tmp_path))
    checks = (
        verification_checks.accumulation,
        verification_checks.padding,
        verification_checks.masks,
        verification_checks.order,
    )
    assert all(all(measured(check(bench)).values()) for check in checks)


def test_a_model_with_few_positions_is_verified_within_them(tokenizer, short_text, tmp_path):
    make_bert(tokenizer, max_position_embeddings=24).save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    config = read_config("adapt", {"model": str(tmp_path / "short"), "corpus": str(short_text)})
    bench = verification_bench.Bench.of(verification_bench.cut_down(config, tmp_path))
    assert bench.run.max_length == 24
    assert all(measured(verification_checks.padding(bench)).values())


def test_a_random_evaluation_is_detected(bench, monkeypatch):
    assert all(measured(verification_checks.evaluation(bench)).values())
    chance = lambda self, rows: sequence_keys(random.getrandbits(60), 0, list(range(len(rows))))  # noqa: E731
    monkeypatch.setattr(DataCollatorForMaskedLM, "_keys", chance)
    assert not measured(verification_checks.evaluation(bench))["evaluation, twice: loss"]


def test_two_zeros_have_no_relative_difference():
    assert verification_checks.relative([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert verification_checks.relative([1.0, 3.0], [1.0, 2.0]) == 0.5


def test_several_processes_are_refused_by_verify(monkeypatch):
    monkeypatch.setattr("mlm_recipes.training.config.MLMConfig.world_size", 2)
    with pytest.raises(ValueError, match="verify: received 2 processes"):
        verify("quickstart")
