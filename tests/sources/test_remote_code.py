"""A model's own code is run only if it is the model that was named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlm_recipes import MLMConfig, MLMTrainer, cli, evaluate, fill, load_model, load_tokenizer, train
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.sources import remote_code

CODE = """
from pathlib import Path
from transformers import BertConfig, BertForMaskedLM, BertTokenizer
Path({canary!r}).touch()
class OddConfig(BertConfig):
    model_type = "odd"
class OddForMaskedLM(BertForMaskedLM):
    config_class = OddConfig
class OddTokenizer(BertTokenizer):
    pass
"""


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def brings_code(folder, checkpoint, canary, where="", kind="odd"):
    """Make a model with a Python file that writes a canary file when it is run."""
    shutil.copytree(checkpoint, folder)
    (folder / "odd.py").write_text(CODE.format(canary=str(canary)))
    auto_map = {"AutoConfig": f"{where}odd.OddConfig", "AutoModelForMaskedLM": f"{where}odd.OddForMaskedLM"}
    edit(folder / "config.json", model_type=kind, auto_map=auto_map)
    return str(folder)


@pytest.fixture
def model(tmp_path, checkpoint):
    return brings_code(tmp_path / "odd", checkpoint, tmp_path / "canary")


def test_untrusted_code_is_refused_without_a_prompt(model, short_text, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    for arguments in (
        ["train", "--corpus", str(short_text), "--model", model],
        ["inspect", str(short_text), "--model", model],
        ["fill", model, "The [MASK]."],
        ["evaluate", "--corpus", str(short_text), "--model", model],
        ["verify", "--corpus", str(short_text), "--model", model],
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mlm-recipes: error: model: {model!r} needs its own code")
        assert f"--trust_remote_code {model}." in error
        assert len(error.splitlines()) == 1
    for load in (lambda: load_tokenizer(model), lambda: load_model(model, None), lambda: MLMTrainer(model)):
        with pytest.raises(ValueError, match="needs its own code"):
            load()
    assert not Path("canary").exists()


def test_code_of_a_tokenizer_only(checkpoint, tmp_path):
    folder = tmp_path / "odd"
    brings_code(folder, checkpoint, tmp_path / "canary", kind="bert")
    own = {"AutoTokenizer": ["odd.OddTokenizer", None]}
    edit(folder / "tokenizer_config.json", tokenizer_class="OddTokenizer", auto_map=own)
    try:
        load_tokenizer(str(folder))  # transformers reads tokenizer.json instead, where it can
    except ValueError as error:
        assert "needs its own code" in str(error)  # noqa: PT017
    assert not Path("canary").exists()
    load_tokenizer(str(folder), trust_remote_code=str(folder))
    assert Path("canary").exists()


def test_an_architecture_that_transformers_has_needs_no_code(checkpoint, tmp_path):
    folder = brings_code(tmp_path / "odd", checkpoint, tmp_path / "canary", kind="bert")
    assert type(load_model(folder, load_tokenizer(folder))).__module__.startswith("transformers.")
    assert not Path("canary").exists()


def test_code_of_the_named_model_is_run(model, short_text):
    values = {"corpus": str(short_text), "max_length": 32, "max_steps": 1, "general_corpus": "none"}
    result = train("adapt", model=model, trust_remote_code=model, output_dir="run", **values)
    assert Path("canary").exists()
    assert "trust_remote_code" not in Path("run/recipe.yaml").read_text()
    # and what it leaves is a model of its own, to be trusted by its own name
    with pytest.raises(ValueError, match="'run' needs its own code"):
        evaluate("run")
    with pytest.raises(ValueError, match=r"received .* for the model 'run'"):
        evaluate("run", trust_remote_code=model)
    measured = evaluate("run", trust_remote_code="run").metrics["evaluation"]["loss"]
    assert measured == result.metrics["after"]["loss"]  # the same batches in the same process
    assert fill("run", "The [MASK].", trust_remote_code="run")


@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "false", ""])
def test_a_switch_is_refused(value, model, capsys):
    assert cli.main(["train", "--model", model, "--trust_remote_code", value]) == 2
    assert "Accepted: the name of the one model whose code may be run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Accepted: the name of the one model"):
        MLMConfig(trust_remote_code=value)
    assert not Path("canary").exists()


def test_another_models_name_is_refused(model):
    with pytest.raises(ValueError, match="Accepted: the name of this model"):
        train("adapt", model=model, trust_remote_code="someone/else")
    assert not Path("canary").exists()


def test_a_recipe_file_cannot_set_trust_remote_code(model):
    Path("recipe.yaml").write_text(f"model: {model}\ntrust_remote_code: {model}\n")
    with pytest.raises(ValueError, match="only the user who runs a recipe may allow"):
        read_config("recipe.yaml")
    given = read_config("quickstart", {"model": model, "trust_remote_code": model})
    assert given.trust_remote_code == model
    assert read_config(given, {"model": "mini"}).trust_remote_code is None


def test_trust_does_not_extend_to_another_repository(checkpoint, tmp_path):
    folder = brings_code(tmp_path / "odd", checkpoint, tmp_path / "canary", where="someone/else--")
    with pytest.raises(ValueError, match=r"takes its code from someone/else.*Copy the .py files there"):
        load_model(folder, None, trust_remote_code=folder)


def test_a_config_that_is_not_json_is_left_to_transformers(tmp_path):
    (tmp_path / "config.json").write_text("[1]")
    assert remote_code.arguments("x", tmp_path, None) == {"trust_remote_code": False}
