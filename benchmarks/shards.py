"""A prepared corpus of ten million rows: the time to open it, to a resumed run's first step, and of its order.

    python benchmarks/shards.py [--rows 10000000] [--places 0.01 0.99] [--repeats 3]

The rows are random ids in 16 shards, written as `mlm-recipes prepare` writes them, in a temporary folder (about 50
bytes a row). A tiny model is trained for one step from the beginning. Its checkpoint then gets the number of a step at
1% and at 99% of the epoch, and the run is resumed for one further step, in a process of its own: all that a resume does
is timed, from `train()` to the end of that step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from result_file import add_output_argument, write_result
from transformers import BertConfig, BertForMaskedLM, TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer, load_tokenizer
from mlm_recipes.checkpoints.storage import MANIFEST, commit
from mlm_recipes.data.prepared_files import FORMAT, INDEX, VERSION
from mlm_recipes.data.prepared_index import PreparedIndex, read_index
from mlm_recipes.data.prepared_rows import PreparedRows
from mlm_recipes.masking.permutation import permuted
from mlm_recipes.training.batches.example_order import EpochSampler

TOKENS, SHARDS, BATCH = 8, 16, 64


def write_rows(folder: Path, number: int) -> None:
    """Write random rows, and their index."""
    shards, generator = [], np.random.default_rng(0)
    special = np.zeros(TOKENS, np.int8)
    special[[0, -1]] = 1
    for shard, ids in enumerate(np.array_split(np.arange(number), SHARDS)):
        path = folder / f"share-1-of-1-{shard + 1:05}.arrow"
        offsets = np.arange(0, len(ids) * TOKENS + 1, TOKENS, dtype=np.int32)
        tokens = generator.integers(104, 8_000, len(ids) * TOKENS, dtype=np.int32)
        tokens[::TOKENS], tokens[TOKENS - 1 :: TOKENS] = 101, 102
        table = pa.table(
            {
                "input_ids": pa.ListArray.from_arrays(offsets, tokens),
                "special_tokens_mask": pa.ListArray.from_arrays(offsets, np.tile(special, len(ids))),
                "example_id": ids,
            }
        )
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table, max_chunksize=1_000)
        content = path.read_bytes()
        counts = {"paragraphs": len(ids), "words": 6 * len(ids), "rows": len(ids), "tokens": TOKENS * len(ids)}
        lost = {"cut_off_paragraphs": 0, "cut_off_tokens": 0, "split_paragraphs": 0, "longest": TOKENS, "read": 0}
        sha256 = hashlib.sha256(content).hexdigest()
        shards.append({"file": path.name, "bytes": len(content), "sha256": sha256} | counts | lost)
    rules = {"max_length": TOKENS, "packing": False, "long_text": "split", "stride": 0, "word_segmenter": "none"}
    tokenizer = {"model": "mini", "tokens": 8_192, "vocabulary": "", "held_out_rows": "", "files": {}}
    corpus = {"name": "random", "source": "random", "files": 0, "files_sha256": "", "reading": {}}
    held_out = {"paragraphs": 0, "copies": 0, "not_measured": 0, "fraction": 0.1, "at_most": 1, "seed": 0}
    plan: Any = {"format": FORMAT, "version": VERSION, "shares": 1, "dealt": "whole", "shard_characters": 1}
    plan |= {"corpus": corpus, "tokenizer": tokenizer, "rows": rules}
    plan |= {"held_out": held_out | {"corpus": None, "file": {"bytes": 0, "sha256": ""}}}
    index = PreparedIndex(plan, tuple(shards), np.ones(8_000, dtype=np.int64))
    (folder / INDEX).write_text(index.text(), "utf-8")


class Clock(TrainerCallback):
    """Notes when the first step of a run has ended."""

    at = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time of the first step."""
        self.at = self.at or time.perf_counter()
        control.should_training_stop = True


