"""train(callbacks=...): they see the whole run, in any thread, and may end it."""

from __future__ import annotations

import threading
from pathlib import Path

import metrics_schema
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from mlm_recipes import train

VALUES = {
    "general_corpus": "none", "max_steps": 4, "per_device_train_batch_size": 4, "max_length": 32, "use_cpu": True,
    "eval_draws": 1, "pseudo_perplexity_tokens": 64, "prompts_compared": 5, "save_strategy": "steps", "save_steps": 100,
}  # fmt: skip


class Ends(TrainerCallback):
    """Keep what is logged, and end the run after a step."""

    def __init__(self, step):
        self.step, self.seen = step, []

    def on_log(self, args, state, control, logs, **kwargs):
        self.seen.append((state.global_step, "loss" in logs, [name for name in logs if "/" in name or "_" in name]))

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


def in_a_thread(act):
    found = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.slow
def test_a_callback_sees_and_ends_a_run_in_another_thread(checkpoint, short_text):
    values = VALUES | {"model": str(checkpoint), "corpus": str(short_text), "output_dir": "run"}
    ends = Ends(2)
    result = in_a_thread(lambda: train("adapt", callbacks=[ends], **values))
    metrics_schema.check(result.metrics)
    assert result.metrics["train"]["steps"] == 2
    assert result.metrics["train"]["stopped_by_callback"] == {"step": 2, "of": 4}
    assert "A callback stopped it after step 2 of 4." in str(result).replace("\n", " ")
    assert [step for step, trained, _ in ends.seen if trained] == [1, 2]
    assert ends.seen[0][0] == 0, "the measurement before training"
    assert not ends.seen[-1][1], "the one after training"
    assert Path("run/checkpoint-2/manifest.json").is_file()
    assert "callbacks" not in Path("run/recipe.yaml").read_text("utf-8")


@pytest.mark.slow
def test_a_run_that_a_callback_has_ended_goes_on_to_the_same_weights(checkpoint, short_text):
    values = VALUES | {"model": str(checkpoint), "corpus": str(short_text)}
    whole = train("adapt", output_dir="whole", **values)
    assert "stopped_by_callback" not in whole.metrics["train"]
    assert "A callback stopped it" not in str(whole).replace("\n", " ")
    train("adapt", output_dir="run", callbacks=[Ends(2)], **values)
    train("run", resume_from_checkpoint=True, overwrite=True)
    first, second = (load_file(f"{folder}/model.safetensors") for folder in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)
