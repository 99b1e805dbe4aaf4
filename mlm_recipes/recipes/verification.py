"""`verify`: checks with your own model, text and recipe that the library's numbers can be trusted."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..report import terminal, wording
from ..training.config import MLMConfig
from . import run_folder
from .arguments import read_config
from .verification_bench import BATCH, KILLED_AFTER, STEPS, Bench, cut_down
from .verification_checks import Check, accumulation, evaluation, fast_paths, largest, masks, order, padding

logger = logging.getLogger(__name__)


#: Ends a process at once; on Windows, which has no SIGKILL, SIGTERM does.
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


@dataclass(frozen=True)
class VerifyResult:
    """The result of `verify`; `print(result)` shows the table."""

    checks: list[Check]
    seconds: float

    @property
    def ok(self) -> bool:
        """Tell whether every property holds."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        rows = [
            (check.name, _figure(check.measured), _figure(check.bound), "ok" if check.ok else "FAILS")
            for check in self.checks
        ]
        failed = [check.name for check in self.checks if not check.ok]
        last = (
            f"Failed: {'; '.join(failed)}. Do not trust this recipe's numbers until the cause is known."
            if failed
            else "All properties hold."
        )
        table = terminal.table([("property", "difference", "bound", ""), *rows], right=range(1, 3))
        return f"{table}\n\n{last} {len(rows)} properties checked in {wording.duration(self.seconds)}."


def verify(recipe: str | Path | MLMConfig | None = None, **overrides: Any) -> VerifyResult:
    """Check, with a recipe's own model and text, that its numbers can be trusted.

    Args:
        recipe, overrides: as for `train`.

    Trains for a few steps on ten of its paragraphs, cut to 64 tokens: with whole and with split batches, with and
    without evaluation, and killed (a separate process, by SIGKILL) and resumed. It leaves no files behind.

    Raises: as `train`; ValueError in more than one process.
    """
    started = time.monotonic()
    config = read_config(recipe, overrides)
    if config.world_size > 1:
        raise ValueError(
            f"verify: received {config.world_size} processes. Accepted: one, since it starts a second process itself. "
            "Run it without torchrun."
        )
    if config.streaming:
        raise ValueError(
            "verify: received streaming True. Accepted: false, with an excerpt of the text: head -n 1000 big.txt > "
            "excerpt.txt. Pass --streaming false --corpus excerpt.txt; the result is valid for the stream too."
        )
    with tempfile.TemporaryDirectory(prefix="mlm-recipes-verify-") as folder:
        bench = Bench.of(cut_down(config, Path(folder)))
        run = bench.run
        logger.info(
            "Verifying %s on %d paragraphs of %s, cut to %d tokens, in steps of %d.",
            config.model, len(bench.rows), run.facts["name"], run.max_length, BATCH,
        )  # fmt: skip
        checks = [
            *accumulation(bench),
            *fast_paths(bench),
            *padding(bench),
            *masks(bench),
            *order(bench),
            *evaluation(bench),
        ]
        checks += _resume(bench, Path(folder))
    return VerifyResult(checks, time.monotonic() - started)


def _resume(bench: Bench, folder: Path) -> Iterator[Check]:
    """Compare the weights of three runs: uninterrupted, evaluated after every step, and killed and resumed."""
    # On a GPU the order of some sums varies (such as attention's gradient), and Adam makes a full step of a gradient
    # that consists only of rounding errors; with `full_determinism`, torch adds in a fixed order there too.
    exact = bench.run.model.device.type == "cpu" or bench.run.config.full_determinism
    bound = 0.0 if exact else 1e-2 * bench.run.config.learning_rate
    same = "every bit" if exact else "up to the order of additions"
    _, whole = bench.train()
    _, evaluated = bench.train(eval_strategy="steps", eval_steps=1)
    yield Check(f"evaluated after every step or not: {same}", largest(evaluated, whole), bound)
    run_folder.write_recipe(folder, bench.run.config.to_recipe() | {"use_cpu": bench.run.config.use_cpu})
    code = "import sys; from mlm_recipes.recipes.verification import until_killed; until_killed(*sys.argv[1:])"
    trusted = bench.run.config.trust_remote_code
    arguments = [str(folder), *([trusted] if trusted else [])]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if killed.returncode not in (-_KILL, _KILL):  # negative, except on Windows
        raise RuntimeError(
            f"verify: the process that should have been killed ended before that:\n{killed.stderr[-2000:]}"
        )
    trainer, resumed = bench.train(resume=folder, save_strategy="steps")
    assert trainer.resumed[-1]["step"] == KILLED_AFTER
    name = f"killed after step {KILLED_AFTER} of {STEPS} and resumed: {same}"
    yield Check(name, largest(resumed, whole), bound)


def until_killed(folder: str, trust_remote_code: str | None = None) -> None:
    """Train the recipe in `folder`, with checkpoints, until this process kills itself."""
    bench = Bench.of(replace(read_config(Path(folder)), output_dir=folder, trust_remote_code=trust_remote_code))
    bench.train(callback=_Kill(), save_strategy="steps")


class _Kill(TrainerCallback):
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == KILLED_AFTER:
            os.kill(os.getpid(), _KILL)


def _figure(number: float) -> str:
    return f"{number:g}" if number % 1 == 0 else f"{number:.1e}"
