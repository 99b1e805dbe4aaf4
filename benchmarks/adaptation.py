"""What a minute of adaptation gains on your texts: the quickstart, seed after seed, and from random weights.

Each seed holds out other paragraphs, masks other tokens, and trains in another order. The gain is in nats a masked
token of held-out paragraphs, with a paired 95% bootstrap interval over paragraphs; beside it stands what became of the
ordinary language.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import datasets
from result_file import INSTRUCTIONS, add_output_argument, result_path, write_result

from mlm_recipes import train
from mlm_recipes.recipes.arguments import read_config


def measure(text: str, model: str, seed: int, general: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Run the quickstart once; return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"seed": seed, "evaluation_seed": seed, "general_corpus": general, "disable_tqdm": True}
        metrics = train("quickstart", corpus=text, model=model, output_dir=folder, **(values | changes)).metrics
        chosen = read_config(folder).per_device_train_batch_size
    measured = ("loss", "accuracy", "masked_tokens")
    return {
        "text": metrics["corpus"]["name"],
        "words": metrics["corpus"]["words"],
        "model": model,
        "seed": seed,
        "gain": metrics["gain"],
        "before": {name: metrics["before"][name] for name in measured},
        "after": {name: metrics["after"][name] for name in measured},
        "general": {"text": Path(general).stem}
        | {when: metrics[when]["general"]["loss"] for when in ("before", "after") if "general" in metrics[when]},
        "changes": changes,
        "steps": metrics["train"]["steps"],
        "batch": chosen,
        "seconds": metrics["train"]["seconds"],
        "epochs": metrics["train"]["epochs"],
    }


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    gain, before, after, general = row["gain"], row["before"], row["after"], row["general"]
    forgot = f"{general['after'] - general['before']:+.2f}" if "after" in general else "-"
    return (
        f"{row['text']:20} {row['model']:12} seed {row['seed']}: {before['loss']:.2f} -> {after['loss']:.2f} nats, "
        f"gain {gain['loss']:.2f} ({gain['low']:.2f} to {gain['high']:.2f}) on {after['masked_tokens']} tokens; "
        f"accuracy {before['accuracy']:.1%} -> {after['accuracy']:.1%}; {general['text']} {forgot}; "
        f"{row['steps']} steps of {row['batch']} rows, {row['epochs']:.1f} epochs, {row['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="append", help="a file, or a known corpus; may be given again")
    parser.add_argument("--model", action="append", help="a model; may be given again")
    parser.add_argument("--general", default="general-english", help="text in ordinary language")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="keep the rows that today's JSON has, and add these")
    add_output_argument(parser)
    parser.add_argument("--change", action="append", default=[], help="name=value of the recipe; may be given again")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    changes = dict(change.split("=", 1) for change in options.change)
    texts, models = options.text or ["meditations"], options.model or ["mini", "mini-random"]
    told = any(name in os.environ for name in INSTRUCTIONS)  # which instructions to leave alone
    today = result_path(options.output, "adaptation", by_instructions=told)
    rows = json.loads(today.read_text("utf-8"))["rows"] if options.add and today.exists() else []
    for seed, text, model in itertools.product(range(options.seeds), texts, models):
        rows.append(measure(text, model, seed, options.general, changes))
        print(shown(rows[-1]), flush=True)
    write_result(options.output, "adaptation", {"rows": rows}, by_instructions=told)


if __name__ == "__main__":
    main()
