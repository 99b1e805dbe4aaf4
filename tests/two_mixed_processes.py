"""What test_mixing.py runs in two processes: torchrun --nproc_per_node 2 two_mixed_processes.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from conftest import make_model
from two_processes import rows_and_tokenizer, train

from mlm_recipes import mix_rows
from mlm_recipes.training.distributed.processes import leave_process_group


def mixture():
    """35 rows and 5 mixed ones an epoch, of 9: steps of 8, whose last of an epoch has three rows of its own text."""
    rows, tokenizer = rows_and_tokenizer()
    mixed = mix_rows(rows.select(range(26)), {"notes": (rows.select(range(26, 35)), 0.25)})
    return mixed, tokenizer


def main(folder: Path) -> None:
    rows, tokenizer = mixture()

    def with_dropout(**values):
        return train(rows, tokenizer, make_model("bert", tokenizer, dropout=0.1), (4, 1), **values)

    found = {
        "plain": train(rows, tokenizer, make_model("bert", tokenizer), (4, 1)),
        "whole": with_dropout(folder=folder / "whole"),
        "resumed": {step: with_dropout(resume=folder / f"whole/checkpoint-{step}") for step in (2, 5, 7)},
    }
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
