"""`mix` means the same however it is written."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from transformers import HfArgumentParser

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.training.batches.mix_option import mix_option, mixes_general

BOTH = {"general": 0.1, "a b=c.txt": 0.25}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (BOTH, BOTH),
        (["general=0.1", "a b=c.txt=0.25"], BOTH),
        ('{"general": 0.1, "a b=c.txt": "0.25"}', BOTH),
        ("general=0.1", {"general": 0.1}),
        (None, None),
        ("none", None),
        ({}, None),
    ],
)
def test_however_it_is_written(written, found):
    config = MLMConfig(mix=written)
    for each in (config, dataclasses.replace(config), MLMConfig(**config.to_recipe())):
        assert each.mix == found
    assert yaml.safe_load(yaml.safe_dump(config.to_recipe()))["mix"] == found
    assert read_config("quickstart", {"mix": written}).mix == found


def test_on_a_command_line_and_in_a_recipe(tmp_path):
    given = parse_arguments(["--mix", "general=0.1", "a b=c.txt=0.25", "--seed", "3"])
    assert read_config("quickstart", given).mix == BOTH
    assert read_config("quickstart", parse_arguments(["--mix=general=0.1"])).mix == {"general": 0.1}
    assert read_config("quickstart", parse_arguments(["--mix", '{"general": 0.1}'])).mix == {"general": 0.1}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("mix: {general: 0.1, a b=c.txt: 0.25}\nuse_cpu: true\n", encoding="utf-8")
    assert read_config(recipe).mix == BOTH
    assert read_config(recipe, parse_arguments(["--mix", "none"])).mix is None
    (config,) = HfArgumentParser(MLMConfig).parse_args_into_dataclasses(["--mix", "general=0.1", "--use_cpu"])
    assert config.mix == {"general": 0.1}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mix": "general"}, "mix: received 'general'. Accepted: names of texts"),
        ({"mix": "general=much"}, "mix: received 'general=much'. Accepted: names of texts"),
        ({"mix": "=0.1"}, "mix: received '=0.1'. Accepted"),
        ({"mix": ["a=0.1", "a=0.2"]}, "Accepted: names of texts, each once"),
        ({"mix": "{general"}, "mix: received '{general'. Accepted"),
        ({"mix": [0.1]}, r"mix: received \[0.1\]. Accepted"),
        ({"mix": 0.1}, "mix: received 0.1. Accepted"),
        ({"mix": {"general": None}}, "mix: received {'general': None}. Accepted"),
        ({"mix": "general=0"}, "mix: received 0 for 'general'. Accepted: a share of the training tokens, above 0"),
        ({"mix": "general=-0.1"}, "mix: received -0.1 for 'general'"),
        ({"mix": "general=1"}, "mix: received 1 for 'general'"),
        ({"mix": {"general": 0.5, "notes.txt": 0.5}}, r"mix: received 0.5 \+ 0.5. Accepted: .*together below 1"),
        ({"mix": "general=0.1", "streaming": True}, "mix: received {'general': 0.1} with streaming"),
        ({"mix": "general=0.1", "general_corpus": "none"}, "with general_corpus 'none'. Accepted: a general_corpus"),
        ({"mix": {"general": 0.1, "general-english": 0.1}}, "both 'general' and 'general-english'"),
        ({"mix": {"-": 0.1}}, "mix: received '-', standard input"),
    ],
)
def test_what_cannot_be_mixed_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**values)


def test_a_text_may_be_mixed_in_where_no_general_one_is_measured():
    assert mix_option({"notes.txt": 0.1}) == MLMConfig(mix="notes.txt=0.1", general_corpus="none").mix


def test_the_general_text_is_meant_by_either_name():
    assert mixes_general(MLMConfig(mix="general=0.1"))
    assert mixes_general(MLMConfig(mix="wiki.txt=0.1", general_corpus="wiki.txt"))
    assert not mixes_general(MLMConfig(mix="wiki.txt=0.1"))
    assert not mixes_general(MLMConfig())


def test_a_recipe_and_a_message_have_each_text_and_no_secret():
    mix = {"https://host/download?id=1": 0.1, "https://host/download?id=2": 0.2, "https://me:secret@host/a.txt": 0.3}
    recipe = MLMConfig(use_cpu=True, mix=mix).to_recipe()
    hidden = {"https://host/download?***": 0.1, "https://host/download?*** (2)": 0.2, "https://***@host/a.txt": 0.3}
    assert recipe["mix"] == hidden
    for value, wrong in ({"mix": mix, "streaming": True}, "with streaming"), ({"mix": [*mix]}, "names of texts"):
        with pytest.raises(ValueError, match=wrong) as refused:
            MLMConfig(use_cpu=True, **value)
        assert "secret" not in str(refused.value)
        assert "id=" not in str(refused.value)
