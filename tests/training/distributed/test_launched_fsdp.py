"""FSDP that the launcher asks for is recorded as the run's."""

from __future__ import annotations

import os

import pytest

from mlm_recipes import MLMConfig

LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}  # fmt: skip


def test_the_recipe_repeats_what_the_launcher_asked_for(monkeypatch, caplog):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    args = MLMConfig(use_cpu=True, fsdp=False)
    assert "fsdp is on, although the config says false: the launcher asks for it." in caplog.text
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"  # each process loads the model
    recipe = args.to_recipe()
    assert recipe["fsdp"] is True
    for name in LAUNCHED:
        monkeypatch.delenv(name)
    again = MLMConfig(use_cpu=True, fsdp=True, fsdp_config=recipe["fsdp_config"])
    assert again.fsdp_plugin_args["fsdp_version"] == 2
    assert again.fsdp_plugin_args["reshard_after_forward"] is False


def test_entries_of_the_config_are_kept(monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    args = MLMConfig(use_cpu=True, fsdp_config={"reshard_after_forward": True})
    assert args.fsdp_plugin_args["reshard_after_forward"] is True


def test_the_launchers_default_version_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(ValueError, match=r"launcher: received --fsdp_version 1.* Pass --fsdp_version 2"):
        MLMConfig(use_cpu=True)
