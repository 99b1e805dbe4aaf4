"""What MLMTrainer adds to a bare loop, and how soon it has learned what the peer learns: run by `make bench`.

Overhead: the same batches and the same model, stepped by MLMTrainer and by a bare loop, turn by turn. On a tiny model
it is plain to see in milliseconds; a larger one takes no more of them.

Time to loss: the wall time, evaluations left out, until the loss on held-out text with frozen masks is down to a level
that both end with: MLMTrainer, and the peer at its best (transformers' Trainer, bf16, grouped by length), from the same
weights.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch
import transformers
from datasets import disable_progress_bars
from result_file import add_output_argument, write_result
from step import BATCH, LENGTH, make_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer, load_corpus, tokenize, train_tokenizer
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.masking.batch_layout import without_mask
from mlm_recipes.masking.batch_plan import masked_positions
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.sparse_prediction import only_at
from mlm_recipes.training.callbacks.progress import TrainingProgress

RATE = 1e-3


class Clock(TrainerCallback):
    """Note when each step began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began.append(time.perf_counter())


def tiny(vocabulary: int) -> Any:
    """Return a model that costs next to nothing."""
    set_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForMaskedLM(BertConfig(vocab_size=vocabulary, **size))


def overhead(model: Any, rows: Any, tokenizer: Any, steps: int, turns: int, folder: str) -> dict[str, float]:
    """Return the median seconds of a step in MLMTrainer and in a bare loop over the same batches."""
    in_trainer, bare = [], []
    for _ in range(turns):
        args = MLMConfig(
            output_dir=folder, max_steps=steps, save_strategy="no", learning_rate=1e-5, disable_tqdm=True,
            per_device_train_batch_size=BATCH,
        )  # fmt: skip
        trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
        trainer.remove_callback(TrainingProgress)
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        in_trainer += [b - a for a, b in zip(clock.began[1:], clock.began[2:], strict=False)]
        batches = list(trainer.get_train_dataloader())[:steps]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        model.train()
        device = next(model.parameters()).device.type
        for number, batch in enumerate(batches):
            started = time.perf_counter()
            given = without_mask(dict(batch))
            labels = given.pop("labels")
            with (
                torch.autocast(device, torch.bfloat16, enabled=bool(args.bf16)),
                only_at(model, masked_positions(labels)),
            ):
                loss = masked_lm_loss(model(**given), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
            if 0 < number < len(batches) - 1:
                bare.append(time.perf_counter() - started)
    found = {"trainer_seconds": statistics.median(in_trainer), "bare_seconds": statistics.median(bare)}
    return found | {"overhead_seconds": found["trainer_seconds"] - found["bare_seconds"]}


class Curve(TrainerCallback):
    """Evaluate now and then, and note the seconds that training alone has taken until then."""

    def __init__(self, rows: Any, collator: DataCollatorForMaskedLM, every: int) -> None:
        self.rows, self.collator, self.every = rows, collator, every
        self.points: list[tuple[int, float, float]] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.spent, self.since = 0.0, time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        self.spent += time.perf_counter() - self.since
        results = TokenResults.of([evaluate_tokens(model, self.rows, self.collator, BATCH)])
        self.points.append((state.global_step, self.spent, float(results.nats.mean())))
        self.since = time.perf_counter()


def time_to_loss(corpus: Any, rows: Any, tokenizer: Any, steps: int, turns: int, folder: str) -> dict[str, Any]:
    """Return both trainers' seconds to a loss that both end with, and their curves."""
    held_out = tokenize(corpus["validation"], tokenizer, LENGTH, "truncate")
    collate = DataCollatorForMaskedLM(tokenizer).frozen(0)
    common: dict[str, Any] = {
        "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": BATCH, "learning_rate": RATE,
        "warmup_steps": 0.1, "save_strategy": "no", "disable_tqdm": True, "use_cpu": not torch.cuda.is_available(),
    }  # fmt: skip
    curves: dict[str, list[list[tuple[int, float, float]]]] = {"peer": [], "ours": []}
    for _ in range(turns):
        for name, found in curves.items():
            curve = Curve(held_out, collate, every=6)
            if name == "ours":
                args = MLMConfig(**common)
                trainer: Any = MLMTrainer(
                    make_model("mini"), args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[curve]
                )
            else:
                stock = TrainingArguments(
                    **common, bf16=bool(MLMConfig().bf16), train_sampling_strategy="group_by_length",
                    report_to="none", logging_strategy="no",
                )  # fmt: skip
                columns = [column for column in rows.column_names if column not in ("input_ids", "special_tokens_mask")]
                trainer = Trainer(
                    make_model("mini"), args=stock, train_dataset=rows.remove_columns(columns),
                    data_collator=DataCollatorForLanguageModeling(tokenizer), callbacks=[curve],
                )  # fmt: skip
            trainer.remove_callback(TrainingProgress)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            found.append(curve.points)
    return reached(curves) | {"curves": curves}


def reached(curves: dict[str, list[list[tuple[int, float, float]]]]) -> dict[str, Any]:
    """Return each side's seconds to the lowest loss that both end with, medians over the turns."""
    level = max(points[-1][2] for found in curves.values() for points in found)
    seconds = {
        name: statistics.median(next(spent for _, spent, loss in points if loss <= level) for points in found)
        for name, found in curves.items()
    }
    return {"level": level, "seconds": seconds, "ratio": seconds["peer"] / seconds["ours"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default="meditations", help="a file, or a known corpus")
    add_output_argument(parser)
    parser.add_argument("--full", action="store_true", default=os.environ.get("BENCH") == "full")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    disable_progress_bars()
    corpus = load_corpus(options.text)
    tokenizer = train_tokenizer(corpus["train"]["text"], vocab_size=8192)
    rows = tokenize(corpus["train"], tokenizer, LENGTH, "truncate")
    result: dict[str, Any] = {"text": corpus.facts["name"], "overhead": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size, model, steps in (("tiny", tiny(len(tokenizer)), 40), ("6x384", make_model("6x384"), 8)):
            found = overhead(model, rows, tokenizer, steps, 5 if options.full else 2, folder)
            result["overhead"][size] = found
            print(
                f"MLMTrainer, {size}: {1e3 * found['trainer_seconds']:.1f} ms a step, "
                f"bare loop {1e3 * found['bare_seconds']:.1f} ms: {1e3 * found['overhead_seconds']:+.1f} ms",
                flush=True,
            )
        found = result["time_to_loss"] = time_to_loss(corpus, rows, tokenizer, 60, 3 if options.full else 1, folder)
    print(
        f"mini from random weights, to a held-out loss of {found['level']:.3f} nats: the peer at its best "
        f"{found['seconds']['peer']:.1f} s, MLMTrainer {found['seconds']['ours']:.1f} s: {found['ratio']:.1f}x"
    )
    write_result(options.output, "trainer", result)


if __name__ == "__main__":
    main()
