"""What it costs to get from a text to batches, by transformers' run_mlm pipeline and by ours: run by `make bench-data`.

One file of 100 MB or more, made by repeating a text with noise. Every row is a process of its own with an empty cache:
read, tokenize, collate every batch once. Then the time from the start of a process to its first optimizer step with a
warm cache, and the peak of memory over a text and over one ten times as large. Turn by turn, the median.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlm_recipes.data.text_files import read_text

ROOT = Path(__file__).parent.parent
LENGTH, BATCH = 512, 32
MODEL = str(ROOT / "mlm_recipes/bundled/models/mini")


def make_text(source: Path, path: Path, size: int) -> None:
    """Write `size` bytes of text: the source's paragraphs again and again, three words of a hundred exchanged.

    A third of the new words are made up, so that the vocabulary keeps growing with the text, as real ones do.
    """
    # At most 300 words, or the peer would cut most of a long line off and have less to do.
    paragraphs = [line.split()[:300] for line in read_text(source, Counter(), sample_by="line")]
    words = list(itertools.chain.from_iterable(paragraphs[:20_000]))
    draw, written = random.Random(0), 0
    with path.open("w", encoding="utf-8") as file:
        for paragraph in itertools.cycle(paragraphs):
            if written >= size:
                break
            changed = list(paragraph)
            for _ in range(max(1, len(changed) * 3 // 100)):
                new = draw.choice(words) if draw.random() < 2 / 3 else "".join(draw.choices("aeinorstlm", k=7))
                changed[draw.randrange(len(changed))] = new
            written += file.write(" ".join(changed) + "\n")


# The pipelines: each function runs in a process of its own.


def peer_rows(path: str, packed: bool, processes: int | None) -> tuple[Any, Any, Callable[..., Any]]:
    """Read and tokenize as transformers' run_mlm.py does; return rows, sampler and collator."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = load_dataset("text", data_files=path, split="train")

    def tokenize(batch: dict[str, list[str]]) -> Any:
        lines = [line for line in batch["text"] if line and not line.isspace()]
        if packed:
            return tokenizer(lines, return_special_tokens_mask=True)
        return tokenizer(lines, truncation=True, max_length=LENGTH, return_special_tokens_mask=True)

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(itertools.chain(*rows)) for name, rows in batch.items()}
        end = len(joined["input_ids"]) // LENGTH * LENGTH
        return {name: [ids[i : i + LENGTH] for i in range(0, end, LENGTH)] for name, ids in joined.items()}

    rows = text.map(tokenize, batched=True, remove_columns=["text"], num_proc=processes)
    if packed:
        rows = rows.map(group, batched=True, num_proc=processes)
    return rows, None, DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)


def our_rows(path: str, packed: bool, processes: int | None) -> tuple[Any, Any, Callable[..., Any]]:
    """Read and tokenize as `mlm_recipes.train` does; return rows, sampler and collator."""
    from mlm_recipes import DataCollatorForMaskedLM, load_corpus, load_tokenizer
    from mlm_recipes.data.rows import to_rows
    from mlm_recipes.data.rows_of_epoch import RowsOfEpoch
    from mlm_recipes.training.batches.example_order import EpochSampler

    tokenizer = load_tokenizer(MODEL)
    rows = to_rows(load_corpus(path)["train"], tokenizer, LENGTH, packing=packed, num_proc=processes)
    collator = DataCollatorForMaskedLM(tokenizer, padding_free=True)
    return RowsOfEpoch(rows), EpochSampler(len(rows), seed=0), collator


ROWS = {"peer": peer_rows, "ours": our_rows}


def pipeline(side: str, path: str, packed: bool, processes: int | None) -> dict[str, Any]:
    """Read, tokenize and collate the whole file once."""
    from torch.utils.data import DataLoader
    from transformers import Trainer  # noqa: F401  both need it in the end; importing it is not reading

    import mlm_recipes.training.trainer  # noqa: F401

    started = time.perf_counter()
    rows, sampler, collator = ROWS[side](path, packed, processes)
    ready = time.perf_counter()
    tokens = 0
    for batch in DataLoader(rows, BATCH, shuffle=sampler is None, sampler=sampler, collate_fn=collator):
        tokens += int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()
    done = time.perf_counter()
    return {
        "tokens": tokens,
        "read_and_tokenize_seconds": ready - started,
        "collate_seconds": done - ready,
        "seconds": done - started,
        "tokens_per_second": tokens / (done - started),
    }


def first_step(side: str, path: str) -> dict[str, Any]:
    """Train one step by Trainer or by MLMTrainer; the parent process watches the clock."""
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            print("first step", flush=True)

    values = {"max_steps": 1, "per_device_train_batch_size": BATCH, "use_cpu": True, "save_strategy": "no"}
    with tempfile.TemporaryDirectory() as folder:
        if side == "ours":
            from mlm_recipes import MLMConfig, MLMTrainer, load_corpus

            text = load_corpus(path)["train"]
            MLMTrainer("mini", MLMConfig(folder, **values), train_dataset=text, callbacks=[Told()]).train()
        else:
            import evaluate  # noqa: F401  as run_mlm.py does
            from transformers import AutoModelForMaskedLM, Trainer, TrainingArguments

            rows, _, collator = peer_rows(path, packed=False, processes=None)
            model = AutoModelForMaskedLM.from_pretrained(MODEL)
            args = TrainingArguments(folder, bf16=True, **values)
            Trainer(model, args, collator, train_dataset=rows, callbacks=[Told()]).train()
    return {}


