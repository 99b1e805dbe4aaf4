"""One process of a run that benchmarks/scale.py starts: it trains, and the first process writes what it cost."""

from __future__ import annotations

import time

BEGAN = time.perf_counter()  # before anything heavy is imported

import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from transformers import BertConfig, BertForMaskedLM, PrinterCallback, TrainerCallback, set_seed  # noqa: E402

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, tokenize, train_tokenizer  # noqa: E402
from mlm_recipes.training.callbacks.progress import TrainingProgress  # noqa: E402
from mlm_recipes.training.distributed.processes import leave_process_group  # noqa: E402

LENGTH, VOCABULARY = 128, 2000
#: Steps that are not timed.
WARM_UP = 2


class Clock(TrainerCallback):
    """Note the time of day and the processor time at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


def run(text: str, batch: int, accumulation: int, steps: int, folder: str) -> dict[str, Any]:
    """Train, and return this process's times in seconds, its peak memory in bytes, and the losses of all processes."""
    marks = {"imported": time.perf_counter() - BEGAN}
    corpus = load_corpus(text)
    tokenizer = train_tokenizer(corpus["train"]["text"][:500], vocab_size=VOCABULARY)
    marks["read"] = time.perf_counter() - BEGAN
    rows = tokenize(corpus["train"], tokenizer, LENGTH)
    marks["tokenized"] = time.perf_counter() - BEGAN
    set_seed(0)
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    chance = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # it would differ between processes
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **size, **chance))
    args = MLMConfig(
        output_dir=folder, max_steps=steps, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        learning_rate=1e-3, save_strategy="no", disable_tqdm=True, use_cpu=True, bf16=False, seed=0, logging_steps=1,
    )  # fmt: skip
    clock = Clock()
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    for callback in (TrainingProgress, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.train()
    marks["first step"] = clock.ends[0][0] - BEGAN
    timed = clock.ends[WARM_UP - 1], clock.ends[-1]
    counted = len(clock.ends) - WARM_UP
    real = int(trainer.token_counter.counts()[0])
    return {
        "paragraphs": len(corpus["train"]),
        "marks": marks,
        "seconds_per_step": (timed[1][0] - timed[0][0]) / counted,
        "processor_seconds_per_step": (timed[1][1] - timed[0][1]) / counted,
        "tokens_per_step": real / steps,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def main() -> None:
    text, batch, accumulation, steps, folder = sys.argv[1:]
    found = run(text, int(batch), int(accumulation), int(steps), folder)
    rank = int(os.environ.get("RANK", "0"))
    (Path(folder) / f"found-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    if torch.distributed.is_initialized():
        leave_process_group()


if __name__ == "__main__":
    main()
