"""What tests/test_layouts.py runs in two processes: torchrun --nproc_per_node 2 two_processes.py FOLDER [quickly]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
from conftest import make_model
from same_run import PROPORTIONAL_STEPS, flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, tokenize, train_tokenizer
from mlm_recipes.masking import batch_plan
from mlm_recipes.training.distributed.processes import leave_process_group

ARCHITECTURES = ("bert", "roberta", "distilbert", "modernbert", "mpnet")
STEPS = 12
UNUSED = Path(tempfile.gettempdir()) / "unused"
#: Of 35 paragraphs in batches of 8 the last step has three: of two processes with four each, one has none.
PARAGRAPHS = 35
WITH_WORKERS = (2, 5, 7)  # within an epoch, at its end, within the next


def rows_and_tokenizer():
    corpus = load_corpus("meditations")
    tokenizer = train_tokenizer(corpus["train"]["text"], vocab_size=1000)
    return tokenize(corpus["train"].select(range(PARAGRAPHS)), tokenizer, max_length=48), tokenizer


def many_parts():
    """Let such short paragraphs make several parts, where padding_free is not to be had."""
    return mock.patch.dict(batch_plan.PRICE, cpu=8)


def train(rows, tokenizer, model, layout, folder=None, resume=None, **changes):
    """Train; return the logged losses and gradient norms, and the weights in one row."""
    batch, accumulation = layout
    args = MLMConfig(
        **{
            "max_steps": STEPS, "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation,
            "seed": 1, "disable_tqdm": True, "ddp_find_unused_parameters": False, **PROPORTIONAL_STEPS,
            "output_dir": str(folder or UNUSED), "save_strategy": "steps" if folder else "no", "save_steps": 1,
        } | changes,
    )  # fmt: skip
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    return logged, flat_weights(model)


def token_results(rows, tokenizer, name):
    """Evaluate every masked token of the second draw; return row, position, token, nats and rank, `(5, tokens)`."""
    args = MLMConfig(per_device_eval_batch_size=4, disable_tqdm=True, output_dir=str(UNUSED))  # nine batches for two
    trainer = MLMTrainer(make_model(name, tokenizer), args=args, eval_dataset=rows, processing_class=tokenizer)
    found = trainer.token_results(rows, draw=1)
    columns = (found.row, found.position, found.token, found.nats, found.rank)
    return torch.stack([torch.from_numpy(column).double() for column in columns])


def quickly(folder: Path) -> None:
    """The part that the default suite has time for."""
    rows, tokenizer = rows_and_tokenizer()
    found = train(rows, tokenizer, make_model("bert", tokenizer), (4, 1))
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


def main(folder: Path) -> None:
    rows, tokenizer = rows_and_tokenizer()
    found = {"vocabulary": tokenizer.get_vocab()}
    found["layouts"] = {name: train(rows, tokenizer, make_model(name, tokenizer), (4, 1)) for name in ARCHITECTURES}
    found["informative"] = train(rows, tokenizer, make_model("bert", tokenizer), (4, 1), masking_policy="informative")

    def with_dropout(**values):
        return train(rows, tokenizer, make_model("bert", tokenizer, dropout=0.1), (4, 1), **values)

    found["tokens"] = {name: token_results(rows, tokenizer, name) for name in ("bert", "mpnet")}
    found["whole"] = with_dropout(folder=folder / "whole")
    found["resumed"] = {
        (step, workers): with_dropout(resume=folder / f"whole/checkpoint-{step}", dataloader_num_workers=workers)
        for workers, steps in ((0, range(1, STEPS + 1)), (2, WITH_WORKERS))
        for step in steps
    }

    plain = make_model("bert", tokenizer)
    train(rows, tokenizer, plain, (4, 1), folder=folder / "two")  # for one process to finish
    found["finished"] = {
        step: train(rows, tokenizer, make_model("bert", tokenizer), (4, 1), resume=folder / f"one/checkpoint-{step}")
        for step in (3, 5, 8)
    }
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    with many_parts():
        (quickly if sys.argv[2:] else main)(Path(sys.argv[1]))