def memory(path: str) -> dict[str, Any]:
    """Train five steps by the recipe; return the peaks of the process's memory.

    `anonymous` is what the process itself has asked for; `resident` counts pages of mapped files too, which the system
    takes back when it needs them.
    """
    peaks = {"anonymous": 0, "resident": 0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for name, key in (("anonymous", "RssAnon"), ("resident", "VmRSS")):
                peaks[name] = max(peaks[name], int(status[key].split()[0]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    from mlm_recipes import train

    with tempfile.TemporaryDirectory() as folder:
        train("quickstart", corpus=path, max_steps=5, output_dir=folder, general_corpus="none", disable_tqdm=True)
    stop.set()
    watcher.join()
    return peaks


def child(cache: Path, *call: Any) -> dict[str, Any]:
    """Run one of the functions above in a process of its own; return what it returns, and `first_step_seconds`."""
    environment = os.environ | {"HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    started, told = time.perf_counter(), None
    command = [sys.executable, __file__, "--child", json.dumps(call)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = ""
    for line in process.stdout:
        if line.startswith("first step"):
            told = time.perf_counter() - started
    if process.wait():
        assert process.stderr is not None
        raise SystemExit(f"{call} failed:\n{process.stderr.read()}")
    return json.loads(line) | ({"first_step_seconds": told} if told else {})


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def pipelines(text: Path, turns: int) -> Iterator[dict[str, Any]]:
    cases = list(itertools.product((False, True), (None, os.cpu_count()), ROWS))
    found: dict[Any, list[dict[str, float]]] = {case: [] for case in cases}
    for _, case in itertools.product(range(turns), cases):
        packed, processes, side = case
        with tempfile.TemporaryDirectory() as cache:
            found[case].append(child(Path(cache), "pipeline", side, str(text), packed, processes))
        print(case, found[case][-1], flush=True)
    for packed in (False, True):
        rows = {case[1:]: median(found[case]) for case in cases if case[0] == packed}
        best = max(row["tokens_per_second"] for (_, side), row in rows.items() if side == "peer")
        for (processes, side), row in rows.items():
            name = f"{side}, {'packed' if packed else 'a row a paragraph'}, processes: {processes or 1}"
            yield {"row": name} | row | {"times_peer_at_best": row["tokens_per_second"] / best}


def starts(text: Path, turns: int) -> Iterator[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {side: [] for side in ROWS}
    with tempfile.TemporaryDirectory() as cache:
        for turn, side in itertools.product(range(turns + 1), ROWS):
            row = child(Path(cache), "first_step", side, str(text))
            if turn:  # the first fills the cache
                found[side].append(row)
    seconds = {side: median(rows)["first_step_seconds"] for side, rows in found.items()}
    for side in ROWS:
        yield {"row": side, "seconds": seconds[side], "share_of_peer": seconds[side] / seconds["peer"]}


def peaks(text: Path, tenth: Path) -> Iterator[dict[str, Any]]:
    rows = {}
    for name, path in (("1x", tenth), ("10x", text)):
        with tempfile.TemporaryDirectory() as cache:
            rows[name] = child(Path(cache), "memory", str(path)) | {"bytes_of_text": path.stat().st_size}
    for name, row in rows.items():
        yield (
            {"row": name} | row | {f"{kind}_to_1x": row[kind] / rows["1x"][kind] for kind in ("anonymous", "resident")}
        )


def main() -> None:
    from result_file import add_output_argument, write_result

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=ROOT / "mlm_recipes/bundled/corpora/meditations.txt")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    add_output_argument(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, tenth = Path(folder) / "text.txt", Path(folder) / "tenth.txt"
        make_text(options.text, text, options.megabytes * 10**6)
        make_text(options.text, tenth, options.megabytes * 10**5)
        measured: dict[str, Any] = {"source": options.text.name, "bytes": text.stat().st_size, "turns": options.turns}
        for name, rows in (
            ("memory", peaks(text, tenth)),
            ("first_step", starts(text, options.turns)),
            ("pipeline", pipelines(text, options.turns)),
        ):
            measured[name] = []
            for row in rows:
                measured[name].append(row)
                print(name, row, flush=True)
    write_result(options.output, "data", measured)


if __name__ == "__main__":
    if "--child" in sys.argv:
        function, *arguments = json.loads(sys.argv[sys.argv.index("--child") + 1])
        result = {"pipeline": pipeline, "first_step": first_step, "memory": memory}[function](*arguments)
        print(json.dumps(result))
    else:
        main()
