"""One recipe in one to four processes, on two hosts, with FSDP2, and resumed from one to the other: `make equality`.

The bundled `mini`, which has no dropout, is trained for a few steps with the same global batch in every layout: by
torchrun's launcher with gloo on this machine's CPU. A host is a launcher of its own, which meets the other one over
loopback. The undisturbed run of a single process, without a launcher, is what all weights and losses are held against.

The bound is what sums in float32 explain (mlm_recipes/model/rounding_bounds.py), not a number that held on one machine:
other layouts add up the same terms in another order. A gradient may differ by `4 * sqrt(terms) * eps` of its size, so
a weight by that share of the furthest way that any weight has moved, and by what each update rounds. This follows only
if steps are proportional to the gradient, as AdamW's are with an epsilon far above it. The exit code is 1 if a figure
is above its bound.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from differences import greatest, of_losses, of_weights
from layouts import Layout, run_in
from result_file import add_output_argument, write_result
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar
from workload import ROOT, TEXT

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, load_model, load_tokenizer, tokenize
from mlm_recipes.model.rounding_bounds import rounding_bound, summed_terms
from mlm_recipes.model.sharded_weights import weights_of
from mlm_recipes.training.callbacks.progress import TrainingProgress
from mlm_recipes.training.distributed.processes import leave_process_group

sys.path.append(str(ROOT / "tests"))  # no user of the library may have FSDP on a CPU
from cpus_as_accelerators import as_if_on_accelerators

STEPS, SAVED_AT, GLOBAL_BATCH, LENGTH = 6, 3, 12, 32
RECIPE: dict[str, Any] = {
    "max_steps": STEPS, "global_batch_size": GLOBAL_BATCH, "per_device_train_batch_size": 4, "mlm_probability": 0.4,
    "adam_epsilon": 1.0, "learning_rate": 0.1, "seed": 1, "use_cpu": True, "bf16": False, "disable_tqdm": True,
    "logging_steps": 1, "report_to": "none",
}  # fmt: skip

ALONE = "1 process"
LAYOUTS = {
    ALONE: Layout(),
    "2 processes": Layout(processes=2),
    "3 processes": Layout(processes=3),
    "4 processes": Layout(processes=4),
    "two hosts": Layout(hosts=2),
    "FSDP2 of 2": Layout(processes=2, fsdp=True),
}
#: What saves a checkpoint that each of these resumes.
RESUMED = [name for name in LAYOUTS if name != "3 processes"]


def rows_of_text(text: Path) -> list[dict[str, Any]]:
    """Return the rows of all steps: a row is in one step only."""
    train = load_corpus(text)["train"]
    return tokenize(train, load_tokenizer("mini"), LENGTH).select(range(STEPS * GLOBAL_BATCH)).to_list()


def work(rows: list[dict[str, Any]], fsdp: bool, jobs: dict[str, str | None], folder: Path) -> None:
    """Be one process of a layout: train each job, from the beginning or from a checkpoint, and write what is found.

    Args:
        jobs: the checkpoint of each, or None, by the name of the folder for what it leaves in `folder`.
    """
    torch.set_num_threads(1)
    if fsdp:
        as_if_on_accelerators()
    for name, checkpoint in jobs.items():
        tokenizer = load_tokenizer("mini")
        model = load_model("mini", tokenizer)
        names = [name for name, _ in model.named_parameters()]
        args = MLMConfig(
            output_dir=str(folder / name), fsdp=fsdp or None, save_steps=SAVED_AT,
            save_strategy="no" if checkpoint else "steps", **RECIPE,
        )  # fmt: skip
        trainer = MLMTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)
        for callback in (TrainingProgress, PrinterCallback):
            trainer.remove_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint)
        main = trainer.is_world_process_zero()
        weights = weights_of(trainer.model, keep=main)
        if main:
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            divided = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
            found = {"losses": losses, "rows": divided[0], "accumulation": divided[1]}
            (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
            save_file({name: weights[name].contiguous() for name in names}, folder / f"{name}.safetensors")
    leave_process_group()


def bounds_of(start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], model: torch.nn.Module) -> dict[str, float]:
    """Return how far a weight and, of its size, a loss may differ, and how far the weights have moved."""
    tokens, eps = GLOBAL_BATCH * LENGTH, torch.finfo(torch.float32).eps
    moved = of_weights(start, end)
    largest = max(float(weight.abs().max()) for weight in end.values())
    gradient = rounding_bound(summed_terms(model, tokens, passes=3 * STEPS))
    loss = rounding_bound(summed_terms(model, tokens, passes=1 + 3 * (STEPS - 1)))
    return {"weights": gradient * moved + STEPS**0.5 * eps * largest, "losses": loss, "moved": moved}


def measure(layouts: dict[str, Layout], text: Path, folder: Path) -> dict[str, Any]:
    """Train in every layout, resume in every one what each has saved, and compare with the first layout's run."""
    rows, began = rows_of_text(text), time.monotonic()
    resumed = [name for name in layouts if name in RESUMED]
    fresh, again = {}, {}
    model = load_model("mini", load_tokenizer("mini"))
    start = {name: weight.detach() for name, weight in model.named_parameters()}
    expected, losses, bounds = {}, [], {}

    def compared(name: str) -> dict[str, Any]:
        found = json.loads((folder / f"{name}.json").read_text("utf-8"))
        weights = load_file(folder / f"{name}.safetensors")
        found["weights_differ"] = of_weights(weights, expected)
        found["losses_differ"] = of_losses(found.pop("losses"), losses)
        (folder / f"{name}.safetensors").unlink()
        return found

    for name, layout in layouts.items():
        run_in(layout, work, (rows, layout.fsdp, {name: None}, folder), folder / name)
        if name == ALONE:
            expected = load_file(folder / f"{name}.safetensors")
            losses = json.loads((folder / f"{name}.json").read_text("utf-8"))["losses"]
            bounds = bounds_of(start, expected, model)
        fresh[name] = compared(name) | {"processes": layout.all_processes, "hosts": layout.hosts, "fsdp": layout.fsdp}
        print(f"{name}: weights differ by {fresh[name]['weights_differ']:.1e}", flush=True)
    for name in resumed:
        checkpoints = {f"{name} after {saver}": str(folder / saver / f"checkpoint-{SAVED_AT}") for saver in resumed}
        run_in(layouts[name], work, (rows, layouts[name].fsdp, checkpoints, folder), folder / f"{name} again")
        again[name] = {saver: compared(f"{name} after {saver}") for saver in resumed}
        worst = max(each["weights_differ"] for each in again[name].values())
        print(f"{name}, resuming what each has saved: weights differ by {worst:.1e}", flush=True)
    return {
        "model": "mini", "text": text.name, "steps": STEPS, "saved_at": SAVED_AT, "global_batch": GLOBAL_BATCH,
        "recipe": RECIPE, "bounds": bounds, "from_the_beginning": fresh, "resumed": again, "losses": losses,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def table_of(result: dict[str, Any]) -> str:
    """Return the greatest difference of any weight, from the beginning and resumed, as a Markdown table."""
    fresh, resumed = result["from_the_beginning"], result["resumed"]
    savers = list(resumed)
    heads = " | ".join(f"saved by {name}" for name in savers)
    lines = [
        f"| trained by | rows x accumulation | from the beginning | {heads} |",
        f"|---|---|---|{'---|' * len(savers)}",
    ]
    for name, row in fresh.items():
        cells = [f"{resumed[name][saver]['weights_differ']:.1e}" if name in resumed else "" for saver in savers]
        split = f"{row['rows']} x {row['accumulation']}"
        lines.append(f"| {name} | {split} | {row['weights_differ']:.1e} | {' | '.join(cells)} |")
    return "\n".join(lines)


def worst_of(result: dict[str, Any]) -> dict[str, float]:
    """Return the greatest difference of any weight, and of any loss relative to it, in all runs."""
    runs = [*result["from_the_beginning"].values()]
    runs += [run for row in result["resumed"].values() for run in row.values()]
    return {what: greatest(run[f"{what}_differ"] for run in runs) for what in ("weights", "losses")}


def exceeded(result: dict[str, Any]) -> list[str]:
    """Return what differs by more than its bound: weights, losses."""
    return [what for what, worst in worst_of(result).items() if not worst <= result["bounds"][what]]


def shown(result: dict[str, Any]) -> str:
    """Return the table, and a line on the weights and on the losses of all runs."""
    worst, bounds = worst_of(result), result["bounds"]
    weights = f"Weights differ by at most {worst['weights']:.1e} (bound {bounds['weights']:.1e}), having moved by up to"
    losses = f"Losses differ by at most {worst['losses']:.1e} of a loss (bound {bounds['losses']:.1e})."
    return f"{table_of(result)}\n\n{weights} {bounds['moved']:.1e}.\n{losses}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT, help="a file with one paragraph on each line")
    parser.add_argument("--only", nargs="+", choices=list(LAYOUTS), help=f"layouts, besides {ALONE}; writes no JSON")
    add_output_argument(parser)
    options = parser.parse_args()
    disable_progress_bar()  # of loading a model
    logging.getLogger("mlm_recipes").setLevel(logging.WARNING)
    layouts = {name: layout for name, layout in LAYOUTS.items() if name in (ALONE, *(options.only or LAYOUTS))}
    with tempfile.TemporaryDirectory() as folder:
        result = measure(layouts, options.text, Path(folder))
    print(f"\n{shown(result)}")
    above = exceeded(result)
    if above:
        print(f"WRONG: above the bound: {', '.join(above)}")
    if not options.only:
        write_result(options.output, "equality", result)
    return 1 if above else 0


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    sys.exit(main())
