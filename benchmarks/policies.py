"""Which way to mask, and which way to adapt, learns most in equal time.

`policies.py pretrain --text novels.txt --held-out held_out.txt` trains `mini-random`, with mini's vocabulary, for equal
time under each policy, probability and schedule. `policies.py adapt --text a.txt --text b.txt` adapts `mini` for a
minute under each method. `--only NAME` runs some of them.

Equal time is a number of steps: before anything is trained, each method's steps are timed turn by turn with the others,
and the time is divided by the median, so that a disturbance during a run changes no result. A method's cost, compared
with the others', is the median over the texts. Every model is measured on the same masked tokens: uniform, 15%, frozen,
and one at a time for pseudo-perplexity. A difference is paired, paragraph by paragraph, with the first method's; its
interval is a bootstrap over paragraphs, whose sums are added over the seeds. Runs are kept beside the JSON, with the
sums of each paragraph (policies-PART.runs.json), and are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import transformers
from policy_methods import ADAPTING, PRETRAINING
from result_file import add_output_argument, write_result

from mlm_recipes import train
from mlm_recipes.evaluation.before_after import Measured, State
from mlm_recipes.evaluation.paired_bootstrap import paired_changes
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.prepare import prepare
from mlm_recipes.recipes.step_timing import time_steps

#: Values of all runs: nothing is saved or shown, and the text is measured with one draw of masks.
_QUIET = {"disable_tqdm": True, "save_strategy": "no", "report_to": "none", "eval_draws": 1, "max_eval_samples": 1000}

#: The state before training, by what it is measured on and the seed of random weights: the same for all methods.
_BEFORE: dict[str, State] = {}


def values_of(part: str, method: dict[str, Any], text: str, held_out: str | None) -> dict[str, Any]:
    """Return the values of a method's run."""
    constant = {"mlm_probability_schedule": "constant", "mlm_probability_end": None}  # whatever the recipe has
    if part == "adapt":
        masked = {"mlm_probability": 0.4, **constant}
        return {**_QUIET, "corpus": text, "model": "mini", "train_minutes": None, **masked, **method}
    masked = {"mlm_probability": 0.2, **constant}
    recipe = {"model": "mini-random", "tokenizer": "mini", "from_scratch": True, "general_corpus": "none"}
    return {**_QUIET, **recipe, **masked, "corpus": text, "validation_corpus": held_out, **method}


def seconds_a_step(recipe: str, methods: dict[str, dict[str, Any]], turns: int) -> dict[str, float]:
    """Return each method's median seconds for a step, timed turn by turn."""
    runs = {}
    for name, values in methods.items():
        config = read_config(recipe, values)
        runs[name] = prepare(config)
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(turns):
        for name, run in runs.items():
            config = read_config(recipe, {**methods[name], "max_length": run.max_length})
            times[name] += time_steps(copy.deepcopy(run.model), config, run.train_rows, run.tokenizer, 1, 3, quiet=True)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def steady(pace: dict[str, float]) -> dict[str, float]:
    """Return the seconds of a step with less noise: a method costs, compared with the others, the same on all texts.

    Example: at {"a x": 1.0, "a y": 2.0, "b x": 3.0, "b y": 6.6}, x costs 0.65 of a text's median and y 1.35.
    """
    texts: dict[str, dict[str, float]] = {}
    for key, seconds in pace.items():
        text, method = key.split(" ", 1)
        texts.setdefault(text, {})[method] = seconds
    middle = {text: statistics.median(methods.values()) for text, methods in texts.items()}
    cost = {
        method: statistics.median(of[method] / middle[text] for text, of in texts.items() if method in of)
        for methods in texts.values()
        for method in methods
    }
    return {f"{text} {method}": middle[text] * cost[method] for text, methods in texts.items() for method in methods}


def measure(recipe: str, values: dict[str, Any], seed: int, steps: int, pace: float) -> dict[str, Any]:
    """Train once; return the figures, and each paragraph's sums of nats, hits and masked tokens."""
    states: list[State] = []
    whole = State.of
    measured_on = json.dumps([values["corpus"], values.get("mix"), values.get("general_corpus"), seed])

    def kept(measured: Measured, *args: Any, **options: Any) -> State:
        known = None if states else _BEFORE.get(measured_on)
        states.append(known or whole(dataclasses.replace(measured, words=None), *args, **options))
        _BEFORE[measured_on] = states[0]
        return states[-1]

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(State, "of", kept):
        metrics = train(recipe, output_dir=folder, seed=seed, max_steps=steps, **values).metrics
    after = states[-1].held_out
    found: dict[str, Any] = {
        "steps": steps,
        "seconds": metrics["train"]["seconds"],
        "tokens_per_second": metrics["train"]["tokens"]["real"] / steps / pace,  # by the steps that were timed
        "before": metrics["before"]["loss"],
        "loss": metrics["after"]["loss"],
        "accuracy": metrics["after"]["accuracy"],
        "pseudo_perplexity": metrics["after"]["pseudo_perplexity"],
        "sums": np.round(after.sums(after.tokens), 4).tolist(),
    }
    if "general" in metrics["after"]:
        found["forgotten"] = metrics["after"]["general"]["loss"] - metrics["before"]["general"]["loss"]
    return found


