"""What a training step costs, one switch a row: `make bench`, or `make bench BENCH=full` for all rows and more turns.

`--float32` measures what a processor without bf16 can do, the peer in float32 too. A newer processor does so with
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment. `--tables FILE` prints
a result as docs/speed.md has it.

A step is collation, forward, backward, clipping and update on 16 paragraphs. The rows are the tutorial's loop; the
peer, which is transformers' Trainer with its own collator, as people run it and at its best; and ours, one switch after
the other. All take turns on one model in one process, so that a noisy machine is noisy to all; a batch's time is the
median of its turns. Needs torch, transformers and this package; neither `datasets` nor `evaluate`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from result_file import add_output_argument, write_result
from transformers import AutoConfig, AutoModelForMaskedLM, DataCollatorForLanguageModeling, set_seed
from workload import (
    TEXT,
    evenly_spaced,
    grouped_batches,
    masked_tokens,
    model_flops,
    random_batches,
    rows_of,
    typical,
)

from mlm_recipes.masking.batch_layout import labelled, without_mask
from mlm_recipes.masking.batch_plan import by_length, masked_positions
from mlm_recipes.masking.collator import DataCollatorForMaskedLM
from mlm_recipes.model import joined_attention
from mlm_recipes.model import loss as loss_module
from mlm_recipes.model.dropout import Dropout
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.sparse_prediction import only_at
from mlm_recipes.sources.model_folder import model_folder
from mlm_recipes.training.speed.cpu_allocator import kept_memory

BATCH, LENGTH, VOCABULARY = 16, 512, 30522
SIZES = ("mini", "6x384", "bert-base")


@dataclass(frozen=True)
class Row:
    """One way to take a step."""

    name: str
    whose: str = "ours"  # tutorial, peer or ours
    grouped: bool = False
    joined: bool = False
    parts: bool = False
    bf16: bool = False
    fast_dropout: bool = False
    fused: bool = False
    lean: bool = False  # the cross-entropy in parts, and memory kept
    compiled: bool = False
    only_full: bool = False


TUTORIAL = Row("tutorial: 512 positions, loss on all", "tutorial")
AS_RUN = Row("peer + bf16 (as people run it)", "peer", bf16=True, fused=True)
AT_BEST = Row("peer + group_by_length (at its best)", "peer", bf16=True, fused=True, grouped=True)
OURS = Row(
    "ours + cross-entropy in parts, memory kept", joined=True, bf16=True, fast_dropout=True, fused=True, lean=True
)
ROWS = (
    TUTORIAL,
    Row("peer: Trainer's collator, dynamic padding", "peer", fused=True),
    AS_RUN,
    AT_BEST,
    Row("ours: sparse_prediction"),
    Row("ours + padding_free", joined=True),
    Row("ours + bf16", joined=True, bf16=True),
    Row("ours + dropout", joined=True, bf16=True, fast_dropout=True),
    Row("ours + fused AdamW", joined=True, bf16=True, fast_dropout=True, fused=True),
    OURS,
    Row("ours + torch_compile", joined=True, bf16=True, fused=True, compiled=True, only_full=True),
    Row("ours, parts of like length", parts=True, bf16=True, fast_dropout=True, fused=True, only_full=True),
)

# Without bf16, the peer as people run it is the one with dynamic padding.
AS_RUN_FLOAT32 = Row("peer: dynamic padding (as people run it)", "peer", fused=True)
AT_BEST_FLOAT32 = Row("peer + group_by_length (at its best)", "peer", fused=True, grouped=True)
ROWS_FLOAT32 = (
    TUTORIAL,
    AS_RUN_FLOAT32,
    AT_BEST_FLOAT32,
    Row("ours: sparse_prediction"),
    Row("ours + padding_free", joined=True),
    Row("ours + dropout", joined=True, fast_dropout=True),
    Row("ours + fused AdamW", joined=True, fast_dropout=True, fused=True),
    Row("ours + cross-entropy in parts, memory kept", joined=True, fast_dropout=True, fused=True, lean=True),
)


def choose_batches(rows: list[list[int]], grouped: bool, count: int) -> list[list[list[int]]]:
    """Return `count` batches for an epoch: of random ones the most typical, of those by length evenly spaced ones."""
    if grouped:
        return evenly_spaced(grouped_batches(rows, BATCH), count)
    return typical(random_batches(rows, BATCH), count)


def make_model(size: str) -> Any:
    """Return a model with random weights; the cost is that of trained ones."""
    set_seed(0)
    if size == "mini":
        config = AutoConfig.from_pretrained(model_folder("mini-random"))
        config.vocab_size = 8192
    else:
        layers, width = {"6x384": (6, 384), "bert-base": (12, 768)}[size]
        config = AutoConfig.for_model(
            "bert", vocab_size=VOCABULARY, num_hidden_layers=layers, hidden_size=width,
            num_attention_heads=12, intermediate_size=4 * width,
        )  # fmt: skip
    return AutoModelForMaskedLM.from_config(config)


def switch_fused(optimizer: torch.optim.Optimizer, fused: bool, device: torch.device) -> None:
    """Let an AdamW take fused steps from now on, or torch's default ones.

    AdamW reads the switch at every step, but decides only at the first one where it counts them: on the device if
    `fused`, otherwise on the CPU (`_init_group` in torch/optim/adam.py). Each implementation needs its own.
    """
    optimizer.param_groups[0]["fused"] = fused or None  # with False, torch would not choose its foreach steps on CUDA
    for state in optimizer.state.values():
        state["step"] = state["step"].to(device if fused else "cpu")


def plain_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return what `mlm_recipes.model.cross_entropy` does, by torch alone."""
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")


