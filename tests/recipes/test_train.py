from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import metrics_schema
import pytest
import torch
from conftest import ROOT
from same_run import loss_bound
from transformers import AutoModelForMaskedLM, pipeline

from mlm_recipes import (
    MLMConfig,
    RunResult,
    evaluate,
    fill,
    inspect_corpus,
    load_corpus,
    load_tokenizer,
    reference,
    train,
    train_tokenizer,
    verify,
)
from mlm_recipes.recipes.run_folder import WRITTEN
from mlm_recipes.report import wording

SHORT = {"max_steps": 3, "per_device_train_batch_size": 4, "max_length": 32, "vocab_size": 500}
SHORT_EVALUATION = {"general_corpus": "none", "eval_draws": 2, "pseudo_perplexity_tokens": 500, "prompts_compared": 6}
#: With ordinary language too, which takes some seconds instead of half a minute.
SHORT |= {"eval_draws": 2, "pseudo_perplexity_tokens": 2_000, "prompts_compared": 12}


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text):
    """One finished run of the quickstart recipe on a short text, for tests that only read it."""
    folder = tmp_path_factory.mktemp("run") / "quick"
    return train("quickstart", corpus=str(short_text), output_dir=str(folder), **SHORT)


@pytest.fixture(scope="module")
def from_random(tmp_path_factory, short_text):
    """The same run from random weights, with a tokenizer trained on the text."""
    folder = tmp_path_factory.mktemp("run") / "random"
    return train("quickstart", model="mini-random", corpus=str(short_text), output_dir=str(folder), **SHORT)


