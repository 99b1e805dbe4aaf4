from __future__ import annotations

import pytest
from conftest import make_bert
from transformers import DataCollatorForLanguageModeling

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