class Bench:
    """A model, its optimizer, and every way to take a step with them."""

    def __init__(self, size: str, tokenizer: Any, device: torch.device) -> None:
        self.device, self.tokenizer = device, tokenizer
        self.model = make_model(size).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
        self.attention = self.model.config._attn_implementation
        why = use_padding_free(self.model)
        assert why is None, why
        self.compiled: Any = None
        # Dropout's two kinds, to be put in place by row.
        self.dropouts = [
            (parent, name, child, Dropout(child.p))
            for parent in self.model.modules()
            for name, child in parent.named_children()
            if type(child) is torch.nn.Dropout
        ]

    def _set(self, row: Row) -> None:
        self.model.set_attn_implementation(joined_attention.NAME if row.joined else self.attention)
        for parent, name, plain, fast in self.dropouts:
            setattr(parent, name, fast if row.fast_dropout else plain)
        switch_fused(self.optimizer, row.fused, self.device)

    def _collate(self, row: Row, batch: list[list[int]]) -> dict[str, Any]:
        if row.whose == "peer":
            stock = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=0.15)
            return stock([{"input_ids": ids} for ids in batch])
        values: dict[str, Any] = {"padding_free": row.joined}
        if row.whose == "tutorial":
            values = {"padding": "max_length", "max_length": LENGTH, "loss_on": "all"}
        collate = DataCollatorForMaskedLM(self.tokenizer, static_masks=True, **values)
        return collate([{"input_ids": ids, "example_id": i} for i, ids in enumerate(batch)])

    def _loss(self, row: Row, batch: dict[str, Any]) -> torch.Tensor:
        batch = {name: v.to(self.device) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
        if row.whose == "peer":
            return self.model(**batch).loss
        count = labelled(batch["labels"]).sum()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in by_length(batch) if row.parts else [without_mask(batch)]:
            labels = part.pop("labels")
            model = self.compiled if row.compiled else self.model
            with only_at(self.model, masked_positions(labels)) if row.whose == "ours" else contextlib.nullcontext():
                total = total + masked_lm_loss(model(**part), labels, count)
        return total

    def step(self, row: Row, batch: list[list[int]]) -> float:
        """Take one step and return its seconds."""
        self._set(row)
        if row.compiled and self.compiled is None:
            self.compiled = torch.compile(self.model, dynamic=True)
        # Without the fast dropout, attention's own is torch's too.
        plain = mock.patch.object(joined_attention, "can_draw", return_value=False)
        started = self._now()
        with (
            contextlib.nullcontext() if row.fast_dropout or row.compiled else plain,
            contextlib.nullcontext() if row.lean else mock.patch.object(loss_module, "cross_entropy", plain_loss),
        ):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=row.bf16):
                loss = self._loss(row, self._collate(row, batch))
            loss.backward()
        if row.whose != "tutorial":  # Trainer's default, of both
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self._now() - started

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextlib.contextmanager
    def peak_memory(self) -> Iterator[list[float]]:
        """Measure the most memory in use within, in bytes: the process's own, or the GPU's."""
        found: list[float] = []
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            yield found
            found.append(torch.cuda.max_memory_allocated())
        elif platform.system() == "Linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier rows have freed
            Path("/proc/self/clear_refs").write_text("5")
            yield found
            status = Path("/proc/self/status").read_text()
            found.append(1024.0 * int(status.split("VmHWM:")[1].split()[0]))
        else:
            yield found
            found.append(float("nan"))


