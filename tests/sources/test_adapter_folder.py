"""What an adapter belongs to is read from its file; one that cannot be used is refused with what to do."""

from __future__ import annotations

import json

import pytest

from mlm_recipes.sources import adapter_folder
from mlm_recipes.sources.adapter_folder import Adapter, adapter_in
from mlm_recipes.sources.model_folder import is_model, model_folder

LORA = {"peft_type": "LORA", "base_model_name_or_path": "some/bert", "revision": "abc"}


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(adapter_folder, "is_installed", lambda package: True)


def folder_with(folder, config, weights="adapter_model.safetensors"):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / weights).write_bytes(b"")
    return folder


def test_its_base_and_the_revision_are_read(tmp_path):
    folder = folder_with(tmp_path / "a", LORA)
    assert adapter_in(folder, "a") == Adapter("some/bert", "abc")
    assert adapter_in(folder_with(folder, LORA | {"revision": None}), "a") == Adapter("some/bert", None)
    assert model_folder(folder) == folder
    assert is_model(folder)


def test_a_model_holds_none(checkpoint):
    assert adapter_in(checkpoint, "x") is None


def test_without_peft_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter_folder, "is_installed", lambda package: False)
    with pytest.raises(
        ValueError,
        match=r"^model: 'a' holds an adapter of the model 'some/bert'\. Reading it needs .*pip install peft$",
    ):
        adapter_in(folder_with(tmp_path / "a", LORA), "a")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            LORA | {"peft_type": "IA3"},
            r"of the model 'some/bert', of the kind IA3\. Accepted: .*LORA.*merge_and_unload",
        ),
        (LORA | {"megatron_config": {"a": 1}}, r"trained with Megatron"),  # peft would import what the file names
        ({"peft_type": "LORA"}, r"does not say of which model.*base_model_name_or_path"),
        ("[]", r"adapter_config\.json cannot be read"),
        ("{", r"adapter_config\.json cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        adapter_in(folder_with(tmp_path / "a", config), "a")


def test_weights_that_can_run_code_are_not_read(tmp_path):
    folder = folder_with(tmp_path / "a", LORA, weights="adapter_model.bin")
    with pytest.raises(ValueError, match=r"without adapter_model\.safetensors\. Accepted: .*can run code"):
        adapter_in(folder, "a")