def run(folder: Path, resume: Path | None) -> dict[str, float]:
    """Train one step from the beginning, or after a checkpoint, and return what it took."""
    started = time.perf_counter()
    rows = PreparedRows.open(folder, read_index(folder))
    opened = time.perf_counter() - started
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=8_192, max_position_embeddings=64, **sizes))
    args = MLMConfig(
        output_dir=str(folder / "run"), use_cpu=True, per_device_train_batch_size=BATCH, num_train_epochs=1, bf16=False,
        save_strategy="no" if resume else "steps", save_steps=1, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    clock = Clock()
    tokenizer = load_tokenizer("mini")
    trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(resume) if resume else False)
    first = clock.at - started
    started = time.perf_counter()
    loader = trainer.get_train_dataloader()
    from accelerate import skip_first_batches

    passed = int(json.loads((resume / "trainer_state.json").read_text("utf-8"))["global_step"]) if resume else 0
    next(iter(skip_first_batches(loader, passed)))
    batch = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"open_seconds": opened, "first_step_seconds": first, "first_batch_seconds": batch, "peak_gigabytes": peak}


def at_step(folder: Path, step: int) -> Path:
    """Return a copy of the checkpoint of the first step that says that it was saved after `step` steps."""
    import shutil

    made = folder / f"checkpoint-{step}"
    if made.exists():
        return made
    staged = folder / "staged"
    shutil.copytree(folder / "run/checkpoint-1", staged)
    state = json.loads((staged / "trainer_state.json").read_text("utf-8"))
    (staged / "trainer_state.json").write_text(json.dumps(state | {"global_step": step}), "utf-8")
    (staged / MANIFEST).unlink()
    commit(staged, made)
    return made


def in_its_own_process(folder: Path, resume: Path | None) -> dict[str, float]:
    """Return what `run` does, in a new process, whose memory is that of this run."""
    command = [sys.executable, __file__, "--folder", str(folder), *(["--resume", str(resume)] if resume else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def order_of_rows(number: int) -> dict[str, float]:
    """Return what the order of an epoch costs: its first batch, and a batch of the old sampler's."""
    started = time.perf_counter()
    for first in range(0, 100 * BATCH, BATCH):
        permuted(np.arange(number - first - BATCH, number - first), number, 0, 0)
    computed = (time.perf_counter() - started) / 100
    started = time.perf_counter()
    next(iter(EpochSampler(number, seed=0)))
    return {"batch_computed_seconds": computed, "whole_order_sorted_seconds": time.perf_counter() - started}


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="the number of rows")
    parser.add_argument("--places", type=float, nargs="+", default=[0.01, 0.99], help="where a run is resumed")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    add_output_argument(parser)
    options = parser.parse_args()
    if options.folder is not None:
        print(json.dumps(run(options.folder, options.resume)))
        return
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-shards-") as name:
        folder = Path(name)
        write_rows(folder, options.rows)
        measured: dict[str, Any] = {"rows": options.rows, "batch": BATCH, "repeats": options.repeats}
        in_its_own_process(folder, None)
        steps = -(-options.rows // BATCH)
        runs: dict[float, list[dict[str, float]]] = {place: [] for place in options.places}
        for _ in range(options.repeats):  # in turn, so that what else the machine does affects all alike
            for place in options.places:
                runs[place].append(in_its_own_process(folder, at_step(folder, int(place * steps))))
        resumed = {f"{place:.0%}": {n: median(r[n] for r in found) for n in found[0]} for place, found in runs.items()}
        first = [each["first_step_seconds"] for each in resumed.values()]
        measured |= {"resumed_at": resumed, "slowest_to_fastest_first_step": max(first) / min(first)}
        measured |= {"runs": {f"{place:.0%}": found for place, found in runs.items()}}
        measured["order"] = order_of_rows(options.rows)
        print(json.dumps(measured | {"runs": None}, indent=2))
        write_result(options.output, "shards", measured)


if __name__ == "__main__":
    main()