def matrix_rate(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Return the operations a second of matrix products of several shapes."""
    found = {}
    for rows, inner, columns in ((2048, 2048, 2048), (1696, 768, 3072), (1696, 3072, 768), (4096, 4096, 4096)):
        a, b = torch.randn(rows, inner, device=device).to(dtype), torch.randn(inner, columns, device=device).to(dtype)
        seconds = []
        for _ in range(4):
            started = time.perf_counter()
            c = a @ b
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        found[f"{rows}x{inner}x{columns}"] = 2.0 * rows * inner * columns / statistics.median(seconds[1:])
        del c
    return found


def measure(
    size: str, tokenizer: Any, rows: list[list[int]], full: bool, device: torch.device, float32: bool = False
) -> dict[str, Any]:
    """Let the rows take turns at one size; return their figures."""
    bench = Bench(size, tokenizer, device)
    table = [row for row in (ROWS_FLOAT32 if float32 else ROWS) if full or not row.only_full]
    large = size == "bert-base" and not full  # ten minutes are not enough for everything
    turns = 5 if full else 2 if large else 3
    batches = {grouped: choose_batches(rows, grouped, 3 if grouped else 1 if large else 2) for grouped in (False, True)}
    # Seconds of each batch, by row; and what is slow is measured less often.
    seconds: dict[Row, list[list[float]]] = {row: [[] for _ in batches[row.grouped]] for row in table}
    memory: dict[Row, float] = {}
    rates: dict[torch.dtype, list[dict[str, float]]] = {torch.float32: []} | (
        {} if float32 else {torch.bfloat16: []}  # emulated it may take minutes
    )
    once = [] if full else [row for row in table if row is TUTORIAL or (size != "mini" and not row.bf16)]
    for row in table:  # warming up
        if row not in once:
            with bench.peak_memory() as peak, kept_memory() if row.lean else contextlib.nullcontext():
                bench.step(row, batches[row.grouped][0])
            memory[row] = peak[0]
    for turn in range(turns):
        for dtype, found in rates.items():
            found.append(matrix_rate(device, dtype))
        for row in table:
            if turn and row in once:
                continue
            given = batches[row.grouped][:1] if row is TUTORIAL else batches[row.grouped]
            with (
                bench.peak_memory() if row in once else contextlib.nullcontext([0.0]) as peak,
                kept_memory() if row.lean else contextlib.nullcontext(),
            ):
                if row.lean:  # what a run does in its first step alone
                    bench.step(row, given[0])
                for index, batch in enumerate(given):
                    seconds[row][index].append(bench.step(row, batch))
            memory[row] = max(memory.get(row, 0.0), peak[0])
            print(f"  {size}, turn {turn + 1}/{turns}, {row.name}: {seconds[row][0][-1]:.2f} s", flush=True)
    best = {
        dtype: max(statistics.median(each[shape] for each in found) for shape in found[0])
        for dtype, found in rates.items()
    }
    peers = (AS_RUN_FLOAT32, AT_BEST_FLOAT32) if float32 else (AS_RUN, AT_BEST)
    return summary(bench, table, peers, seconds, memory, batches, best, statistics.mean(map(len, rows)) * BATCH)


def summary(
    bench: Bench,
    table: list[Row],
    peers: tuple[Row, Row],
    seconds: dict[Row, list[list[float]]],
    memory: dict[Row, float],
    batches: dict[bool, list[list[list[int]]]],
    best: dict[torch.dtype, float],
    tokens: float,
) -> dict[str, Any]:
    """Return the figures of one size; a step's seconds are those of an average batch of `tokens` real tokens."""
    found = []
    for row in table:
        timed = [(statistics.median(times), batch) for times, batch in
                 zip(seconds[row], batches[row.grouped], strict=True) if times]  # fmt: skip
        real = sum(len(ids) for _, batch in timed for ids in batch)
        spent = sum(second for second, _ in timed)
        flops = sum(
            model_flops(bench.model, lengths, masked_tokens(lengths))
            for lengths in ([len(ids) for ids in batch] for _, batch in timed)
        )
        rate = flops / spent
        found.append(
            {
                "row": row.name,
                "seconds_per_step": spent / real * tokens,
                "examples_per_second": BATCH * real / spent / tokens,
                "real_tokens_per_second": real / spent,
                "peak_memory_bytes": memory[row],
                "model_flops_per_second": rate,
                "share_of_matrix_rate": rate / best[torch.bfloat16 if row.bf16 else torch.float32],
                "turns": len(seconds[row][0]),
                "seconds": seconds[row],
            }
        )
    by_row = dict(zip(table, found, strict=True))
    for figures in found:
        for name, other in zip(("tutorial", "peer_as_run", "peer_at_best"), (TUTORIAL, *peers), strict=True):
            figures[f"times_{name}"] = by_row[other]["seconds_per_step"] / figures["seconds_per_step"]
            figures[f"memory_to_{name}"] = figures["peak_memory_bytes"] / by_row[other]["peak_memory_bytes"]
    return {
        "parameters": sum(weight.numel() for weight in bench.model.parameters()),
        "matrix_flops_per_second": {str(dtype).removeprefix("torch."): rate for dtype, rate in best.items()},
        "rows": found,
    }


def show(size: str, figures: dict[str, Any]) -> None:
    """Print the table of one size."""
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s {name}" for name, rate in figures["matrix_flops_per_second"].items())
    print(f"\n{size}: {figures['parameters'] / 1e6:.1f}M parameters; matrix products {rates}")
    head = ("", "s/step", "examples/s", "tokens/s", "peak GB", "GFLOP/s", "of rate", "x tutorial", "x as run", "x best")
    lines = [
        (
            row["row"], f"{row['seconds_per_step']:.3g}", f"{row['examples_per_second']:.1f}",
            f"{row['real_tokens_per_second']:,.0f}", f"{row['peak_memory_bytes'] / 1e9:.2f}",
            f"{row['model_flops_per_second'] / 1e9:,.0f}", f"{row['share_of_matrix_rate']:.0%}",
            *(f"{row[f'times_{name}']:.1f}" for name in ("tutorial", "peer_as_run", "peer_at_best")),
        )
        for row in figures["rows"]
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, *lines]:
        cells = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("  ".join([line[0].ljust(widths[0]), *cells]))


def table_of(figures: dict[str, Any]) -> str:
    """Return the rows of one size as docs/speed.md has them."""
    return "\n".join(
        f"| {row['row']} | {row['seconds_per_step']:.3g} | {row['real_tokens_per_second']:,.0f} | "
        f"{row['peak_memory_bytes'] / 1e9:.2f} | {row['model_flops_per_second'] / 1e9:,.0f} | "
        f"{row['share_of_matrix_rate']:.0%} | {row['times_tutorial']:.1f} | {row['times_peer_as_run']:.1f} | "
        f"{row['times_peer_at_best']:.1f} |"
        for row in figures["rows"]
    )


def print_tables(result: Path) -> None:
    """Print every size of a result as docs/speed.md has it."""
    head = (
        "| | s/step | real tokens/s | peak GB | model GFLOP/s | of matrix rate | x tutorial | x peer as run | "
        "x peer at best |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for size, figures in json.loads(result.read_text("utf-8"))["sizes"].items():
        rates = figures["matrix_flops_per_second"].items()
        products = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in rates)
        print(f"**{size}**; matrix products {products}\n\n{head}{table_of(figures)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
    parser.add_argument("--full", action="store_true", default=os.environ.get("BENCH") == "full")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--float32", action="store_true", help="all rows in float32, for a processor without bf16")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="measure nothing, print the tables of a result")
    add_output_argument(parser)
    options = parser.parse_args()
    if options.tables:
        print_tables(options.tables)
        return
    transformers.logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, rows = rows_of(options.text, LENGTH)
    lengths = [len(row) for row in rows]
    print(f"{options.text.name}: {len(rows)} paragraphs, {sum(lengths):,} tokens; batches of {BATCH}, on {device}.")
    result: dict[str, Any] = {
        "text": {"name": options.text.name, "paragraphs": len(rows), "tokens": sum(lengths), "batch": BATCH},
        "sizes": {},
    }
    for size in options.sizes:
        result["sizes"][size] = measure(size, tokenizer, rows, options.full, device, options.float32)
        show(size, result["sizes"][size])
    write_result(options.output, "step", result, device.type, by_instructions=options.float32)


if __name__ == "__main__":
    main()
