from __future__ import annotations

import csv
import inspect
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from mlm_recipes import finetune_file, load_model, load_tokenizer, train
from mlm_recipes.cli import main
from mlm_recipes.recipes import classifier
from mlm_recipes.recipes.classifier import Encoder, Task, answers
from mlm_recipes.recipes.finetune import finetune, rate_for
from mlm_recipes.recipes.run_folder import FINETUNE, begin

VALUES = {
    "max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "save_strategy": "no", "learning_rate": 1e-2,
    "general_corpus": "none", "eval_draws": 1, "pseudo_perplexity_tokens": 50, "prompts_compared": 3,
}  # fmt: skip
SETTINGS = {
    "steps": 3, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1, "weight_decay": 0.01, "max_length": 16,
    "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text, checkpoint):
    folder = tmp_path_factory.mktemp("finetune") / "run"
    train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), **VALUES)
    return folder


@pytest.fixture
def own_run(run, tmp_path):
    return shutil.copytree(run, tmp_path / "own")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A hundred short texts whose label is a word in them, as a table."""
    path = tmp_path_factory.mktemp("labelled") / "topics.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(100):
            writer.writerow([f"{['soul', 'body'][number % 2]} of man {number}", ["soul", "body"][number % 2]])
    return path


@pytest.fixture
def encoder(checkpoint):
    return Encoder("bert", checkpoint, load_tokenizer(checkpoint))


@pytest.fixture
def task():
    texts = [f"{['soul', 'body'][number % 2]} of man {number}" for number in range(40)]
    return Task(texts[:24], np.arange(24) % 2, texts[24:], 2)


def test_a_run_is_compared_with_what_it_started_from(own_run, checkpoint, table, capsys):
    assert main(["finetune", str(own_run), "--on", str(table), "--max_steps", "2", "--max_length", "16"]) == 0
    (found,) = json.loads((own_run / FINETUNE).read_text("utf-8"))["tasks"]
    assert (found["against"], found["as_before"]) == (str(checkpoint), True)
    assert found["on"]["labels"] == {"body": 12, "soul": 13} or found["on"]["labels"] == {"body": 13, "soul": 12}
    assert (found["on"]["trained"], found["on"]["measured"]) == (75, 25)
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2, 3, 4]
    assert (found["settings"]["steps"], found["settings"]["max_length"]) == (2, 16)
    means = np.mean([[seed["accuracy_before"], seed["accuracy_after"]] for seed in found["seeds"]], axis=0)
    assert [found["accuracy"]["before"], found["accuracy"]["after"]] == pytest.approx(means.tolist())
    assert found["accuracy"]["low"] <= found["accuracy"]["change"] <= found["accuracy"]["high"]
    screen = " ".join(capsys.readouterr().out.split())
    assert f"{found['accuracy']['after']:.1%} of 25 held-out texts correctly after this training" in screen
    assert "accuracy, mean" in screen
    assert finetune_file.Finetuned.__annotations__.keys() == found.keys()
    for name, kind in (("on", finetune_file.FinetuneTexts), ("settings", finetune_file.FinetuneSettings)):
        assert kind.__annotations__.keys() == found[name].keys()


@pytest.mark.slow
def test_a_run_against_itself_differs_in_nothing(own_run, table):
    """The same seeds, steps and texts: two equal encoders give the same answers, each time."""
    found = finetune(own_run, str(table), str(own_run), max_steps=3, learning_rate=1e-2)
    assert all(seed["accuracy_before"] == seed["accuracy_after"] for seed in found.facts["seeds"])
    assert found.facts["accuracy"]["high"] == found.facts["accuracy"]["low"] == 0
    assert found.facts["as_before"] is False
    assert "No measurable change" in str(found)


def test_after_is_the_run_s_encoder(own_run, table, monkeypatch):
    def answer(encoder, task, *_):
        right = np.array([int("soul" in text) for text in task.held])
        return right if encoder.name == str(own_run) else 0 * right

    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", answer)
    found = finetune(own_run, str(table), max_steps=1)
    accuracy, macro_f1 = found.facts["accuracy"], found.facts["macro_f1"]
    assert (accuracy["after"], macro_f1["after"], accuracy["verdict"]) == (1, 1, "better")
    assert accuracy["before"] == pytest.approx(found.facts["on"]["labels"]["body"] / 25)
    assert found.facts["seeds"][0]["accuracy_after"] == found.facts["seeds"][0]["macro_f1_after"] == 1
    assert "classifies 100.0% of 25 held-out texts correctly after this training" in " ".join(str(found).split())


def test_other_results_are_kept_and_the_same_is_replaced(own_run, table, monkeypatch):
    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", lambda encoder, task, *_: np.zeros(len(task.held), int))
    for steps in (2, 3, 2):
        finetune(own_run, str(table), max_steps=steps)
    tasks = json.loads((own_run / FINETUNE).read_text("utf-8"))["tasks"]
    assert [each["settings"]["steps"] for each in tasks] == [3, 2]
    assert (own_run / "metrics.json").read_bytes()


def test_a_result_that_ended_in_the_meantime_is_kept(own_run, table, monkeypatch):
    def answer(encoder, task, settings, seed):
        if settings["steps"] == 2 and not inner:
            inner.append(finetune(own_run, str(table), max_steps=3))
        return np.zeros(len(task.held), int)

    inner = []
    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", answer)
    finetune(own_run, str(table), max_steps=2)
    tasks = json.loads((own_run / FINETUNE).read_text("utf-8"))["tasks"]
    assert [each["settings"]["steps"] for each in tasks] == [3, 2]
    begin(own_run, {})
    assert not (own_run / FINETUNE).exists()  # it was about the model that is trained over


def test_a_file_that_is_not_ours_is_not_replaced(own_run, table):
    (own_run / FINETUNE).write_text("[]")
    with pytest.raises(ValueError, match=r"does not hold results of this version. Accepted: .* Move it away"):
        finetune(own_run, str(table), max_steps=1)
    assert (own_run / FINETUNE).read_text() == "[]"


def test_a_base_that_cannot_be_loaded_is_refused(own_run, table):
    recipe = yaml.safe_load((own_run / "recipe.yaml").read_text("utf-8"))
    (own_run / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"model": "./gone"}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"against: the model that .* started from cannot be loaded: .*'\./gone'.*PATH"
    ):
        finetune(own_run, str(table), max_steps=1)
    assert not (own_run / FINETUNE).exists()


@pytest.mark.slow
def test_the_words_that_a_run_added_are_not_before_s(short_text, checkpoint, table, monkeypatch):
    words = {"add_tokens": ["grandfather", "philosopher"]}
    train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir="words", **words, **VALUES)
    seen = []

    def answer(encoder, task, *_):
        seen.append(len(encoder.tokenizer))
        assert encoder.classifier(2).get_input_embeddings().weight.shape[0] == seen[-1]
        return np.zeros(len(task.held), int)

    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", answer)
    finetune("words", str(table), max_steps=1)
    size = len(load_tokenizer(checkpoint))
    assert seen == [size, size + 2] * 5


@pytest.mark.slow
def test_random_weights_are_those_that_the_run_began_with(short_text, table, monkeypatch):
    found = train("quickstart", model="mini-random", corpus=str(short_text), output_dir="run", vocab_size=500, **VALUES)
    seen = []

    def keep(name, model, tokenizer, folder):
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return Encoder(name, folder, tokenizer)

    monkeypatch.setattr(Encoder, "keep", keep)
    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", lambda encoder, task, *_: np.zeros(len(task.held), int))
    finetune("run", str(table), max_steps=1)
    trained, begun = seen
    # Two steps of training move each weight by little, and another draw would move it by a lot.
    name = next(key for key in begun if key.endswith("tok_embeddings.weight"))
    assert (trained[name] - begun[name]).norm() < begun[name].norm()
    assert found.metrics["train"]["random_weights"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seeds": 4}, "seeds: received 4. Accepted: 5 or more"),
        ({"max_steps": 0}, "max_steps: received 0. Accepted: 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate: received -1.0"),
        ({"label_column": "topic"}, "label_column: "),
        ({"against": "./nowhere"}, "there is no folder './nowhere'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(run, table, values, said, monkeypatch):
    monkeypatch.setattr("mlm_recipes.recipes.finetune.answers", None)
    with pytest.raises(ValueError, match="Accepted") as error:
        finetune(run, str(table), **values)
    assert said in str(error.value)
    assert "probe_" not in str(error.value)


def test_too_few_texts_to_measure(run):
    Path("few.csv").write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40)))
    with pytest.raises(ValueError, match=r"on: 'few' leaves 10 held-out texts. Accepted: 20 held-out texts"):
        finetune(run, "few.csv")


def test_not_a_finished_run(table):
    with pytest.raises(FileNotFoundError, match=r"finetune: 'nowhere' has no metrics.json"):
        finetune("nowhere", str(table))


def test_several_processes_are_refused(run, table, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="received several processes"):
        finetune(run, str(table))


def test_the_seed_decides_and_nothing_else(encoder, task, monkeypatch):
    """Two encoders get the same head, whatever random numbers were drawn before."""
    heads = []

    class Watched(classifier.Trainer):
        def train(self, *args, **kwargs):
            heads.append(self.model.classifier.weight.detach().clone())
            return super().train(*args, **kwargs)

    monkeypatch.setattr(classifier, "Trainer", Watched)
    found = []
    for drawn, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(drawn)
        found.append(answers(encoder, task, SETTINGS, seed))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert found[0].tolist() == found[1].tolist()
    assert found[2].shape == (16,)


def test_it_learns(encoder, task):
    """A label that is a word of the text is learned, so the answers belong to the texts."""
    found = answers(encoder, task, SETTINGS | {"steps": 60, "learning_rate": 1e-2}, 0)
    assert (found == np.arange(24, 40) % 2).mean() > 0.9


def test_the_whole_encoder_is_trained(encoder, task, monkeypatch):
    kept = []

    class Watched(classifier.Trainer):
        def train(self, *args, **kwargs):
            before = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
            super().train(*args, **kwargs)
            kept.append([name for name, weight in self.model.named_parameters() if torch.equal(weight, before[name])])

    monkeypatch.setattr(classifier, "Trainer", Watched)
    answers(encoder, task, SETTINGS, 0)
    # The key bias moves nothing: it adds the same to all scores before the softmax, up to rounding.
    assert [name for name in kept[0] if "key.bias" not in name] == []


def test_nothing_of_the_encoder_is_new(checkpoint, encoder):
    model, masked = encoder.classifier(3), load_model(checkpoint, encoder.tokenizer)
    for name, weight in masked.base_model.named_parameters():
        assert torch.equal(weight, model.base_model.get_parameter(name)), name
    assert model.classifier.weight.shape[0] == 3


def test_an_encoder_with_weights_missing_is_refused(checkpoint, tmp_path, encoder):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    lacking = Encoder("lacking", folder, encoder.tokenizer)
    with pytest.raises(ValueError, match=r"weights that its masked-language model lacks \(bert.encoder.layer.1"):
        lacking.classifier(2)


def test_a_model_without_a_classifier_is_refused(tmp_path, encoder):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/config.json").write_text('{"model_type": "nothing-that-there-is"}')
    with pytest.raises(ValueError, match="'odd' cannot be fine-tuned for classification"):
        Encoder("odd", tmp_path / "odd", encoder.tokenizer).classifier(2)


def test_small_models_learn_faster():
    assert [rate_for(millions * 10**6) for millions in (5, 30, 110, 340)] == [3e-4, 1e-4, 5e-5, 2e-5]


def test_the_loop_is_trainer_s():
    """No loss, optimizer or schedule of our own."""
    source = inspect.getsource(classifier)
    assert not [word for word in ("optim.", "backward", "compute_loss", "lr_scheduler") if word in source]


@pytest.mark.slow
def test_the_page_s_code_runs(run, table, tmp_path, capsys):
    page = (ROOT / "docs/fine-tuning.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    shutil.copytree(run, tmp_path / "runs/meditations")
    shutil.copy(table, tmp_path / "reviews.csv")
    exec(code.replace("max_steps=300", "max_steps=1"), {})
    assert "'verdict': " in capsys.readouterr().out
