"""What keeps a model from forgetting while it is adapted: mixing text in, a pull towards its first weights, or less.

Each method adapts `mini` by the quickstart's values, seed after seed. Its gain on held-out paragraphs and its change on
general text are in nats a masked token, with paired 95% bootstrap intervals over paragraphs. The general text is halved
first, the same for all methods: one half is only measured, and only the other half is mixed in or used for EWC.

- `mix P`: a share P of the training tokens is of the general text. `same steps`: as many steps as the others;
  `same text`: so many more that the corpus is read as often as by the others.
- `l2 L`: after each update, weights are pulled towards those that the run began with, w -= lr * L * (w - w0): L2-SP
  (Li, Grandvalet and Davoine 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks",
  arXiv:1802.01483), decoupled from the gradient as weight decay is in AdamW, since Muon and AdamW would rescale it.
- `ewc L`: the same pull, on each weight in proportion to its Fisher information on the general half, whose mean over
  all weights is 1 (Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", arXiv:1612.00796).
  The information is empirical: squared gradients of the masked tokens' loss, row by row.
- `rate R`: the learning rate times R.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from result_file import add_output_argument, result_path, write_result
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from mlm_recipes import MLMTrainer
from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.mixed_rows import MixedRows
from mlm_recipes.data.mixed_text import load_mixed, measured_part
from mlm_recipes.data.rows import to_rows
from mlm_recipes.evaluation.before_after import State, compare
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.prepare import Run, prepare
from mlm_recipes.training.config import MLMConfig

METHODS = (
    "plain",
    "mix 0.05",
    "mix 0.1",
    "mix 0.2",
    "l2 3",
    "l2 10",
    "l2 30",
    "ewc 3",
    "ewc 10",
    "rate 0.5",
    "rate 0.25",
)
#: Only the loss is compared; these would take longer than training.
SHORT = {"pseudo_perplexity_tokens": 500, "prompts_compared": 6}


class Pull(TrainerCallback):
    """Pull weights towards those of the beginning after each update, by `strength` times the learning rate.

    `importance`: what the strength is multiplied by, for each weight; by default 1.
    """

    def __init__(self, model: Any, strength: float, importance: dict[str, torch.Tensor] | None = None) -> None:
        self._strength, self._importance = strength, importance or {}
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = self._names[parameter]
                    share = group["lr"] * self._strength * self._importance.get(name, torch.ones(()))
                    parameter.lerp_(self._start[name], share.clamp(max=1).expand_as(parameter).to(parameter.dtype))


def importance(run: Run, text: Path) -> dict[str, torch.Tensor]:
    """Return the empirical Fisher information of each weight on a text, whose mean over all weights is 1."""
    rows = to_rows(load_mixed(str(text)).rows, run.tokenizer, run.max_length, **run.config.rows())
    collator = run.frozen()
    found = {name: torch.zeros_like(weight) for name, weight in run.model.named_parameters()}
    run.model.eval()
    for batch in DataLoader(rows, batch_size=1, collate_fn=collator):
        if (batch["labels"] == -100).all():
            continue
        run.model.zero_grad()
        run.model(**batch).loss.backward()
        for name, weight in run.model.named_parameters():
            if weight.grad is not None:
                found[name] += weight.grad**2
    run.model.zero_grad()
    mean = sum(float(each.sum()) for each in found.values()) / sum(each.numel() for each in found.values())
    return {name: each / mean for name, each in found.items()}


def halves(general: str, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write the half of the general text that is measured and the half that may be trained on; return their files."""
    source = resolve(general)
    measured = measured_part(source, 2_000, seed, mixed=True).rows["text"][:]
    files = folder / f"{source.name.replace('/', '-')}.jsonl", folder / "rest.jsonl"
    for file, texts in zip(files, (measured, load_mixed(source, measured).rows["text"]), strict=True):
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return files


