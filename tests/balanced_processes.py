"""What test_step_batches.py runs in two processes: torchrun --nproc_per_node 2 balanced_processes.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from conftest import make_model
from same_run import PROPORTIONAL_STEPS, flat_weights
from two_processes import rows_and_tokenizer

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.distributed.processes import leave_process_group

STEPS = 7
#: Of 35 paragraphs with 48 tokens at most.
TOKENS = 200


def train(rows, tokenizer, folder, dropout=0.0, resume=None, **changes):
    """Train; return the logged losses and gradient norms, the weights in one row, and how the tokens were dealt."""
    args = MLMConfig(
        **{
            "max_steps": STEPS, "seed": 1, "disable_tqdm": True, "ddp_find_unused_parameters": False,
            **PROPORTIONAL_STEPS, "output_dir": str(folder), "save_strategy": "no", "use_cpu": True,
        } | changes,
    )  # fmt: skip
    model = make_model("bert", tokenizer, dropout=dropout)
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    facts = trainer.rank_loads and trainer.rank_loads.facts(range(STEPS))
    return logged, flat_weights(model), facts


def main(folder: Path) -> None:
    rows, tokenizer = rows_and_tokenizer()
    four = {"per_device_train_batch_size": 4}
    found = {
        "by length": train(rows, tokenizer, folder / "unused", **four),
        "in order": train(rows, tokenizer, folder / "unused", balance_lengths=False, **four),
        "accumulated": train(
            rows, tokenizer, folder / "unused", per_device_train_batch_size=2, gradient_accumulation_steps=2
        ),
        "padded": train(rows, tokenizer, folder / "unused", padding_free=False, **four),
        "tokens": train(rows, tokenizer, folder / "unused", tokens_per_batch=TOKENS),
        "tokens in order": train(
            rows, tokenizer, folder / "unused", tokens_per_batch=TOKENS, gradient_accumulation_steps=3,
            balance_lengths=False,
        ),
    }  # fmt: skip
    for name, values in (("by length", four), ("tokens", {"tokens_per_batch": TOKENS})):
        place = folder / name.replace(" ", "-")
        found[f"{name}, whole"] = train(
            rows, tokenizer, place, dropout=0.1, save_strategy="steps", save_steps=1, **values
        )
        for step, workers in ((2, 0), (5, 0), (6, 2)):  # within the first epoch, at its end, within the second
            found[f"{name}, resumed {step}"] = train(
                rows, tokenizer, place, dropout=0.1, resume=place / f"checkpoint-{step}",
                dataloader_num_workers=workers, **values,
            )  # fmt: skip
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