def differences(rows: list[dict[str, Any]], first: str) -> list[dict[str, Any]]:
    """Return, for each text and method, by how many nats a masked token it is better than the method `first`."""
    found = []
    for text in dict.fromkeys(row["text"] for row in rows):
        of_text = [row for row in rows if row["text"] == text]
        for method in dict.fromkeys(row["method"] for row in of_text):
            pairs = [
                (one, other)
                for one in of_text
                for other in of_text
                if one["method"] == first and other["method"] == method and one["seed"] == other["seed"]
            ]
            if not pairs:
                continue
            ours, theirs = (np.sum([np.array(pair[i]["sums"]) for pair in pairs], axis=0) for i in (0, 1))
            change = paired_changes(ours, theirs, ["loss"])["loss"]
            mean = {
                name: statistics.mean(pair[1][name] for pair in pairs)
                for name in ("loss", "accuracy", "pseudo_perplexity", "forgotten", "tokens_per_second", "steps")
                if name in pairs[0][1]
            }
            assert change["low"] is not None, "too few paragraphs"
            assert change["high"] is not None, "too few paragraphs"
            found.append(
                {"text": text, "method": method, "seeds": len(pairs), **mean}
                | {"better_by": -change["change"], "low": -change["high"], "high": -change["low"]}
                | {"of_each_seed": [pair[0]["loss"] - pair[1]["loss"] for pair in pairs]}
            )
    return found


def _change(row: dict[str, Any]) -> str:
    if row["better_by"] == 0.0 == row["low"]:  # the method that the others are compared with
        return f"loss {row['loss']:.3f}"
    return f"{row['better_by']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def markdown(table: list[dict[str, Any]]) -> str:
    """Return the table as Markdown: of one text with all measures, of several with a column for each text."""
    texts = list(dict.fromkeys(row["text"] for row in table))
    methods = list(dict.fromkeys(row["method"] for row in table))
    cells = {(row["method"], row["text"]): row for row in table}
    if len(texts) == 1:
        lines = [
            "| method | better by | accuracy | pseudo-perplexity | tokens/s | seeds |",
            f"|---{'|---' * 5}|",
        ]
        for row in table:
            lines.append(
                f"| {row['method']} | {_change(row)} | {row['accuracy']:.1%} "
                f"| {row['pseudo_perplexity']:.1f} | {row['tokens_per_second']:,.0f} | {row['seeds']} |"
            )
        return "\n".join(lines)
    measures: dict[str, Callable[[dict[str, Any]], str]] = {
        "better by": _change,
        "general English": lambda row: f"{row['forgotten']:+.3f}",
    }
    lines = []
    for measure_of, shown in measures.items():
        lines += [f"| {measure_of} | {' | '.join(texts)} | seeds |", f"|---{'|---' * len(texts)}|---|"]
        for method in methods:
            rows = [cells.get((method, text)) for text in texts]
            seeds = sorted({str(row["seeds"]) for row in rows if row})
            shows = " | ".join("" if row is None else shown(row) for row in rows)
            lines.append(f"| {method} | {shows} | {' or '.join(seeds)} |")
        lines.append("")
    return "\n".join(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("pretrain", "adapt"))
    parser.add_argument("--text", action="append", required=True, help="a file, or a known corpus; may be repeated")
    parser.add_argument("--held-out", help="pretrain: a text that is not trained on")
    parser.add_argument("--minutes", type=float, default=None, help="of each run (pretrain: 2, adapt: 1)")
    parser.add_argument("--seeds", type=int, default=3, help="how many runs of each; 0 only times their steps")
    parser.add_argument("--turns", type=int, default=3, help="how often each method's steps are timed")
    parser.add_argument("--only", action="append", help="a method; may be repeated")
    add_output_argument(parser)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    everything, recipe = (PRETRAINING, "pretrain-mini") if options.part == "pretrain" else (ADAPTING, "quickstart")
    first = next(iter(everything))
    methods = {name: method for name, method in everything.items() if name in (options.only or everything)}
    minutes = options.minutes or (2.0 if options.part == "pretrain" else 1.0)
    kept = options.output / f"policies-{options.part}.runs.json"
    known: dict[str, Any] = {"minutes": minutes, "seconds": {}, "rows": []}
    if kept.exists():
        known = json.loads(kept.read_text("utf-8"))
        if known["minutes"] != minutes:
            parser.error(f"{kept} has runs of {known['minutes']:g} minutes: repeat that, or remove the file")
    rows, pace = known["rows"], known["seconds"]
    options.output.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        kept.write_text(json.dumps(known), encoding="utf-8")

    for text in options.text:
        named = Path(text).stem
        new = [name for name in methods if f"{named} {name}" not in pace]
        if new:
            runs = {name: values_of(options.part, methods[name], text, options.held_out) for name in new}
            timed = seconds_a_step(recipe, runs, options.turns)
            pace |= {f"{named} {name}": seconds for name, seconds in timed.items()}
            keep()
    even = steady(pace)
    for seed in range(options.seeds):
        for text in options.text:
            for name, method in methods.items():
                identity = {"text": Path(text).stem, "method": name, "seed": seed}
                if any(identity.items() <= row.items() for row in rows):
                    continue
                seconds = even[f"{identity['text']} {name}"]
                steps = max(1, round(minutes * 60 / seconds))
                values = values_of(options.part, method, text, options.held_out)
                rows.append({**identity, "values": method, **measure(recipe, values, seed, steps, seconds)})
                print(identity, {key: rows[-1][key] for key in ("steps", "seconds", "loss")}, flush=True)
                keep()
    measured = {
        "minutes": minutes,
        "seconds": pace,
        "steady": even,
        "table": differences(rows, first),
        "rows": [{key: value for key, value in row.items() if key != "sums"} for row in rows],
    }
    write_result(options.output, f"policies-{options.part}", measured)
    print(markdown(measured["table"]))


if __name__ == "__main__":
    main()
