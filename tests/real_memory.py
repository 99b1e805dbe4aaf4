"""What tests/test_out_of_memory.py runs by itself: torch's allocator truly fails, since the process has a limit."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from conftest import make_bert
from little_memory import UNUSED

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer


def make_trainer(tokenizer, rows) -> MLMTrainer:
    args = MLMConfig(
        per_device_train_batch_size=16, max_steps=2, learning_rate=5e-4, seed=1, save_strategy="no",
        sparse_prediction=False, padding_free=False, output_dir=str(UNUSED), bf16=False,
    )  # fmt: skip
    model = make_bert(tokenizer, vocab_size=20_000)  # logits of 10 MB for each row
    return MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)


def train_within(trainer: MLMTrainer, megabytes: int | None) -> list[float]:
    """Train, with so much more memory than the process has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if megabytes is not None:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, hard))
    try:
        trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 2, vocab_size=300)
    generator = torch.Generator().manual_seed(3)
    rows = [{"input_ids": torch.randint(104, len(tokenizer), (128,), generator=generator).tolist()} for _ in range(32)]
    little, enough = make_trainer(tokenizer, rows), make_trainer(tokenizer, rows)
    losses = train_within(little, 150), train_within(enough, None)
    parameters = zip(little.model.parameters(), enough.model.parameters(), strict=True)
    found = {
        "parts": [little.micro_batch_parts, enough.micro_batch_parts],
        "losses": max(abs(one - other) for one, other in zip(*losses, strict=True)),
        "weights": max(float((one - other).detach().abs().max()) for one, other in parameters),
    }
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
