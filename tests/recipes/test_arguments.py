from __future__ import annotations

import pytest
import yaml

from mlm_recipes import MLMConfig
from mlm_recipes.recipes.arguments import bundled_recipes, parse_arguments, read_config
from mlm_recipes.training.checks.other_names import COMMON
from mlm_recipes.training.config import PLACE, field_names


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_is_valid(name):
    config = read_config(name)
    values = yaml.safe_load(bundled_recipes()[name].read_text("utf-8"))
    for key, value in values.items():
        found = getattr(config, key)
        found = found[0] if found == [value] else found  # one number may stand for a list of one
        assert str(getattr(found, "value", found)) == str(value) or float(found) == float(value), key


def test_overrides_replace_the_recipes_values(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rate: 1e-5\nnum_train_epochs: 3\nseed: 7\n")
    config = read_config("mine.yaml", {"num_train_epochs": 5})
    assert (config.learning_rate, config.num_train_epochs, config.seed) == (1e-5, 5, 7)


def test_epochs_in_the_overrides_replace_a_recipes_steps():
    assert read_config("quickstart").max_steps == 130
    config = read_config("quickstart", {"num_train_epochs": 1})
    assert (config.max_steps, config.num_train_epochs) == (-1, 1)
    config = read_config("quickstart", {"num_train_epochs": 1, "max_steps": 7})
    assert config.max_steps == 7


def test_one_share_of_masked_tokens_is_that_of_every_step(tmp_path):
    (tmp_path / "step.yaml").write_text(
        "{mlm_probability: 0.3, mlm_probability_schedule: step, mlm_probability_end: [0.15, 0.05], "
        "mlm_probability_boundaries: [0.8, 0.95]}"
    )

    def schedule_of(**overrides):
        config = read_config(tmp_path / "step.yaml", overrides)
        assert config.mlm_probability == overrides.get("mlm_probability", 0.3)
        return config.mlm_probability_schedule, config.mlm_probability_end, config.mlm_probability_boundaries

    assert schedule_of() == ("step", [0.15, 0.05], [0.8, 0.95])
    assert schedule_of(mlm_probability=0.2) == ("constant", None, None)
    assert schedule_of(mlm_probability=0.4, mlm_probability_end=[0.2, 0.1]) == ("step", [0.2, 0.1], [0.8, 0.95])
    linear = {"mlm_probability_schedule": "linear", "mlm_probability_end": [0.1]}
    assert schedule_of(mlm_probability=0.2, **linear) == ("linear", [0.1], None)


@pytest.mark.parametrize(("typed", "meant"), sorted(COMMON.items()))
def test_common_names_get_a_suggestion(typed, meant):
    assert meant in field_names()
    with pytest.raises(ValueError, match=f"{typed}: no such value. Did you mean '{meant}'"):
        parse_arguments([f"--{typed}", "1"])


def test_a_config_can_be_used_as_a_recipe():
    config = MLMConfig(learning_rate=1e-3, seed=9)
    assert read_config(config) == config
    assert read_config(config) is not config  # the copy that a run makes to set its folder
    changed = read_config(config, {"learning_rate": "2e-3"})
    assert (changed.learning_rate, changed.seed, config.learning_rate) == (2e-3, 9, 1e-3)


def test_the_model_decides_which_recipe_is_the_default():
    assert read_config(None).model == "mini"
    assert read_config(None).max_steps == 130
    config = read_config(None, {"model": "google-bert/bert-base-uncased"})
    assert (config.learning_rate, config.num_train_epochs, config.max_steps) == (1e-5, 2, -1)


def test_a_recipe_is_found_by_name_path_or_run_folder(tmp_path):
    by_name = read_config("adapt")
    assert (
        read_config("recipes/adapt.yaml").learning_rate == by_name.learning_rate
    )  # there is no such file here, so it is the bundled one
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("learning_rate: 0.25\n")
    assert read_config("run").learning_rate == 0.25


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("learning_rat: 1\n", "mine.yaml: learning_rat: no such value. Did you mean 'learning_rate'"),
        ("learning_rate: fast\n", "learning_rate: received 'fast'. Accepted: a number. Such as --learning_rate 5e-05"),
        ("learning_rate: [\n", "mine.yaml, line 2: not YAML"),
        ("just words\n", "mine.yaml contains str.*name it with --corpus"),
        ("mlm_probability: [0.15]\n", r"mlm_probability: received \[0.15\]"),
        ("max_steps: 1.5\n", "max_steps: received '1.5'. Accepted: a whole number"),
        ("model: null\n", "model: received None"),
        ("seed: {a: 1}\n", "seed: received"),
        ("", "mine.yaml contains NoneType"),
    ],
)
def test_an_invalid_recipe_is_named_in_the_error(tmp_path, content, says):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=says):
        read_config("mine.yaml")


