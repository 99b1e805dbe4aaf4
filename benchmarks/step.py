"""What one training step costs, one switch a row: `make bench`.

Every row trains the same model on the same 16 paragraphs: forward, backward, AdamW. Rows take turns, so that a machine
that slows down slows all of them; a figure is the median over the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

from mlm_recipes import DataCollatorForMaskedLM, load_corpus, tokenize, train_tokenizer
from mlm_recipes.model import masked_lm_loss
from mlm_recipes.report import table
from mlm_recipes.run_folder import versions
from mlm_recipes.sources import model_folder
from mlm_recipes.sparse_prediction import only_at

BATCH, LENGTH, VOCABULARY = 16, 512, 30522


@dataclass(frozen=True, eq=False)
class Row:
    """One way to take a step."""

    name: str
    collator: dict[str, Any]
    sparse: bool = False


ROWS = (
    Row("tutorial: 512 positions, loss on all", {"padding": "max_length", "max_length": LENGTH, "loss_on": "all"}),
    Row("dynamic padding, loss on masked tokens", {}),
    Row("+ sparse_prediction", {}, sparse=True),
)


def make_model(size: str) -> Any:
    """Return a model with random weights; the cost is that of trained ones."""
    set_seed(0)
    if size == "mini":
        config = AutoConfig.from_pretrained(model_folder("mini"))
        config.vocab_size = 8192
    else:
        layers, width = {"6x384": (6, 384), "bert-base": (12, 768)}[size]
        config = AutoConfig.for_model(
            "bert", vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=width,
            num_attention_heads=12, intermediate_size=4 * width,
        )  # fmt: skip
    return AutoModelForMaskedLM.from_config(config)


def take_step(model: Any, optimizer: Any, batch: dict[str, torch.Tensor], sparse: bool) -> float:
    """Take one step and return its seconds."""
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    started = time.perf_counter()
    with only_at(model, labels != -100) if sparse else contextlib.nullcontext():
        loss = masked_lm_loss(model(**inputs), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["mini", "6x384"], choices=["mini", "6x384", "bert-base"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--corpus", default="meditations")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    corpus = load_corpus(options.corpus)
    tokenizer = train_tokenizer(corpus["train"]["text"], vocab_size=8192)
    rows = tokenize(corpus["train"].shuffle(seed=0).select(range(BATCH)), tokenizer, LENGTH)
    real = sum(len(row["input_ids"]) for row in rows)
    found = []
    for size in options.sizes:
        model = make_model(size).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        batches = {
            row: DataCollatorForMaskedLM(tokenizer, static_masks=True, **row.collator)(list(rows)) for row in ROWS
        }
        seconds: dict[Row, list[float]] = {row: [] for row in ROWS}
        for turn in range(options.turns + 1):
            for row in ROWS:
                taken = take_step(model, optimizer, batches[row], row.sparse)
                if turn:  # the first is for warming up
                    seconds[row].append(taken)
        medians = {row: statistics.median(times) for row, times in seconds.items()}
        found += [
            {
                "size": size,
                "row": row.name,
                "seconds_per_step": medians[row],
                "real_tokens_per_second": real / medians[row],
                "times_the_tutorial": medians[ROWS[0]] / medians[row],
            }
            for row in ROWS
        ]
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "device": "cpu"},
        "batch": {"paragraphs": BATCH, "real_tokens": real, "corpus": corpus.facts["name"]},
        "turns": options.turns,
        "versions": versions(),
        "rows": found,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"step_{platform.machine()}-{os.cpu_count()}cores_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    shown = [
        (r["size"], r["row"], f"{r['seconds_per_step']:.2f}", f"{r['real_tokens_per_second']:,.0f}",
         f"{r['times_the_tutorial']:.1f}")
        for r in found
    ]  # fmt: skip
    print(table([("model", "", "s/step", "real tokens/s", "x tutorial"), *shown], right=range(2, 5)))
    print(f"\nWritten to {path}")


if __name__ == "__main__":
    main()
