"""What tests/test_out_of_memory.py runs by itself: torch's allocator truly fails, since the process has a limit."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from conftest import make_bert
from little_memory import UNUSED
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer


def make_model(tokenizer):
    return make_bert(tokenizer, vocab_size=20_000)  # logits of 10 MB for each row


def make_trainer(tokenizer, rows) -> MLMTrainer:
    args = MLMConfig(
        per_device_train_batch_size=16, max_steps=2, seed=1, save_strategy="no", sparse_prediction=False,
        padding_free=False, output_dir=str(UNUSED), bf16=False, **PROPORTIONAL_STEPS,
    )  # fmt: skip
    return MLMTrainer(make_model(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)


def train_within(trainer: MLMTrainer, megabytes: int | None) -> list[tuple[float, float]]:
    """Train, with so much more memory than the process has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if megabytes is not None:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, hard))
    try:
        trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 2, vocab_size=300)
    generator = torch.Generator().manual_seed(3)
    rows = [{"input_ids": torch.randint(104, len(tokenizer), (128,), generator=generator).tolist()} for _ in range(32)]
    little, enough = make_trainer(tokenizer, rows), make_trainer(tokenizer, rows)
    runs = [
        (train_within(each, megabytes), flat_weights(each.model)) for each, megabytes in ((little, 150), (enough, None))
    ]
    assert_same_run(*runs, make_model(tokenizer), steps=2)
    found = {"parts": [little.micro_batch_parts, enough.micro_batch_parts]}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
