"""Two processes train a model of which a part is frozen, or its head first, as one does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import CHECKPOINTING, make_bert
from launched import found_by_each, run_together
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights
from small_run import NUMBERED

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.training.distributed.processes import leave_process_group

STEPS = 4
CASES = {
    "lower-1": {"freeze": "lower-1"},
    "embeddings": {"freeze": "embeddings", CHECKPOINTING: True},
    "body": {"freeze": "body"},
    "decay": {"layerwise_lr_decay": 0.5},
    "head first": {"head_warmup_steps": 2},
    "both": {"head_warmup_steps": 2, "freeze": "lower-1", CHECKPOINTING: True},
}


def run(batch, folder=None, resume=None, **changes):
    """Train a BERT on nine rows, in batches of eight over all processes: of two, one has no row in the second step."""
    tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=1000)
    rows = [row | {"input_ids": [token % 100 + 3 for token in row["input_ids"]]} for row in [*NUMBERED, NUMBERED[0]]]
    args = MLMConfig(
        use_cpu=True, max_steps=STEPS, per_device_train_batch_size=batch, mlm_probability=0.4, disable_tqdm=True,
        save_strategy="steps" if folder else "no", save_steps=1, output_dir=str(folder or "run"),
        **{**PROPORTIONAL_STEPS, **changes},
    )  # fmt: skip
    model = make_bert(tokenizer)
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume or False)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    return (logged, flat_weights(model)), getattr(trainer.model_wrapped, "find_unused_parameters", None)


@pytest.mark.slow
def test_two_processes_are_the_run_of_one(tmp_path):
    run_together(2, __file__, tmp_path)
    first, second = found_by_each(2, tmp_path)
    start = make_bert(train_tokenizer(["to be or not to be"] * 2, vocab_size=1000))
    for name, values in CASES.items():
        found, searched = first[name]
        assert searched == ("head_warmup_steps" in values)
        assert_same_run(found, run(8, **values)[0], start, STEPS)
        assert torch.equal(found[1], second[name][0][1])
    for step in (1, 3):  # before the boundary and after it
        assert torch.equal(first[f"resumed {step}"][0][1], first["head first"][0][1])


def main(folder: Path) -> None:
    found = {name: run(4, folder / name if name == "head first" else None, **CASES[name]) for name in CASES}
    for step in (1, 3):
        resume = folder / f"head first/checkpoint-{step}"
        found[f"resumed {step}"] = run(4, folder / f"again {step}", resume, **CASES["head first"])
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