@pytest.mark.slow
def test_a_schedule_is_announced_recorded_and_repeated(checkpoint, short_text, caplog):
    caplog.set_level("INFO", "mlm_recipes")
    values = SHORT | SHORT_EVALUATION | {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    schedule = {"mlm_probability": 0.3, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.15}
    run = train(
        "adapt",
        model=str(checkpoint),
        corpus=str(short_text),
        output_dir="run",
        save_total_limit=2,
        **values,
        **schedule,
    )
    assert "a changing share of the tokens masked: 30% to 15%, linear (15% when it is measured" in caplog.text
    metrics_schema.check(run.metrics)
    shares = [entry["mlm_probability"] for entry in run.metrics["train"]["history"]]
    assert shares == pytest.approx([0.3, 0.25, 0.2, 0.15])
    assert "Training masked 30.0% of the tokens at step 1 and 15.0% at step 4." in Path("run/README.md").read_text()
    assert "15.0% at step 4. It changes the task" in Path("run/report.html").read_text("utf-8")
    again = train("run/recipe.yaml", output_dir="again")
    assert again.metrics["train"]["history"] == run.metrics["train"]["history"]
    resumed = train("run/recipe.yaml", resume_from_checkpoint="run/checkpoint-2", output_dir="resumed")
    assert resumed.metrics["train"]["history"] == run.metrics["train"]["history"]
    assert resumed.metrics["after"] == run.metrics["after"]


def measures(metrics):
    return {name: metrics[name] for name in ("loss", "accuracy", "perplexity", "masked_tokens")}


def test_the_run_folder_is_complete(run):
    assert isinstance(run, RunResult)
    files = {path.name for path in run.output_dir.iterdir()}
    assert files == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "recipe.yaml", "metrics.json", "report.html", "README.md",
    }  # fmt: skip
    metrics = json.loads((run.output_dir / "metrics.json").read_text("utf-8"))
    assert metrics == run.metrics
    metrics_schema.check(metrics)
    assert set(metrics) == {
        "schema_version",
        *("corpus", "before", "after", "gain", "change", "bands", "pieces", "words", "train", "versions"),
    }
    fallen = metrics["before"]["loss"] - metrics["after"]["loss"]
    assert metrics["gain"]["loss"] == pytest.approx(fallen)
    assert metrics["gain"]["paragraphs"] <= metrics["corpus"]["validation"]
    assert metrics["gain"]["low"] <= fallen <= metrics["gain"]["high"]
    assert metrics["before"]["general"]["masked_tokens"] == metrics["after"]["general"]["masked_tokens"] > 200
    for when in ("before", "after"):
        assert set(measures(metrics[when])) <= set(metrics[when])
        assert len(metrics[when]["fill_mask"]) == 6
        assert all(len(entry["top"]) == 5 for entry in metrics[when]["fill_mask"])
    assert metrics["before"]["masked_tokens"] == metrics["after"]["masked_tokens"] > 0
    assert [a["prompt"] for a in metrics["before"]["fill_mask"]] == [b["prompt"] for b in metrics["after"]["fill_mask"]]
    assert metrics["train"]["steps"] == 3
    assert [entry["step"] for entry in metrics["train"]["history"]] == [1, 2, 3]
    assert metrics["corpus"]["paragraphs"] == 60
    assert metrics["corpus"]["train"] + metrics["corpus"]["validation"] == 60
    # Only torch.__version__ names a CUDA build.
    assert metrics["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_model_loads_in_transformers_pipeline(run):
    guesses = pipeline("fill-mask", str(run.output_dir))("The [MASK] of man.")
    (ours,) = fill(run.output_dir, ["The [MASK] of man."], top_k=5)
    model = AutoModelForMaskedLM.from_pretrained(run.output_dir)
    bound = 20 * loss_bound(model)  # a probability's rounding depends on its logarithm, at most 20 here
    assert [(g["token_str"], pytest.approx(g["score"], rel=bound)) for g in guesses] == ours[0]


@pytest.mark.slow
def test_evaluating_the_run_repeats_its_after_measures(run):
    again = evaluate(run.output_dir)
    assert measures(again.metrics["evaluation"]) == measures(
        run.metrics["after"]
    )  # the same batches in the same process
    assert set(again.metrics) == {"corpus", "evaluation", "versions"}
    assert again.output_dir is None
    assert not list(Path.cwd().iterdir())  # it writes nothing


@pytest.mark.slow
def test_evaluating_on_a_different_corpus(run):
    other = evaluate(run.output_dir, corpus="meditations")
    assert other.metrics["corpus"]["paragraphs"] == 540
    assert other.metrics["evaluation"]["loss"] != run.metrics["after"]["loss"]


def test_a_run_writes_the_files_that_a_folder_is_checked_for(run):
    written = {path.name for path in run.output_dir.iterdir()}
    assert written <= set(WRITTEN)


def test_the_users_files_are_not_overwritten(checkpoint, short_text, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("precious")
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_steps": 1, "save_strategy": "no"}
    with pytest.raises(FileExistsError, match=r"would overwrite \(README.md\)"):
        train("adapt", output_dir="mine", **values)
    assert (tmp_path / "mine" / "README.md").read_text() == "precious"


def test_one_prompt_needs_no_list(run):
    assert fill(run.output_dir, "The [MASK] of man.") == fill(run.output_dir, ["The [MASK] of man."])


@pytest.mark.slow
def test_the_vocabulary_is_trained_on_the_training_split_only(from_random, short_text):
    corpus = load_corpus(short_text)
    learned = load_tokenizer(from_random.output_dir).get_vocab()
    assert learned == train_tokenizer(corpus["train"]["text"], 500).get_vocab()
    assert learned != train_tokenizer([*corpus["train"]["text"], *corpus["validation"]["text"]], 500).get_vocab()


@pytest.mark.slow
def test_a_runs_recipe_repeats_it_bit_for_bit(run, tmp_path):
    again = train(run.output_dir / "recipe.yaml", output_dir=str(tmp_path / "again"))
    assert again.metrics["before"] == run.metrics["before"]
    assert again.metrics["after"] == run.metrics["after"]
    weights = (path / "model.safetensors" for path in (run.output_dir, again.output_dir))
    assert len({path.read_bytes() for path in weights}) == 1


@pytest.mark.slow
def test_without_an_output_dir_each_run_gets_its_own_folder(checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_steps": 1, "save_strategy": "no"}
    folders = [train(**values).output_dir for _ in range(2)]
    assert folders == [Path("runs/notes"), Path("runs/notes-2")]
    assert not Path("trainer_output").exists()


def test_a_finished_run_is_not_overwritten(run, short_text):
    before = {path.name: path.read_bytes() for path in run.output_dir.iterdir()}
    for recipe, name in ((train, "quickstart"), (reference, "tutorial")):
        with pytest.raises(FileExistsError, match=r"already holds a finished run.*--overwrite"):
            recipe(name, corpus=str(short_text), output_dir=str(run.output_dir))
    assert {path.name: path.read_bytes() for path in run.output_dir.iterdir()} == before


@pytest.mark.slow
def test_overwrite_replaces_a_finished_run(checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_steps": 1, "save_strategy": "no"}
    first = train(output_dir="here", **values)
    second = train(output_dir="here", overwrite=True, **(values | {"max_steps": 2}))
    assert (first.output_dir, first.metrics["train"]["steps"]) == (second.output_dir, 1)
    assert json.loads(Path("here/metrics.json").read_text())["train"]["steps"] == 2


@pytest.mark.slow
def test_adapting_and_pretraining_start_from_the_right_weights(checkpoint, short_text, corpus):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_steps": 1, "save_strategy": "no"}
    adapted = train("adapt", **values)
    assert not adapted.metrics["train"]["random_weights"]
    assert "random weights" not in str(adapted)
    # The checkpoint's weights are untrained, so there is nothing that it could forget.
    assert "Whether anything was forgotten cannot be measured" in " ".join(str(adapted).split())
    scratch = train("adapt", from_scratch=True, vocab_size=300, **values)
    assert scratch.metrics["train"]["random_weights"]
    assert "general" not in scratch.metrics["after"]  # nothing to forget
    assert json.loads((scratch.output_dir / "config.json").read_text())["vocab_size"] == 300


@pytest.mark.slow
def test_the_recipe_for_a_gpu_trains_on_a_cpu_too(checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 64, "general_corpus": "none"}
    metrics = train("adapt-gpu", max_steps=2, per_device_train_batch_size=4, **values).metrics
    assert metrics["train"]["steps"] == 2
    assert metrics["train"]["tokens"] == {"real": 2 * 4 * 64, "padding": 0}


@pytest.mark.slow
def test_pretraining_packs_its_text_and_holds_out_a_separate_text(short_text, tmp_path):
    lines = (ROOT / "mlm_recipes/bundled/corpora/general-english.txt").read_text("utf-8").splitlines()
    (tmp_path / "other.txt").write_text("\n".join(lines[:12]))
    result = train(
        "pretrain-mini", corpus=str(short_text), validation_corpus="other.txt", max_steps=2, logging_steps=1,
        per_device_train_batch_size=4, vocab_size=300, max_length=32, save_strategy="no",
    )  # fmt: skip
    metrics = result.metrics
    assert metrics["corpus"]["validation_corpus"]["name"] == "other"
    metrics_schema.check(metrics)
    assert (metrics["corpus"]["train"], metrics["corpus"]["validation"]) == (60, 12)
    assert metrics["corpus"]["cut_off_tokens"] == 0
    assert metrics["gain"]["rows"] > 12  # 32 tokens each
    assert "paragraphs" not in metrics["gain"]
    assert f"masked tokens of {metrics['gain']['rows']} rows, masked 5 times, the same" in " ".join(str(result).split())
    assert metrics["train"]["random_weights"]
    assert metrics["after"]["loss"] < metrics["before"]["loss"]
    assert len(load_tokenizer(result.output_dir)) <= 300


@pytest.mark.slow
def test_the_reference_learns_and_writes_the_same_folder(checkpoint, short_text, capsys):
    result = reference(
        "tutorial", model=str(checkpoint), corpus=str(short_text), max_length=32, learning_rate=1e-3, num_train_epochs=3
    )
    assert result.output_dir == Path("runs/notes-reference")
    assert result.metrics["train"]["steps"] == 3 * 4  # 54 paragraphs in batches of 16
    assert result.metrics["after"]["loss"] < result.metrics["before"]["loss"]
    assert "Epoch 2: 4 steps, loss=" in capsys.readouterr().out
    assert {"model.safetensors", "metrics.json", "report.html", "recipe.yaml"} <= {
        path.name for path in result.output_dir.iterdir()
    }
    again = evaluate(model=str(result.output_dir))
    assert measures(again.metrics["evaluation"]) == measures(result.metrics["after"])
    assert "mlm-recipes reference recipe.yaml" in (result.output_dir / "README.md").read_text()
    repeated = reference(result.output_dir)
    assert repeated.metrics["after"] == result.metrics["after"]


def test_the_reference_counts_whole_epochs(short_text, checkpoint):
    with pytest.raises(ValueError, match=r"num_train_epochs: received 0\.5"):
        reference(model=str(checkpoint), corpus=str(short_text), num_train_epochs=0.5)


@pytest.mark.slow
def test_a_config_object_is_a_recipe(checkpoint, short_text):
    config = MLMConfig(model=str(checkpoint), corpus=str(short_text), max_steps=1, save_strategy="no", output_dir="out")
    result = train(config, max_steps=2)
    assert (result.output_dir, result.metrics["train"]["steps"]) == (Path("out"), 2)


def test_the_last_screen_shows_gain_and_forgetting(run):
    screen = " ".join(str(run).split())
    for expected in (wording.headline(run.metrics), "forgotten: on general-english (", str(run.output_dir)):
        assert expected in screen
    assert "random weights" not in screen
    for entry in run.metrics["after"]["fill_mask"]:
        assert entry["answer"] in screen


@pytest.mark.slow
def test_the_last_screen_explains_the_result_of_random_weights(from_random):
    run = from_random
    screen = " ".join(str(run).split())
    assert "This model started from random weights" in screen
    assert "how often each word occurs: word frequencies alone give a loss of" in screen
    assert "MODEL=google-bert/bert-base-uncased" in screen
    assert str(run.output_dir) in screen
    for entry in run.metrics["after"]["fill_mask"]:
        assert entry["answer"] in screen


def test_a_run_that_cannot_start_leaves_nothing(short_text):
    for values in (
        {"corpus": "no-such-file.txt"},
        {"corpus": str(short_text), "model": "./no-such-model"},
        {"corpus": str(short_text), "max_length": 5000},
        {"corpus": str(short_text), "learning_rat": 1},
    ):
        with pytest.raises((ValueError, OSError)):
            train(output_dir="out", **values)
    assert not list(Path.cwd().iterdir())


def test_held_out_text_with_nothing_masked_is_refused_before_training(tmp_path, checkpoint):
    (tmp_path / "tiny.txt").write_text("\u200b\n\ufeff\n")  # text, but without characters that the tokenizer keeps
    with pytest.raises(ValueError, match="nothing of the training text is in the vocabulary"):
        train("adapt", model=str(checkpoint), corpus="tiny.txt")
    assert not Path("runs").exists()


def test_a_text_of_a_few_lines_is_enough(tmp_path, checkpoint):
    (tmp_path / "note.txt").write_text("".join(f"line {n}\n" for n in ("one", "two", "three", "four", "five")))
    result = train("adapt", model=str(checkpoint), corpus="note.txt", save_strategy="no", **SHORT_EVALUATION)
    assert "general" not in result.metrics["after"]
    assert result.metrics["after"]["masked_tokens"] >= 1
    assert "There are few masked tokens" in str(result)
    assert "of 1 paragraph, masked 2 times, the same before and after. These are too few for an interval." in " ".join(
        str(result).split()
    )


@pytest.fixture
def written(monkeypatch):
    """The values that the package's modules set in configs after their creation."""
    made, found = {}, []  # the configs are kept alive, so that no two have the same address in memory
    write, post_init = MLMConfig.__setattr__, MLMConfig.__post_init__

    def note(self, name, value):
        writer = sys._getframe(1).f_globals["__name__"]
        if id(self) in made and writer.startswith("mlm_recipes"):
            found.append((writer, name))
        write(self, name, value)

    def finish(self):
        made.pop(id(self), None)
        post_init(self)
        made[id(self)] = self

    monkeypatch.setattr(MLMConfig, "__setattr__", note)
    monkeypatch.setattr(MLMConfig, "__post_init__", finish)
    return found


@pytest.mark.slow
def test_no_verb_writes_to_a_config(written, checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 32, **SHORT_EVALUATION}
    steps = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    run = train("adapt", train_minutes=0.001, **values, **steps).output_dir
    train(run, overwrite=True, resume_from_checkpoint=True)
    evaluate("adapt", **values)
    reference("tutorial", num_train_epochs=1, **values)
    inspect_corpus("adapt", **values)
    verify("adapt", **values)
    assert written == []
    exec("config.seed = 1", {"__name__": "mlm_recipes.somewhere", "config": MLMConfig()})
    assert written == [("mlm_recipes.somewhere", "seed")]


@pytest.mark.slow
def test_a_config_can_be_used_again(checkpoint, short_text):
    config = MLMConfig(model=str(checkpoint), corpus=str(short_text), max_steps=1, save_strategy="no")
    evaluate(config)
    assert [train(config).output_dir, train(config).output_dir] == [Path("runs/notes"), Path("runs/notes-2")]


@pytest.mark.slow
@pytest.mark.parametrize("long_text", ["truncate", "split"])
def test_the_handling_of_long_paragraphs_is_logged(tmp_path, checkpoint, caplog, long_text):
    lines = [*(f"a short line about {n}" for n in ("one", "two", "three")), "a long line " * 100]
    (tmp_path / "long.txt").write_text("\n".join(lines))
    with caplog.at_level("INFO", logger="mlm_recipes"):
        result = train(
            "adapt", model=str(checkpoint), corpus="long.txt", save_strategy="no", max_steps=1, long_text=long_text
        )
    facts = result.metrics["corpus"]
    assert "Longer than 128 tokens: 1 paragraph," in caplog.text
    if long_text == "truncate":
        assert (facts["max_length"], facts["cut_off_paragraphs"], facts["rows"]) == (128, 1, 4)
        assert facts["cut_off_tokens"] > 100
        page = (result.output_dir / "report.html").read_text()
        assert f"{facts['cut_off_tokens']:,} tokens, the ends of 1 paragraph longer than 128 tokens" in page
    else:
        assert (facts["cut_off_paragraphs"], facts["split_paragraphs"], facts["rows"]) == (0, 1, 7)
        assert "split at the ends of sentences; 7 rows in all" in caplog.text


@pytest.mark.slow
def test_the_rows_of_a_long_paragraph_count_as_one_paragraph(tmp_path, checkpoint):
    (tmp_path / "text.txt").write_text("a line\nanother line\n")
    (tmp_path / "held_out.txt").write_text("a long line " * 100 + "\na short line\n")
    values = {"corpus": "text.txt", "validation_corpus": "held_out.txt", "save_strategy": "no", "max_steps": 1}
    metrics = train("adapt", model=str(checkpoint), **values).metrics
    assert metrics["corpus"]["rows"] > 6
    assert metrics["gain"]["paragraphs"] == 2


@pytest.mark.slow
def test_standard_input_is_saved_so_that_the_run_can_be_repeated(checkpoint, short_text, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(short_text.read_bytes())))
    run = train("adapt", model=str(checkpoint), corpus="-", save_strategy="no", max_steps=1)
    again = train(run.output_dir / "recipe.yaml", output_dir="again")
    assert again.metrics["after"] == run.metrics["after"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "says"),
    [
        pytest.param(1, r"has diverged, and nothing was saved.*Lower --learning_rate", marks=pytest.mark.slow),
        (
            4,
            r"at step 2 .*not finite: nan in process 0 \(example_id 48, .*no checkpoint has been saved yet",
        ),
    ],
)
def test_a_diverged_run_is_an_error(checkpoint, short_text, steps, says):
    values = {"model": str(checkpoint), "corpus": str(short_text), "save_strategy": "no", "max_steps": steps}
    with pytest.raises(ValueError, match=says):
        train("adapt", learning_rate=1e30, max_grad_norm=0.0, **values)
    assert [path.name for path in Path("runs/notes").iterdir()] == ["recipe.yaml"]
    assert not Path("runs/notes/metrics.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        *({"loss_on": "masked"}, {"max_steps": 1}, {"lr_scheduler_type": "linear"}, {"gradient_accumulation_steps": 2}),
        *({"masking_policy": "whole_word"}, {"freeze": "body"}, {"layerwise_lr_decay": 0.9}, {"head_warmup_steps": 3}),
        {"global_batch_size": 32},
    ],
)
def test_the_reference_refuses_values_that_it_does_not_support(checkpoint, short_text, changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}: received .*the tutorial's loop supports nothing else"):
        reference(model=str(checkpoint), corpus=str(short_text), **changes)


@pytest.mark.slow
def test_the_quickstart_lowers_the_held_out_loss():
    """In about a minute on two cores, the held-out loss falls significantly; from random weights it ends far higher."""
    result = train("quickstart")
    assert result.metrics["gain"]["low"] > 0.1
    random = train("quickstart", model="mini-random")
    assert random.metrics["after"]["loss"] > result.metrics["after"]["loss"] + 2
