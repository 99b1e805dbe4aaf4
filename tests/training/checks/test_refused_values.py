"""What transformers refuses in a config is a ValueError that names the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import read_config


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"accelerator_config": '{"a": '}, "^accelerator_config: received .* not JSON .*Accepted: a dict, or JSON"),
        ({"accelerator_config": "none.json"}, "^accelerator_config: 'none.json' cannot be read .*No such file"),
        ({"accelerator_config": {"lorem": 1}}, "^accelerator_config: .*unexpected keyword argument 'lorem'"),
        ({"accelerator_config": 3}, "^accelerator_config: received 3. Accepted: a dict"),
        ({"lr_scheduler_kwargs": "num_cycles=2"}, "^lr_scheduler_kwargs: received 'num_cycles=2'.*Write it in braces"),
        ({"fsdp": True, "fsdp_config": "list.json"}, "^fsdp_config: .* not JSON .it contains no object"),
    ],
)
def test_a_value_is_named(values, says):
    Path("list.json").write_text("[1]")
    with pytest.raises(ValueError, match=says):
        MLMConfig(use_cpu=True, **values)
    if not isinstance(values.get("accelerator_config"), int):  # the command line knows only words: a file named 3
        with pytest.raises(ValueError, match=says):
            read_config("adapt", values)
