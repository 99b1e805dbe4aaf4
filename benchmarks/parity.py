"""transformers' Trainer and MLMTrainer, side by side, on what must not change a run: `make parity`.

Trains tiny models of four architectures on the bundled corpus with both, in one process and in two, and writes what
each property costs to benchmarks/results/. Stock means Trainer with DataCollatorForLanguageModeling, as run_mlm.py has
them; everything else (data, seeds, weights, schedule, optimizer) is the same on both sides. Both get a run's layout,
its interruption or its evaluations changed, and nothing else; a difference is a defect.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from result_file import add_output_argument, write_result
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
    set_seed,
)

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, tokenize, train_tokenizer
from mlm_recipes.report.terminal import table
from mlm_recipes.training.distributed.processes import leave_process_group

STEPS, BATCH, PARAGRAPHS, LENGTH, RATE = 12, 16, 75, 64, 1e-3
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SIZE,
    "roberta": SIZE | {"max_position_embeddings": 130, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "modernbert": SIZE | {"bos_token_id": 101, "eos_token_id": 102, "cls_token_id": 101, "sep_token_id": 102},
}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
NO_DROPOUT = dict.fromkeys((*DROPOUT, "dropout", "attention_dropout", "embedding_dropout", "mlp_dropout"), 0.0)


class Side:
    """One of the two trainers, with everything around it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        corpus = load_corpus("meditations")
        self.tokenizer = train_tokenizer(corpus["train"]["text"], vocab_size=2000)
        self.rows = tokenize(corpus["train"].select(range(PARAGRAPHS)), self.tokenizer, LENGTH, "truncate")
        self.held_out = tokenize(corpus["validation"], self.tokenizer, LENGTH, "truncate")

    def model(self, architecture: str = "bert", dropout: bool = False) -> Any:
        set_seed(0)
        values = ARCHITECTURES[architecture] | (DROPOUT if dropout else NO_DROPOUT)
        return AutoModelForMaskedLM.from_config(
            AutoConfig.for_model(architecture, vocab_size=len(self.tokenizer), pad_token_id=0, **values)
        )

    def trainer(self, model: Any, rows: Any = None, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "output_dir": str(self.folder / self.name), "max_steps": STEPS, "per_device_train_batch_size": BATCH,
            "learning_rate": RATE, "logging_steps": 1, "save_strategy": "no", "seed": 1, "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True, "logging_nan_inf_filter": False, "ddp_find_unused_parameters": False,
        } | changes  # fmt: skip
        rows = self.rows if rows is None else rows
        given = {"model": model, "train_dataset": rows, "eval_dataset": self.held_out}
        if self.name == "ours":
            return MLMTrainer(args=MLMConfig(**values), processing_class=self.tokenizer, **given)
        collator = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=0.15)
        columns = [name for name in ("cut_off", "example_id") if name in rows.column_names]
        given["train_dataset"] = rows.remove_columns(columns)
        given["eval_dataset"] = self.held_out.remove_columns(columns)
        values["remove_unused_columns"] = False  # else special_tokens_mask goes, which the collator reads
        return Trainer(args=TrainingArguments(**values), data_collator=collator, **given)

    def train(self, architecture: str = "bert", dropout: bool = False, resume: Any = None, **changes: Any) -> Any:
        """Train; return the logged losses and gradient norms, shape `(steps, 2)`, and the weights in one row."""
        model = self.model(architecture, dropout)
        trainer = self.trainer(model, **changes)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train(resume_from_checkpoint=resume)
        logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        return np.array(logged), torch.cat([weight.detach().flatten() for weight in model.parameters()])

    def evaluate(self, trainer: Any) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return trainer.evaluate()["eval_loss"]


def epoch_seen(side: Side, **changes: Any) -> dict[int, list[list[int]]]:
    """Return each example that an epoch brings, and for each time it came its masked positions."""
    known = {tuple(row): number for number, row in enumerate(side.rows["input_ids"])}
    found: dict[int, list[list[int]]] = {}
    for batch in side.trainer(side.model(), **changes).get_train_dataloader():
        whole = torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
        for ids, labels, attended in zip(whole, batch["labels"], batch["attention_mask"].bool(), strict=True):
            number = known.get(tuple(ids[attended].tolist()))
            if number is not None:  # else the row that stands for no example
                found.setdefault(number, []).append((labels != -100).nonzero().flatten().tolist())
    return found


