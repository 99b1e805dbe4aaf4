"""Does a task get better when the loss falls? Loss gained against task gained, text by text and seed by seed.

    python benchmarks/task_gain.py --text meditations --probe stoic --text novels.txt --probe novels.csv

Each `--text` is trained on, and its `--probe` is measured before and after (docs/probes.md); texts with natural labels
are made by natural_labels.py. A seed decides the order and the masks of training. All seeds have the same held-out
paragraphs, measured on the same masks, and the same labelled texts in the same folds, so `before` is the same. A run
that is in today's JSON already is not repeated.

The interval of a mean over seeds has the means of the seeds' ends: all seeds are measured on the same texts, and the
standard error of a mean is at most the mean of the standard errors. It does not tell how another text would do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import transformers
from result_file import add_output_argument, result_path, write_result

from mlm_recipes import train
from mlm_recipes.data.file_formats import stem
from mlm_recipes.evaluation.similarity.pair_measures import spearman
from mlm_recipes.evaluation.verdict import verdict_of

#: Values of all runs. The loss is measured on at most a thousand paragraphs, and with one draw of masks.
_VALUES = {"train_minutes": None, "disable_tqdm": True, "report_to": "none", "eval_draws": 1, "max_eval_samples": 1_000}

#: The measures that have an interval, in the order of the table.
_MEASURES = ("loss", "accuracy", "macro_f1", "few_labels")

#: Of the learning curve: so many labels to learn from.
_FEW = 64


def measure(text: str, probe: str, seed: int, steps: int) -> dict[str, Any]:
    """Train once by the quickstart's recipe; return what the loss and the task gained, each with its interval."""
    with tempfile.TemporaryDirectory() as folder:
        values = {"corpus": text, "model": "mini", "probe": probe, "seed": seed, "max_steps": steps}
        metrics = train("quickstart", output_dir=folder, **values, **_VALUES).metrics
    (task,) = metrics["probes"]
    loss = metrics["change"]["held_out"]["measures"]["loss"]
    few = [point for point in task["learning_curve"] if point["labels"] == _FEW]
    return {
        "words": metrics["corpus"]["words"],
        "epochs": metrics["train"]["epochs"],
        "seconds": metrics["train"]["seconds"],
        "masked_tokens": metrics["after"]["masked_tokens"],
        "texts": task["texts"],
        "labels": len(task["labels"]),
        "majority": task["majority"]["share"],
        "leakage": task["leakage"],
        "smallest_change": task["smallest_change"],
        "chosen": [task["chosen_before"], task["chosen_after"]],
        "loss": _better({**loss, "change": -loss["change"], "low": -loss["high"], "high": -loss["low"]}),
        "accuracy": _better(task["accuracy"]),
        "macro_f1": _better(task["macro_f1"]),
        **({"few_labels": _better(few[0])} if few else {}),
    }


