"""How evenly processes share the tokens of a step, and what that saves: dealt in order, by length, and by tokens.

Simulated: the busiest of 2, 8 and 64 processes against the mean, on a text's rows. Measured: steps of two gloo
processes on this machine, turn by turn. Every process has a thread of its own, so two cores are enough.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from result_file import add_output_argument, write_result
from transformers import BertConfig, BertForMaskedLM, PrinterCallback, TrainerCallback, set_seed
from workload import TEXT, rows_of

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.training.batches.example_order import EpochSampler
from mlm_recipes.training.batches.step_batches import StepBatches
from mlm_recipes.training.callbacks.progress import TrainingProgress
from mlm_recipes.training.distributed.processes import leave_process_group

RANKS, BATCH = (2, 8, 64), 16
#: The way that each of a text's rows is dealt.
WAYS = ("in order", "by length", "by tokens")


def simulated(lengths: Any, ranks: int, way: str, steps: int) -> dict[str, Any] | None:
    """Return how evenly the first `steps` steps of an epoch are dealt, and what that takes; None if there are none."""
    tokens = int(BATCH * ranks * lengths.mean()) if way == "by tokens" else None
    steps = min(steps, len(lengths) // (BATCH * ranks))
    if not steps:
        return None
    sampler = EpochSampler(
        len(lengths), seed=0, global_batch_size=BATCH * ranks, multiple_of=BATCH * ranks, lengths=lambda epoch: lengths,
        tokens_per_batch=tokens,
    )  # fmt: skip
    batches = StepBatches(sampler, ranks, 1, None if tokens else BATCH, by_length=way != "in order")
    dealing = []
    for step, keys in zip(range(steps), sampler.steps(), strict=False):
        started = time.perf_counter()
        batches.dealt(step, keys, 0)
        dealing.append(time.perf_counter() - started)
    facts = batches.loads.facts(range(steps))
    assert facts is not None
    ratio = facts["max_to_mean"]
    return {
        "ranks": ranks, "way": way, "steps": steps, "max_to_mean": ratio, "share_of_time_waited": 1 - 1 / ratio,
        "seconds_a_step": statistics.median(dealing),
    }  # fmt: skip


class Clock(TrainerCallback):
    """Note when each step began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began.append(time.perf_counter())


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Train in each way, turn by turn, as one of several processes; the main one writes what it measured."""
    tokenizer, ids = rows_of(options.text)
    rows = [{"input_ids": row} for row in ids]
    tokens = int(2 * BATCH * np.mean([len(row) for row in ids]))
    set_seed(0)
    size = {"hidden_size": options.width, "num_hidden_layers": 4, "intermediate_size": 4 * options.width}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), num_attention_heads=4, **size))
    found: dict[str, dict[str, Any]] = {way: {"seconds": [], "tokens": []} for way in WAYS}
    for _ in range(options.turns):
        for way in WAYS:
            args = MLMConfig(
                output_dir=str(folder), max_steps=options.steps + 1, per_device_train_batch_size=BATCH, use_cpu=True,
                save_strategy="no", disable_tqdm=True, balance_lengths=way != "in order", logging_strategy="no",
                tokens_per_batch=tokens if way == "by tokens" else None, ddp_find_unused_parameters=False,
            )  # fmt: skip
            trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
            for callback in (TrainingProgress, PrinterCallback):
                trainer.remove_callback(callback)
            clock = Clock()
            trainer.add_callback(clock)
            trainer.train()
            ended = time.perf_counter()
            counts = trainer.accelerator.reduce(trainer.token_counter.counts()).tolist()
            assert trainer.rank_loads is not None
            found[way]["balance"] = trainer.rank_loads.facts(range(options.steps + 1))
            # The first step is slower. All its tokens are a few percent of the whole, and the same in each way.
            found[way]["seconds"].append(ended - clock.began[1])
            found[way]["tokens"].append(counts[0] * options.steps / (options.steps + 1))
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    leave_process_group()


def in_two_processes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what two processes measured, one entry for each way."""
    with tempfile.TemporaryDirectory() as folder:
        own = [__file__, "--worker", folder, "--text", options.text.resolve(), "--steps", options.steps]
        own += ["--turns", options.turns, "--width", options.width]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", 2, "--standalone", *own]
        subprocess.run([str(word) for word in launch], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        found = json.loads((Path(folder) / "found.json").read_text("utf-8"))
    rates = {way: [n / s for n, s in zip(each["tokens"], each["seconds"], strict=True)] for way, each in found.items()}
    return [
        {
            "way": way, "steps": options.steps, "tokens_per_second": statistics.median(rates[way]), "turns": rates[way],
            "times_in_order": statistics.median(
                rate / plain for rate, plain in zip(rates[way], rates["in order"], strict=True)
            ),
            "max_to_mean": found[way]["balance"]["max_to_mean"],
        }
        for way in WAYS
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=30, help="the steps that are measured in each way and turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--width", type=int, default=256, help="the hidden size of the model, of four layers")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    add_output_argument(parser)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if options.worker is not None:
        measure(options, options.worker)
        return
    _, ids = rows_of(options.text)
    lengths = np.array([len(row) for row in ids])
    result: dict[str, Any] = {
        "text": options.text.name, "rows": len(lengths), "mean_tokens": float(lengths.mean()),
        "longest": int(lengths.max()), "rows_a_process": BATCH, "simulated": [], "measured": [],
    }  # fmt: skip
    print(f"{len(lengths):,} rows, {lengths.mean():.0f} tokens on average, {BATCH} rows a process and step")
    for ranks in RANKS:
        for way in WAYS:
            row = simulated(lengths, ranks, way, steps=200)
            if row is not None:
                result["simulated"].append(row)
                waited, seconds = row["share_of_time_waited"], row["seconds_a_step"]
                print(
                    f"{ranks:3} processes, {way:9}: busiest / mean {row['max_to_mean']:.4f}, {waited:5.1%} of the time "
                    f"waited; dealing {1e3 * seconds:.2f} ms a step"
                )
    result["measured"] = in_two_processes(options)
    for row in result["measured"]:
        print(
            f"two gloo processes, {row['way']:9}: {row['tokens_per_second']:8,.0f} tokens/s, "
            f"{row['times_in_order']:.3f} times in order; busiest / mean {row['max_to_mean']:.4f}"
        )
    write_result(options.output, "balance", result)


if __name__ == "__main__":
    main()