def in_two_processes(folder: Path) -> None:
    """Do what takes two processes, for both sides, and leave the results of the first in the folder."""
    found: dict[str, Any] = {}
    for name in ("stock", "ours"):
        side = Side(name, folder / "two")
        layouts = {each: side.train(each, per_device_train_batch_size=BATCH // 2) for each in ARCHITECTURES}
        everyone: list[Any] = [None, None]
        torch.distributed.all_gather_object(everyone, epoch_seen(side, per_device_train_batch_size=BATCH // 2))
        seen = Counter({number: len(times) for part in everyone for number, times in part.items()})
        for number in everyone[0].keys() & everyone[1].keys():
            seen[number] = len(everyone[0][number]) + len(everyone[1][number])
        first, second = (next(iter(part.values()))[0] for part in everyone)
        found[name] = {
            "layouts": {each: (logged.tolist(), weights) for each, (logged, weights) in layouts.items()},
            "wrong": sum(seen[number] != 1 for number in range(PARAGRAPHS)),
            "same": sum(a == b for a, b in zip(first, second, strict=False)) / max(1, min(len(first), len(second))),
        }
    if torch.distributed.get_rank() == 0:
        torch.save(found, folder / "two.pt")
    leave_process_group()


def launch(folder: Path) -> dict[str, Any]:
    flags = ["--nproc_per_node", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0"]
    command = [sys.executable, "-m", "torch.distributed.run", *flags, __file__, "--two-processes", str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return torch.load(folder / "two.pt", weights_only=True)


def measure(side: Side, two: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return one side's figure for each property and its unit."""
    found: dict[tuple[str, str], float] = {}
    for architecture in ARCHITECTURES:
        logged, weights = side.train(architecture)
        split, split_weights = side.train(architecture, per_device_train_batch_size=4, gradient_accumulation_steps=4)
        processes, processes_weights = two["layouts"][architecture]
        for layout, other, other_weights in (
            ("4 x 4 by accumulation", split, split_weights),
            ("two processes", np.array(processes), processes_weights),
        ):
            found[f"{architecture}, {layout}: first loss", "times that of 1 x 16"] = other[0, 0] / logged[0, 0]
            found[f"{architecture}, {layout}: first gradient norm", "times that of 1 x 16"] = other[0, 1] / logged[0, 1]
            found[f"{architecture}, {layout}: weights after {STEPS} steps", "largest difference"] = _largest(
                other_weights, weights
            )
    found["two processes: examples of an epoch that come twice or never", f"of {PARAGRAPHS}"] = two["wrong"]
    found["two processes: masked positions in common, first example of each", "share"] = two["same"]

    whole, weights = side.train(dropout=True, save_strategy="steps", save_steps=1)
    checkpoint = str(side.folder / side.name / "checkpoint-7")
    for workers in (0, 2):
        resumed, resumed_weights = side.train(dropout=True, resume=checkpoint, dataloader_num_workers=workers)
        where = f"resumed after step 7 of {STEPS}, {workers} workers"
        found[f"{where}: later losses", "nats"] = float(np.abs(resumed[7:, 0] - whole[7:, 0]).max())
        found[f"{where}: weights", "largest difference"] = _largest(resumed_weights, weights)

    trainer = side.trainer(side.model())
    losses = [side.evaluate(trainer) for _ in range(3)]
    found["one model, evaluated three times: loss", "nats apart"] = max(losses) - min(losses)
    sizes = [side.evaluate(side.trainer(side.model(), per_device_eval_batch_size=size)) for size in (16, 5)]
    found["one model, evaluated in batches of 16 and of 5: loss", "nats apart"] = abs(sizes[0] - sizes[1])
    _, evaluated = side.train(dropout=True, eval_strategy="steps", eval_steps=1)
    found["evaluated after every step or not: weights", "largest difference"] = _largest(evaluated, weights)

    nothing = side.rows.select([0] * BATCH).map(lambda row: {"input_ids": [101, 102], "special_tokens_mask": [1, 1]})
    logged, _ = side.train(rows=nothing, max_steps=1)
    found["a step without a masked token: loss", "nats"] = float(logged[0, 0])
    return found


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--two-processes", type=Path, help=argparse.SUPPRESS)
    add_output_argument(parser)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.two_processes:
        in_two_processes(options.two_processes)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two = launch(folder)
        sides = {each: measure(Side(each, folder), two[each]) for each in ("stock", "ours")}
    rows = [
        {"property": name, "unit": unit, **{each: _number(sides[each][name, unit]) for each in sides}}
        for name, unit in sides["stock"]
    ]
    shown = [(row["property"], row["unit"], _shown(row["stock"]), _shown(row["ours"])) for row in rows]
    print(table([("property", "", "stock Trainer", "MLMTrainer"), *shown], right=range(2, 4)))
    write_result(options.output, "parity_tiny", {"rows": rows})


if __name__ == "__main__":
    main()
