"""An optimizer's state in safetensors and JSON, here of a single process; test_sharded_trainer.py has several."""

from __future__ import annotations

import pickle

import pytest
import torch

from mlm_recipes.checkpoints.sharded_states import FOLDER, has_shards, load_state, save_state

WEIGHTS = {"a.weight": torch.ones(3, 2), "b": torch.ones(2)}
STATE = {
    "a.weight": {"exp_avg": torch.arange(6.0).reshape(3, 2), "step": torch.tensor(5.0), "count": 3},
    "b": {"exp_avg": torch.tensor([1.5, 2.5]), "step": torch.tensor(5.0), "none": None},
}
GROUPS = [{"lr": 0.1, "betas": (0.9, 0.99), "foreach": None, "params": ["a.weight", "b"]}]


def test_a_state_is_what_it_was_and_no_pickle_is_opened(tmp_path, monkeypatch):
    assert not has_shards(tmp_path)
    save_state(tmp_path, STATE, GROUPS, main=True)
    assert has_shards(tmp_path)
    assert {path.suffix for path in (tmp_path / FOLDER).iterdir()} == {".safetensors", ".json"}

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle is opened")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    state, groups = load_state(tmp_path, WEIGHTS)
    assert groups == [{"lr": 0.1, "betas": [0.9, 0.99], "foreach": None, "params": ["a.weight", "b"]}]
    assert state.keys() == STATE.keys()
    for name, values in STATE.items():
        assert state[name].keys() == values.keys()
        for key, value in values.items():
            found = state[name][key]
            assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value


def test_a_state_of_another_model_is_refused(tmp_path):
    save_state(tmp_path, STATE, GROUPS, main=True)
    with pytest.raises(ValueError, match=r"holds the optimizer's state of a\.weight, which this model does not train"):
        load_state(tmp_path, {"b": WEIGHTS["b"]})


def test_only_the_main_process_writes_what_is_not_a_tensor(tmp_path):
    save_state(tmp_path, STATE, GROUPS, main=False)
    assert not has_shards(tmp_path)


def test_a_value_that_json_does_not_know_is_refused(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_state(tmp_path, {"b": {"what": object()}}, GROUPS, main=True)
