"""What tests/training/test_trainer.py runs in two processes: torchrun --nproc_per_node 2 two_evaluations.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus
from mlm_recipes.training.distributed.processes import leave_process_group

#: In batches of two, three batches: two processes have four, and accelerate repeats rows.
PARAGRAPHS, BATCH = 5, 2


def evaluate(folder: Path) -> dict[str, float]:
    """Return what `evaluate()` finds on a few paragraphs."""
    values = {"per_device_eval_batch_size": BATCH, "bf16": False, "use_cpu": True, "disable_tqdm": True}
    args = MLMConfig(output_dir=str(folder), **values)
    rows = load_corpus("meditations")["validation"].select(range(PARAGRAPHS))
    found = MLMTrainer("mini", args=args, eval_dataset=rows).evaluate()
    return {name: found[f"eval_{name}"] for name in ("loss", "accuracy", "perplexity", "masked_tokens")}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    metrics = evaluate(folder)
    (folder / f"metrics-{torch.distributed.get_rank()}.json").write_text(json.dumps(metrics), encoding="utf-8")
    leave_process_group()
