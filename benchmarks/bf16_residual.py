"""What `bf16_residual` does to the loss: runs with and without it, seed after seed, on the same batches.

Both runs of a pair use bf16 autocast and have the same weights, order, masks and dropout noise, since all of these
follow from the seed. The loss of training is a mean of the steps before the step that is named. The held-out loss is on
frozen masks: measured in float32, and also under autocast, as MLMTrainer measures during a bf16 run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from typing import Any

import transformers
from datasets import disable_progress_bars
from result_file import add_output_argument, result_path, write_result
from transformers import set_seed

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, load_model, load_tokenizer
from mlm_recipes.data.rows import pack
from mlm_recipes.evaluation.token_results import TokenResults, evaluate_tokens
from mlm_recipes.masking.collator import DataCollatorForMaskedLM
from mlm_recipes.training.callbacks.progress import TrainingProgress

#: A batch of 4 rows of 64 tokens, packed: so small that all runs take about half an hour on one core.
ROWS, LENGTH = 4, 64

#: The learning rate of each start; Adam's epsilon and the schedule are transformers' defaults.
STARTS = {"mini": 2e-4, "mini-random": 1e-3}

#: The JSON has the mean loss of every EVERY steps. The table shows that of the SMOOTHED steps up to these.
SHOWN, SMOOTHED, EVERY = (100, 500, 1000, 2000), 100, 50

HEADER = """\
| start | loss, nats per masked token | float32 residual | bf16 residual | difference |
|---|---|---|---|---|"""


def make_model(start: str, tokenizer: Any, seed: int) -> Any:
    """Return `mini` with its trained weights, or with the random ones of a seed."""
    set_seed(seed)
    return load_model(start, tokenizer)


def run(start: str, seed: int, residual: bool, steps: int, corpus: Any, tokenizer: Any) -> dict[str, Any]:
    """Train once; return the curve of its loss and the held-out losses."""
    train, held_out = (pack(corpus[part], tokenizer, LENGTH) for part in ("train", "validation"))
    with tempfile.TemporaryDirectory() as folder:
        args = MLMConfig(
            output_dir=folder, seed=seed, max_steps=steps, per_device_train_batch_size=ROWS, use_cpu=True, bf16=True,
            bf16_residual=residual, learning_rate=STARTS[start], warmup_steps=min(100, steps // 2),
            save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        model = make_model(start, tokenizer, seed)
        trainer = MLMTrainer(model, args=args, train_dataset=train, processing_class=tokenizer)
        trainer.remove_callback(TrainingProgress)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        autocast = trainer.token_results(held_out).nats
        frozen = DataCollatorForMaskedLM(tokenizer, max_length=LENGTH).frozen(args.evaluation_seed)
        plain = make_model(start, tokenizer, seed)  # accelerate has put autocast around the forward pass of the other
        plain.load_state_dict(model.state_dict())
        float32 = TokenResults.of([evaluate_tokens(plain, held_out, frozen, 16, True)]).nats
    assert len(losses) == steps
    return {
        "start": start,
        "seed": seed,
        "bf16_residual": residual,
        "held_out": float(float32.mean()),
        "held_out_autocast": float(autocast.mean()),
        "steps": steps,
        "curve": [round(statistics.mean(losses[at : at + EVERY]), 5) for at in range(0, steps, EVERY)],
    }


def measures(row: dict[str, Any]) -> dict[str, float]:
    """Return what is compared of a run: the smoothed loss of training at some steps, and the held-out losses."""
    curve = row["curve"]
    smoothed = {
        f"training, step {at}": statistics.mean(curve[(at - SMOOTHED) // EVERY : at // EVERY])
        for at in SHOWN
        if at <= row["steps"]
    }
    return smoothed | {"held out, float32": row["held_out"], "held out, autocast": row["held_out_autocast"]}


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each start and measure, both means and standard deviations over seeds, and the paired difference.

    The difference is bf16's minus float32's loss, so above 0 means that `bf16_residual` is worse.
    """
    found = []
    for start in dict.fromkeys(row["start"] for row in rows):
        sides: list[list[dict[str, float]]] = [
            [measures(row) for row in rows if row["start"] == start and row["bf16_residual"] is residual]
            for residual in (False, True)
        ]
        for name in sides[0][0]:
            plain, residual = ([run[name] for run in side] for side in sides)
            gaps = [b - a for a, b in zip(plain, residual, strict=True)]
            columns = {"float32": plain, "bf16": residual, "difference": gaps}
            found.append(
                {"start": start, "measure": name}
                | {
                    column: {"mean": statistics.mean(values), "spread": spread(values)}
                    for column, values in columns.items()
                }
            )
    return found


def spread(values: list[float]) -> float | None:
    """Return the standard deviation over seeds, or None for one seed."""
    return statistics.stdev(values) if len(values) > 1 else None


def table_of(summary: list[dict[str, Any]]) -> str:
    """Return the comparison as the rows of a Markdown table."""
    return "\n".join(
        f"| {row['start']} | {row['measure']} | {_cell(row['float32'], '-')} | {_cell(row['bf16'], '-')} "
        f"| {_cell(row['difference'], '+')} |"
        for row in summary
    )


def _cell(column: dict[str, Any], sign: str) -> str:
    spread_shown = "" if column["spread"] is None else f" ({column['spread']:.4f})"
    return f"{column['mean']:{sign}.4f}{spread_shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", action="append", choices=STARTS, help="a model; may be given again")
    parser.add_argument("--text", default="meditations", help="a file, or a known corpus")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--add", action="store_true", help="keep the runs that today's JSON has, and add others")
    add_output_argument(parser)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    disable_progress_bars()
    tokenizer, corpus = load_tokenizer("mini"), load_corpus(options.text)
    today = result_path(options.output, "bf16_residual")
    rows = json.loads(today.read_text("utf-8"))["runs"] if options.add and today.exists() else []
    batch = {"rows": ROWS, "length": LENGTH, "smoothed": SMOOTHED, "every": EVERY, "learning_rate": STARTS}
    done = {(row["start"], row["seed"]) for row in rows}
    for start, seed in itertools.product(options.start or STARTS, range(options.seeds)):
        if (start, seed) in done:
            continue
        for residual in (False, True):
            rows.append(run(start, seed, residual, options.steps, corpus, tokenizer))
            line = ", ".join(f"{name} {value:.4f}" for name, value in measures(rows[-1]).items())
            print(f"{start} seed {seed} bf16_residual {residual}: {line}", flush=True)
        found = {"text": options.text, "batch": batch, "summary": compared(rows), "runs": rows}
        write_result(options.output, "bf16_residual", found)  # after each pair, so that an interruption loses one
    print(f"{HEADER}\n{table_of(compared(rows))}")


if __name__ == "__main__":
    main()
