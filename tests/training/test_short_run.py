"""A short run has no value of the whole run that its few steps cannot follow."""

from __future__ import annotations

import pytest
from conftest import make_bert

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.short_run import cut_short


@pytest.mark.parametrize("values", [
    {"num_decay_steps": 0.8}, {"num_decay_steps": 0.4, "num_stable_steps": 0.5}, {"num_decay_steps": 500},
    {"num_stable_steps": 70, "decay_type": "1-sqrt"}, None,
])  # fmt: skip
@pytest.mark.parametrize("warmup_steps", [0.1, 20])
def test_the_phases_of_the_whole_run_do_not_matter(values, warmup_steps, tokenizer):
    config = MLMConfig(
        use_cpu=True, max_steps=100, lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=values,
        warmup_steps=warmup_steps,
    )  # fmt: skip
    trainer = MLMTrainer(
        make_bert(tokenizer), cut_short(config, steps=4), train_dataset=[{"text": "wine and words"}] * 8,
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 4
