"""One long story, told by what is left on the disk at its end: `make story`.

1. A text is prepared in shards by two processes. One of them is killed, and started again.
2. Two hosts train on the shards; a host is a torchrun launcher on this machine, which meets the other over loopback.
3. One host is lost for good: its launcher and all its processes are killed at once. The other one goes on alone.
4. The weights are compared with those of one process, on shards that one process has prepared, undisturbed.

The exit code is 1 if a shard has another byte, or if a weight differs by more than 1e-6. AdamW's epsilon is far above
all gradients, so that rounding stays rounding (CONTRIBUTING.md). Linux only, whose /proc lists a launcher's processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from differences import of_weights
from hosts import LAST_CALL, STEP, Command, Host
from layouts import free_port
from result_file import add_output_argument, write_result
from safetensors.torch import load_file
from transformers.utils.logging import disable_progress_bar
from workload import TEXT, larger_text

from mlm_recipes import load_model, load_tokenizer, prepare_corpus, train

Found = dict[str, Any]

BOUND = 1e-6
COPIES, SHARD_CHARACTERS, LENGTH = 10, 20_000, 64
TRAINING = {
    "model": "mini", "general_corpus": "none", "max_eval_samples": 4, "global_batch_size": 8, "save_strategy": "steps",
    "save_total_limit": 2, "bf16": False, "adam_epsilon": 1.0, "learning_rate": 0.1,
}  # fmt: skip

#: How the line begins in which a process says how it divides the global batch when it is alone.
ALONE = "1 process: "


def flags(values: dict[str, Any]) -> list[str]:
    """Return values as flags.

    >>> flags({"bf16": False, "max_steps": 60})
    ['--bf16', 'false', '--max_steps', '60']
    """
    words = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return [word for name, value in words.items() for word in (f"--{name}", value)]


def prepare(text: Path, root: Path) -> Found:
    """Prepare two shares at the same time, kill the first one after two shards, and start it again."""
    shards, began = root / "shards", time.monotonic()

    def share(number: int) -> Command:
        values = {"model": "mini", "max_length": LENGTH, "out": shards, "shard_characters": SHARD_CHARACTERS}
        arguments = ["mlm_recipes", "prepare", str(text), *flags(values), "--shard", f"{number}/2"]
        return Command(arguments, root / f"prepare-{number}.log")

    def complete(number: int) -> int:
        return len(list(shards.glob(f"share-{number}-of-2-*.json")))

    first, second = share(1), share(2)
    first.wait_for(lambda: complete(1) >= 2, "second shard of share 1")
    first.kill()
    there = complete(1)
    if (shards / "share-1-of-2.json").exists():
        raise RuntimeError("share 1 was complete before it was killed: take a longer text")
    codes = [second.end()]
    restarted = time.monotonic()
    again = share(1)
    codes.append(again.end())
    if any(codes):
        raise RuntimeError(f"preparing ended with {codes}:\n{again.said()[-3000:]}{second.said()[-3000:]}")
    return {
        "shards": [complete(1), complete(2)], "whole_when_killed": there,
        "kept": int(re.findall(r"of which (\d+) w", again.said())[-1]),
        "seconds_of_second_start": round(time.monotonic() - restarted, 1),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def lose_a_host(root: Path, steps: int, save_steps: int) -> Found:
    """Train on two hosts, kill one of them for good after a checkpoint, and let the other one finish."""
    out, began = root / "out", time.monotonic()
    values = TRAINING | {"corpus": root / "shards", "output_dir": out, "max_steps": steps, "save_steps": save_steps}
    arguments = ["train", "adapt", *flags(values | {"per_device_train_batch_size": 4})]
    port, launch = free_port(), ["--nnodes", "1:2", "--max-restarts", "3"]
    hosts = [Host(number, port, launch, arguments, root / f"host-{number}.log") for number in (0, 1)]
    first, second = hosts
    try:
        checkpoint, after = out / f"checkpoint-{save_steps}", save_steps + max(1, steps // 20)
        first.wait_for(lambda: checkpoint.exists() and first.step() >= after, f"step {after}")
        printed = first.log.stat().st_size
        step, killed, lost = first.step(), second.kill(), time.monotonic()
        if killed < 2 or ALONE in first.said():
            raise RuntimeError(f"the second host did not train with the first one:\n{first.said()[-3000:]}")
        noticed = first.wait_for(lambda: "mlm-recipes: error" in first.said(printed), "word of the loss")
        first.wait_for(lambda: bool(STEP.search(first.said(printed).partition(ALONE)[2])), "step after the loss")
        went_on = time.monotonic() - lost
        code = first.end()
    finally:
        for host in hosts:
            if host.process.poll() is None:
                host.kill()
    said = first.said(printed)
    resumed = re.findall(r"was started before; resuming from \S*checkpoint-(\d+)", said)
    if code or len(resumed) != 1:
        raise RuntimeError(f"the host that was left ended with {code}:\n{said[-3000:]}")
    return {
        "steps": steps, "save_steps": save_steps, "killed_processes": killed, "lost_at_step": step,
        "resumed_from_step": int(resumed[0]), "went_on_alone": re.findall(f"{ALONE}(.*)", said)[-1],
        "seconds_until_noticed": round(noticed, 1), "seconds_until_next_step": round(went_on, 1),
        "last_call_seconds": LAST_CALL, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def compare(text: Path, root: Path, steps: int) -> Found:
    """Prepare and train undisturbed, in this process, and compare every byte of the corpus and every weight."""
    began, shards, undisturbed = time.monotonic(), root / "shards", root / "undisturbed"
    for number in (1, 2):
        prepare_corpus(
            corpus=str(text), model="mini", max_length=LENGTH, out=undisturbed, shard=f"{number}/2",
            shard_characters=SHARD_CHARACTERS,
        )  # fmt: skip
    names = sorted(path.name for path in undisturbed.glob("[!.]*.*"))
    other = [name for name in names if (shards / name).read_bytes() != (undisturbed / name).read_bytes()]
    train(
        "adapt", corpus=str(undisturbed), output_dir=str(root / "alone"), max_steps=steps, disable_tqdm=True,
        per_device_train_batch_size=8, **TRAINING | {"save_strategy": "no"},
    )  # fmt: skip
    alone, found = (load_file(root / name / "model.safetensors") for name in ("alone", "out"))
    metrics = [json.loads((root / name / "metrics.json").read_text("utf-8")) for name in ("alone", "out")]
    begun = load_model("mini", load_tokenizer("mini")).state_dict()
    return {
        "files": len(names), "other_files": other, "weights": sum(weight.numel() for weight in alone.values()),
        "weights_differ": of_weights(found, alone),
        "weights_moved": of_weights({name: begun[name] for name in alone}, alone),
        "held_out_losses": [each["after"]["loss"] for each in metrics], "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def said_of(story: Found) -> list[str]:
    """Return what has happened so far, a sentence or two for each chapter."""
    said = []
    if found := story.get("prepared"):
        said.append(
            f"Two processes prepared the text. The first one was killed when {found['whole_when_killed']} of its "
            f"{found['shards'][0]} shards were whole. Started again, it kept {found['kept']}, and finished after "
            f"{found['seconds_of_second_start']:.0f} s."
        )
    if found := story.get("lost_host"):
        said += [
            f"Two hosts trained, and one was lost for good at step {found['lost_at_step']} of {found['steps']}: its "
            "launcher and its process were killed.",
            f"The other one noticed after {found['seconds_until_noticed']:.0f} s, waited {found['last_call_seconds']} "
            f"s for other hosts, and went on alone from checkpoint {found['resumed_from_step']}: its next step was "
            f"done {found['seconds_until_next_step']:.0f} s after the loss. It printed "
            f"`{ALONE}{found['went_on_alone']}`, and finished.",
        ]
    if found := story.get("compared"):
        same = found["files"] - len(found["other_files"])
        said.append(
            f"Compared with one process that nothing happened to: {same} of {found['files']} files of the prepared "
            f"corpus are the same, byte for byte. {found['weights']:,} weights differ by at most "
            f"{found['weights_differ']:.1e}, having moved by up to {found['weights_moved']:.1e}."
        )
    return said


def shown(story: Found) -> str:
    """Return the chapters as a numbered list."""
    return "\n".join(f"{number}. {sentences}" for number, sentences in enumerate(said_of(story), start=1))


def tell(text: Path, root: Path, steps: int, save_steps: int) -> Found:
    """Let the whole story happen in `root`, and print each chapter when it is over."""
    larger, printed = larger_text(text, COPIES, root / "text.txt"), 0
    story: Found = {"text": text.name, "copies": COPIES, "load": os.getloadavg()[0]}
    chapters: dict[str, Callable[[], Found]] = {
        "prepared": lambda: prepare(larger, root),
        "lost_host": lambda: lose_a_host(root, steps, save_steps),
        "compared": lambda: compare(larger, root, steps),
    }
    for name, happen in chapters.items():
        story[name] = happen()
        lines = shown(story).splitlines()
        print("\n".join(lines[printed:]), flush=True)
        printed = len(lines)
    return story


def failures(story: Found) -> list[str]:
    """Return what is not as it should be at the end of a story, in words."""
    compared, wrong = story["compared"], []
    if compared["other_files"]:
        wrong.append(f"other bytes in {', '.join(compared['other_files'])}")
    if not compared["weights_differ"] <= BOUND:
        wrong.append(f"weights differ by {compared['weights_differ']:.1e}, more than {BOUND:.0e}")
    if not compared["weights_moved"] > 100 * BOUND:
        wrong.append(f"the weights moved by {compared['weights_moved']:.1e} only: too little to agree about")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT, help="a file with one paragraph on each line")
    parser.add_argument("--steps", type=int, default=60, help="steps of the run (default: %(default)s)")
    parser.add_argument("--save_steps", type=int, default=20, help="steps between checkpoints (default: %(default)s)")
    add_output_argument(parser)
    options = parser.parse_args()
    disable_progress_bar()  # of loading a model
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        story = tell(options.text, Path(folder), options.steps, options.save_steps)
    wrong = failures(story)
    print("\n".join(f"WRONG: {each}" for each in wrong) or f"Every weight is within {BOUND:.0e}.")
    write_result(options.output, "story", story)
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sys.exit(main())
