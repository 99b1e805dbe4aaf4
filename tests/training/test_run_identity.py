from __future__ import annotations

import pytest
from conftest import make_bert
from transformers import AutoConfig, AutoModelForMaskedLM, DataCollatorForLanguageModeling

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.masking.probability_schedule import ProbabilitySchedule
from mlm_recipes.training.run_identity import masking_of, shape_of


class Mine(DataCollatorForMaskedLM):
    pass


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"mlm_probability": 0.3}, True),
        ({"seed": 1}, True),
        ({"masking_policy": "span"}, True),
        ({"seed": 0}, False),
        ({"padding": "max_length", "max_length": 9}, False),
        ({"padding_free": True}, False),
    ],
)
def test_what_decides_the_masks_makes_it_another_run(changes, another, tokenizer):
    usual = masking_of(DataCollatorForMaskedLM(tokenizer))
    assert (masking_of(DataCollatorForMaskedLM(tokenizer, **changes)) != usual) is another
    assert "masking_policy" not in usual, "earlier checkpoints lack it"


def test_a_collator_goes_by_its_class_and_a_schedule_by_its_words(tokenizer):
    assert masking_of(Mine(tokenizer))["collator"].endswith("test_run_identity.Mine")
    assert masking_of(DataCollatorForLanguageModeling(tokenizer)) == "DataCollatorForLanguageModeling"
    schedule = ProbabilitySchedule("linear", (0.3, 0.15))
    assert masking_of(DataCollatorForMaskedLM(tokenizer), schedule)["mlm_probability"] == "30% to 15%, linear"


def test_the_shape_is_the_size_of_a_model_and_not_its_name(tokenizer):
    one, other = make_bert(tokenizer), make_bert(tokenizer)
    other.config._name_or_path, other.config.architectures = "elsewhere", ["Another"]
    assert shape_of(one) == shape_of(other)
    assert shape_of(one) != shape_of(make_bert(tokenizer, hidden_size=64))


def test_special_tokens_of_a_config_within_the_config_are_no_shape():
    """Trainer sets them when training begins."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2}
    values = {"text_config": {"vocab_size": 120, "pad_token_id": 0, **sizes}, "vision_config": sizes}
    one, other = (AutoModelForMaskedLM.from_config(AutoConfig.for_model("modernvbert", **values)) for _ in range(2))
    other.config.text_config.pad_token_id = 7
    assert shape_of(one) == shape_of(other)
    other.config.text_config.hidden_size = 64
    assert shape_of(one) != shape_of(other)
