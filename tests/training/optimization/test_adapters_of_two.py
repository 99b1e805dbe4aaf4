"""Two processes train the adapter that one trains, also with recomputed activations; what two save, one resumes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from conftest import CHECKPOINTING, make_bert
from launched import run_together
from same_run import assert_same_logs, assert_same_weights, flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.training.distributed.processes import leave_process_group

pytest.importorskip("peft")

STEPS = 4
GENERATOR = torch.Generator().manual_seed(0)
ROWS = [
    {"input_ids": [101, *torch.randint(104, 900, (n,), generator=GENERATOR).tolist(), 102], "example_id": i}
    for i, n in enumerate([5, 9, 3, 12, 7, 9, 4, 6])
]


def trainer(folder, checkpointing=False):
    tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=1000)
    batch = 4 // int(os.environ.get("WORLD_SIZE", "1"))
    args = MLMConfig(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=batch, seed=1, mlm_probability=0.4,
        use_cpu=True, bf16=False, disable_tqdm=True, save_steps=2, peft="lora", lora_r=4,
        # Steps in proportion to the gradient; that of an update is small at first, since its second matrix is zero.
        adam_epsilon=1.0, learning_rate=30.0, **{CHECKPOINTING: checkpointing},
    )  # fmt: skip
    model = make_bert(tokenizer, vocab_size=1000)
    return MLMTrainer(model, args=args, train_dataset=ROWS, processing_class=tokenizer)


def run(folder, checkpointing=False, resume=None):
    made = trainer(folder, checkpointing)
    made.train(resume_from_checkpoint=resume)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in made.state.log_history if "loss" in entry]
    return logged, flat_weights(made.model)


@pytest.mark.slow
def test_two_processes_are_the_run_of_one(tmp_path):
    done = run_together(2, __file__, tmp_path)
    assert "unused parameters" not in done.stderr
    start = trainer("start").model
    alone = run("alone")
    for found in torch.load(tmp_path / "found.pt", weights_only=True).values():
        assert_same_logs(found[0], alone[0], start)
        assert_same_weights(found[1], alone[1], start, STEPS)
    assert not list(Path("plain/checkpoint-2").glob("model*"))
    resumed = run("plain", resume=tmp_path / "plain/checkpoint-2")
    assert_same_weights(resumed[1], alone[1], start, STEPS)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    results = {"plain": run(place / "plain"), "checkpointing": run(place / "checkpointing", checkpointing=True)}
    if torch.distributed.get_rank() == 0:
        torch.save(results, place / "found.pt")
    leave_process_group()