def _better(found: dict[str, Any]) -> dict[str, float]:
    """Return a measure before and after, and by how much it is better: above zero if it is."""
    return {name: float(found[name]) for name in ("before", "after", "change", "low", "high")}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each text and number of steps: the means over the seeds."""
    found = []
    for text, probe, steps in dict.fromkeys((row["text"], row["probe"], row["steps"]) for row in rows):
        seeds = [row for row in rows if (row["text"], row["probe"], row["steps"]) == (text, probe, steps)]
        mean: dict[str, Any] = {"text": text, "probe": probe, "steps": steps, "seeds": len(seeds)}
        for name in _MEASURES:
            if all(name in row for row in seeds):
                mean[name] = {key: statistics.mean(row[name][key] for row in seeds) for key in seeds[0][name]}
        found.append(mean)
    return found


def correlation(rows: list[dict[str, Any]]) -> dict[str, float] | None:
    """Return how the accuracy that rows gained goes with the loss that they gained; None if there is no telling.

    >>> gained = [(0.1, 0.0), (0.4, 0.02), (1.5, 0.05)]
    >>> rows = [{"loss": {"change": loss}, "accuracy": {"change": task}} for loss, task in gained]
    >>> {name: round(value, 2) for name, value in correlation(rows).items()}
    {'pearson': 0.97, 'spearman': 1.0}
    """
    loss, task = (np.array([row[name]["change"] for row in rows]) for name in ("loss", "accuracy"))
    if len(rows) < 3 or not loss.std() or not task.std():
        return None
    ranked = float(spearman(loss, task)(np.ones((1, len(rows))))[0])
    return {"pearson": float(np.corrcoef(loss, task)[0, 1]), "spearman": ranked}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        "| text | task | steps | seed | loss | loss gained | accuracy | points gained | macro-F1 gained "
        f"| gained with {_FEW} labels | the task |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        loss, accuracy = row["loss"], row["accuracy"]
        seed = str(row["seed"]) if "seed" in row else f"mean of {row['seeds']}"
        few = _points(row["few_labels"]) if "few_labels" in row else ""
        lines.append(
            f"| {row['text']} | {row['probe']} | {row['steps']} | {seed} | {loss['before']:.3f} -> {loss['after']:.3f} "
            f"| {loss['change']:+.3f} ({loss['low']:+.3f} to {loss['high']:+.3f}) "
            f"| {accuracy['before']:.1%} -> {accuracy['after']:.1%} | {_points(accuracy)} | {_points(row['macro_f1'])} "
            f"| {few} | {verdict_of(accuracy['low'], accuracy['high'])} |"
        )
    return "\n".join(lines)


def _points(found: dict[str, float]) -> str:
    return f"{100 * found['change']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"


def tasks(rows: list[dict[str, Any]]) -> str:
    """Return what each task has, a line each."""
    found = {(row["text"], row["probe"]): row for row in rows}
    return "\n".join(
        f"- {probe} on {text} ({row['words']:,} words): {row['texts']:,} texts, {row['labels']} labels, the most "
        f"common has {row['majority']:.1%}; {sum(filter(None, row['leakage'].values())):,} of them are in the text."
        for (text, probe), row in found.items()
    )


def conclusion(rows: list[dict[str, Any]]) -> str:
    """Return the correlations: over all runs, and over the texts, whose runs resemble each other."""
    said = []
    for name, part in (("runs", rows), ("means over seeds", means(rows))):
        found = correlation(part)
        if found:
            said.append(f"{len(part)} {name}: {found['pearson']:+.2f} (by ranks {found['spearman']:+.2f})")
    if not said:
        return "There are too few runs for a correlation."
    texts = len({row["text"] for row in rows})
    return f"Correlation of points gained with loss gained, over {'; over '.join(said)}. There are {texts} texts."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", action="append", required=True, help="a file, or a known corpus; may be repeated")
    parser.add_argument("--probe", action="append", required=True, help="labelled texts for each --text, in its order")
    parser.add_argument("--seeds", type=int, default=3, help="how many runs of each; 0 prints today's table again")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[120], help="of each run; several are runs of their own"
    )
    add_output_argument(parser)
    options = parser.parse_args()
    if len(options.text) != len(options.probe):
        parser.error(f"{len(options.text)} texts and {len(options.probe)} probes: give each --text its --probe")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    path = result_path(options.output, "task_gain")
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []
    for seed in range(options.seeds):
        for steps in options.steps:
            for text, probe in zip(options.text, options.probe, strict=True):
                identity = {"text": stem(Path(text)), "probe": stem(Path(probe)), "steps": steps, "seed": seed}
                if any(identity.items() <= row.items() for row in rows):
                    continue
                rows.append({**identity, **measure(text, probe, seed, steps)})
                write_result(options.output, "task_gain", {"means": means(rows), "rows": rows})
                print(table(rows[-1:]), flush=True)
    print("\n\n".join(["", tasks(rows), table(rows), table(means(rows)), conclusion(rows)]))


if __name__ == "__main__":
    main()
