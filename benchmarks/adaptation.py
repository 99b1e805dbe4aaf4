"""What a minute of adaptation gains on your texts: the quickstart, seed after seed, and from random weights.

Each seed holds out other paragraphs, masks other tokens, and trains in another order. The gain is in nats a masked
token of held-out paragraphs, with a paired 95% bootstrap interval over paragraphs; beside it stands what became of the
ordinary language.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch

from mlm_recipes import train
from mlm_recipes.run_folder import versions

ROOT = Path(__file__).parent.parent


def measure(text: str, model: str, seed: int, general: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Run the quickstart once; return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"seed": seed, "evaluation_seed": seed, "general_corpus": general, "disable_tqdm": True}
        metrics = train("quickstart", corpus=text, model=model, output_dir=folder, **(values | changes)).metrics
    measured = ("loss", "accuracy", "masked_tokens")
    return {
        "text": metrics["corpus"]["name"],
        "words": metrics["corpus"]["words"],
        "model": model,
        "seed": seed,
        "gain": metrics["gain"],
        "before": {name: metrics["before"][name] for name in measured},
        "after": {name: metrics["after"][name] for name in measured},
        "general": {
            when: metrics[when]["general"]["loss"] for when in ("before", "after") if "general" in metrics[when]
        },
        "seconds": metrics["train"]["seconds"],
        "epochs": metrics["train"]["epochs"],
    }


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    gain, before, after, general = row["gain"], row["before"], row["after"], row["general"]
    forgot = f"general {general['after'] - general['before']:+.2f}" if general else "general -"
    return (
        f"{row['text']:20} {row['model']:12} seed {row['seed']}: {before['loss']:.2f} -> {after['loss']:.2f} nats, "
        f"gain {gain['loss']:.2f} ({gain['low']:.2f} to {gain['high']:.2f}) on {after['masked_tokens']} tokens; "
        f"accuracy {before['accuracy']:.1%} -> {after['accuracy']:.1%}; {forgot}; {row['epochs']:.1f} epochs, "
        f"{row['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="append", help="a file, or a known corpus; may be given again")
    parser.add_argument("--model", action="append", help="a model; may be given again")
    parser.add_argument("--general", default="general-english", help="text in ordinary language")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--change", action="append", default=[], help="name=value of the recipe; may be given again")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    changes = dict(change.split("=", 1) for change in options.change)
    texts, models = options.text or ["meditations"], options.model or ["mini", "mini-random"]
    rows = []
    for seed, text, model in itertools.product(range(options.seeds), texts, models):
        rows.append(measure(text, model, seed, options.general, changes))
        print(shown(rows[-1]), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    path = options.output / f"adaptation_{platform.machine()}-{os.cpu_count()}cores_{date}.json"
    facts = {
        "date": date,
        "general": Path(options.general).stem,
        "changes": changes,
        "threads": torch.get_num_threads(),
    }
    path.write_text(json.dumps(facts | {"rows": rows, "versions": versions()}, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {path}")


if __name__ == "__main__":
    main()
