"""What transformers refuses in a config is a ValueError that names the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes import MLMConfig, cli
from mlm_recipes.model.loading import load_model
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.sources.missing_packages import MissingPackageError


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"accelerator_config": '{"a": '}, "^accelerator_config: received .* not JSON .*Accepted: a dict, or JSON"),
        ({"accelerator_config": "none.json"}, "^accelerator_config: 'none.json' cannot be read .*No such file"),
        ({"accelerator_config": {"lorem": 1}}, "^accelerator_config: .*unexpected keyword argument 'lorem'"),
        ({"accelerator_config": 3}, "^accelerator_config: received 3. Accepted: a dict"),
        ({"lr_scheduler_kwargs": "num_cycles=2"}, "^lr_scheduler_kwargs: received 'num_cycles=2'.*Write it in braces"),
        ({"fsdp": True, "fsdp_config": "list.json"}, "^fsdp_config: .* not JSON .it contains no object"),
        ({"deepspeed": "list.json"}, "^deepspeed: .* not JSON .it contains no object"),
    ],
)
def test_a_value_is_named(values, says):
    Path("list.json").write_text("[1]")
    with pytest.raises(ValueError, match=says):
        MLMConfig(use_cpu=True, **values)
    if not isinstance(values.get("accelerator_config"), int):  # the command line knows only words: a file named 3
        with pytest.raises(ValueError, match=says):
            read_config("adapt", values)


def test_deepspeed_without_its_package_is_one_line(capsys):
    Path("ds.json").write_text('{"zero_optimization": {"stage": 2}}')
    with pytest.raises(MissingPackageError, match=r"^deepspeed: .*pip install deepspeed$"):
        MLMConfig(deepspeed="ds.json", use_cpu=True)
    assert cli.main(["train", "adapt", "--deepspeed", "ds.json"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mlm-recipes: error: deepspeed: it needs a package that is not installed here: deepspeed. ")
    assert len(said.splitlines()) == 1


def test_a_refused_deepspeed_config_does_not_reach_the_next_model(tokenizer):
    with pytest.raises(MissingPackageError) as kept:  # as a notebook keeps the last error
        MLMConfig(deepspeed={"zero_optimization": {"stage": 2}}, use_cpu=True)
    assert load_model("mini-random", tokenizer).num_parameters() > 0, kept
