"""What is new in a loaded model is one line of our own; transformers' table is not shown."""

from __future__ import annotations

import json

import pytest
from conftest import make_bert
from transformers import BertForPreTraining, BertForSequenceClassification, BertModel, modeling_utils

from mlm_recipes import load_model


@pytest.fixture
def said(caplog):
    """Load a folder; return what was logged, after checking that transformers said nothing."""

    def load(folder, tokenizer):
        caplog.clear()
        with caplog.at_level("INFO", logger="mlm_recipes"):
            load_model(folder, tokenizer)
        assert "REPORT" not in caplog.text
        assert "corrupted" not in caplog.text
        return [record.getMessage() for record in caplog.records if record.name.startswith("mlm_recipes")]

    return load


def kept_as(kind, tokenizer, folder):
    kind(make_bert(tokenizer).config).save_pretrained(folder)


def test_nothing_is_said_of_a_complete_model(checkpoint, tokenizer, said):
    assert said(checkpoint, tokenizer) == []


def test_nothing_is_said_of_heads_for_other_tasks_beside_it(tokenizer, said):
    kept_as(BertForPreTraining, tokenizer, "pretrained")  # with a pooler and a head for the next sentence
    assert said("pretrained", tokenizer) == []


def test_a_new_head_is_counted(tokenizer, said):
    kept_as(BertModel, tokenizer, "encoder")
    (line,) = said("encoder", tokenizer)
    # A dense layer of 32 x 32, its bias and its norm, and the bias of 1000 tokens; the table is the encoder's.
    count = 32 * 32 + 32 + 2 * 32 + 1000
    assert line.startswith(f"encoder: the masked-language-modelling head is new: {count:,} parameters start random (")
    assert line.endswith("; left out: pooler.")


def test_what_is_left_out_for_a_new_head_is_named(tokenizer, said):
    kept_as(BertForSequenceClassification, tokenizer, "classifier")
    (line,) = said("classifier", tokenizer)
    assert line.endswith("; left out: classifier, pooler.")


def change_layers(folder, layers):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))


def test_layers_that_start_random_are_not_called_a_head(tokenizer, said, tmp_path):
    make_bert(tokenizer).save_pretrained(tmp_path / "more")
    change_layers(tmp_path / "more", 3)
    (line,) = said("more", tokenizer)
    assert "parameters of the model itself are not in its folder and start random (bert.encoder.layer.2." in line
    assert "head" not in line


def test_layers_that_are_not_used_are_named(tokenizer, said, tmp_path):
    make_bert(tokenizer).save_pretrained(tmp_path / "fewer")
    change_layers(tmp_path / "fewer", 1)
    (line,) = said("fewer", tokenizer)
    assert "16 weights of its folder have no place in the model and are not used (bert.encoder.layer.1." in line


def test_a_model_of_which_most_is_missing_is_refused(tokenizer, tmp_path):
    make_bert(tokenizer, num_hidden_layers=1).save_pretrained(tmp_path / "most")
    change_layers(tmp_path / "most", 12)
    with pytest.raises(ValueError, match=r"holds no weights for most of the model that its config.json describes"):
        load_model("most", tokenizer)


def test_other_messages_of_transformers_are_shown(caplog, checkpoint, tokenizer):
    with caplog.at_level("WARNING"):
        load_model(checkpoint, tokenizer)
        modeling_utils.logger.warning("A LOAD REPORT after all")
    assert not modeling_utils.logger.filters