def test_yaml_cannot_run_code(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: !!python/object/apply:os.system ['touch canary']\n")
    with pytest.raises(ValueError, match="not YAML"):
        read_config("mine.yaml")
    assert not (tmp_path / "canary").exists()


def test_the_error_for_a_missing_recipe_lists_the_bundled_ones():
    with pytest.raises(FileNotFoundError, match=r"'quickstar'. Did you mean 'quickstart'\?.*adapt, adapt-gpu"):
        read_config("quickstar")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--learning_rat", "1"], "learning_rat: no such value. Did you mean 'learning_rate'"),
        (["--learning-rat=1"], "learning_rat: no such value"),
        (
            ["--learning_rate", "fast"],
            "learning_rate: received 'fast'. Accepted: a number. Such as --learning_rate 5e-05",
        ),
        (["--learning_rate"], "learning_rate: received 'nothing'. Accepted: a value after the flag"),
        (["stray"], "stray: received without a flag. Accepted: the recipe first"),
        (["--bf16", "maybe"], r"bf16: received 'maybe'. Accepted: true or false\.$"),
        (["--optim", "sgdd"], r"optim: received 'sgdd'. Accepted: adamw_torch, "),
        (["--learn", "1"], "learn: no such value"),  # no abbreviations: a later field could change what they mean
    ],
)
def test_an_invalid_argument_is_named_in_the_error(arguments, says):
    with pytest.raises(ValueError, match=says):
        parse_arguments(arguments)


def test_arguments_return_only_the_values_they_set():
    given = parse_arguments(["--learning-rate", "1e-4", "--static_masks", "--use_cpu", "false", "--report_to", "none"])
    assert given == {"learning_rate": 1e-4, "static_masks": True, "use_cpu": False, "report_to": "none"}


def test_a_runs_recipe_restores_its_values(tmp_path):
    config = read_config("tutorial", {"corpus": "notes.txt", "seed": 5, "warmup_steps": 0.25, "eval_strategy": "epoch"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config.to_recipe()))
    again = read_config("recipe.yaml")
    for name in field_names():
        if name not in PLACE:
            assert getattr(again, name) == getattr(config, name), name
    assert list(config.to_recipe())[:2] == ["corpus", "text_column"]  # this library's own values come first
    assert PLACE.isdisjoint(config.to_recipe())


def test_a_recipes_corpus_values_do_not_apply_to_a_different_corpus(tmp_path):
    lines = [
        "corpus: https://example.org/a.txt",
        f"corpus_sha256: {'a' * 64}",
        "validation_corpus: held_out.txt",
        "model: owner/name",
        "model_revision: v1",
    ]
    (tmp_path / "mine.yaml").write_text("\n".join(lines))
    config = read_config("mine.yaml")
    assert (config.corpus_sha256, config.model_revision) == ("a" * 64, "v1")
    config = read_config("mine.yaml", {"corpus": "notes.txt", "model": "mini"})
    assert (config.corpus_sha256, config.validation_corpus, config.model_revision) == (None, None, None)
    both = {"corpus": "notes.txt", "validation_corpus": "mine.txt"}
    assert read_config("mine.yaml", both).validation_corpus == "mine.txt"
    assert read_config("mine.yaml", {"model": "owner/name", "model_revision": "v2"}).model_revision == "v2"


def test_a_recipe_that_is_a_values_name_lacks_its_dashes():
    with pytest.raises(ValueError, match=r"'max_steps', which is a value's name.*Write --max_steps in front of"):
        read_config("max_steps")


def test_the_direction_of_a_recipes_measure_is_not_that_of_another(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("eval_strategy: epoch\nmetric_for_best_model: loss\ngreater_is_better: false\n", encoding="utf-8")
    assert read_config(recipe).greater_is_better is False
    assert read_config(recipe, {"metric_for_best_model": "accuracy"}).greater_is_better is True
    assert read_config(read_config(recipe), {"metric_for_best_model": "accuracy"}).greater_is_better is True


def test_what_turns_something_off_turns_off_what_depends_on_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("{add_tokens: [hegemonikon], train_new_tokens_first: 3}")
    for off in ("none", ["none"]):
        config = read_config(path, {"add_tokens": off})
        assert (config.add_tokens, config.train_new_tokens_first) == (None, None)
    other = read_config(path, {"add_tokens": ["logos"]})
    assert (other.add_tokens, other.train_new_tokens_first) == (["logos"], 3)
    path.write_text("{masking_policy: whole_word, word_segmenter: jieba}")
    found = {
        policy: read_config(path, {"masking_policy": policy}).word_segmenter
        for policy in ("token", "exact_count", "span")
    }
    assert found == {"token": "none", "exact_count": "none", "span": "jieba"}
    path.write_text("{peft: lora, lora_merge: true, lora_r: 64}")
    config = read_config(path, {"peft": "none"})
    assert (config.peft, config.lora_merge) == ("none", None)
    assert read_config(path, {"peft": "lora"}).lora_r == 64


def test_rows_are_as_long_as_the_positions_that_are_asked_for():
    assert read_config("adapt-gpu", {"extend_positions": "2048"}).max_length is None
    assert read_config("adapt-gpu", {"extend_positions": "2048", "max_length": "1024"}).max_length == 1024