def adapt(config: MLMConfig, method: str, same_text: bool, rest: Path, before: State | None) -> tuple[dict, State]:
    """Adapt a model by a method; return what it gained and forgot, and how it scored before."""
    kind, _, number = method.partition(" ")
    if kind == "mix":
        config = replace(config, mix={str(rest): float(number)})
    if kind == "rate":
        config = replace(config, learning_rate=config.learning_rate * float(number))
    run = prepare(config)
    if same_text and isinstance(run.train_rows, MixedRows):
        steps = round(config.max_steps * len(run.train_rows) / run.train_rows.own)
        run = replace(run, config=replace(run.config, max_steps=steps))
    trainer = MLMTrainer(
        run.model, args=run.config, train_dataset=run.train_rows, eval_dataset=run.measured.held_out.rows,
        processing_class=run.tokenizer,
    )  # fmt: skip
    if before is None:
        before = State.of(run.measured, run.model, trainer.token_results)
    if kind in ("l2", "ewc"):
        trainer.add_callback(
            Pull(run.model, float(number), importance(run, rest) if kind == "ewc" else None),
        )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    compared = compare(run.measured, before, State.of(run.measured, run.model, trainer.token_results))
    forgot = compared["change"]["general"]["measures"]["loss"]
    return {
        "text": run.facts["name"],
        "method": method if kind != "mix" else f"{method}, same {'text' if same_text else 'steps'}",
        "seed": config.seed,
        "gain": compared["gain"],
        "forgot": {name: forgot[name] for name in ("before", "after", "change", "low", "high")},
        "general_paragraphs": compared["change"]["general"]["paragraphs"],
        "mixed": [text | {"source": Path(text["source"]).name} for text in run.facts.get("mixed", [])],
        "steps": run.config.max_steps,
        "epochs": trainer.epochs,
        "seconds": seconds,
    }, before


def shown(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    gain, forgot = row["gain"], row["forgot"]
    return (
        f"{row['text']:20} seed {row['seed']} {row['method']:22} gain {gain['loss']:.3f} ({gain['low']:.3f} to "
        f"{gain['high']:.3f})  general {forgot['change']:+.3f} ({forgot['low']:+.3f} to {forgot['high']:+.3f})  "
        f"{row['steps']} steps, {row['epochs']:.1f} epochs, {row['seconds']:.0f} s"
    )


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each method's means over the seeds, and over the texts of what remains."""
    found = []
    for text, method in dict.fromkeys((row["text"], row["method"]) for row in rows):
        these = [row for row in rows if (row["text"], row["method"]) == (text, method)]
        gain, forgot = (
            sum(values) / len(these)
            for values in ([row["gain"]["loss"] for row in these], [row["forgot"]["change"] for row in these])
        )
        found.append({"text": text, "method": method, "seeds": len(these), "gain": gain, "forgot": forgot})
    return found


def markdown(means: list[dict[str, Any]]) -> str:
    """Return the means over the seeds as a Markdown table."""
    lines = ["| text | method | gain | general text | seeds |", "|---|---|---|---|---|"]
    for mean in means:
        figures = f"{mean['gain']:.3f} | {mean['forgot']:+.3f} | {mean['seeds']}"
        lines.append(f"| {mean['text']} | {mean['method']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", action="append", help="a file, or a known corpus; may be given again")
    parser.add_argument("--method", action="append", help=f"such as {', '.join(METHODS)}; may be given again")
    parser.add_argument("--general", default="general-english", help="text in ordinary language, which is halved")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=130, help="as the quickstart's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--add", action="store_true", help="keep the rows that today's JSON has, and add these")
    add_output_argument(parser)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    today = result_path(options.output, "forgetting")
    rows = json.loads(today.read_text("utf-8"))["rows"] if options.add and today.exists() else []
    for seed, text in itertools.product(range(options.seeds), options.text or ["meditations"]):
        before = None
        with tempfile.TemporaryDirectory() as folder:
            measured, rest = halves(options.general, seed, Path(folder))
            values = {
                "corpus": text, "model": options.model, "seed": seed, "evaluation_seed": seed, "output_dir": folder,
                "general_corpus": str(measured), "max_steps": options.steps, "train_minutes": None,
                "disable_tqdm": True, **SHORT,
            }  # fmt: skip
            config = read_config("quickstart", values)
            for method in options.method or METHODS:
                for same_text in (False, True) if method.startswith("mix") else (False,):
                    row, before = adapt(config, method, same_text, rest, before)
                    rows.append(row)
                    print(shown(row), flush=True)
    measured = {"general": Path(options.general).name, "rows": rows, "means": means(rows)}
    print(markdown(measured["means"]))
    write_result(options.output, "forgetting", measured)


if __name__ == "__main__":
    main()
