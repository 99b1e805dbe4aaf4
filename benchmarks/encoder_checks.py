"""What is asked of an encoder, each question by training it on a few paragraphs of the bundled corpus."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from encoder_configs import small_config
from transformers import AutoModelForMaskedLM, set_seed

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, train_tokenizer
from mlm_recipes.data.rows import tokenize
from mlm_recipes.model.loading import load_model
from mlm_recipes.training.distributed.processes import leave_process_group

#: Rows, and tokens of each at most.
_ROWS, _LENGTH = 16, 48
_STEPS = 4


def _rows_and_tokenizer() -> tuple[Any, Any]:
    rows = load_corpus("meditations")["validation"]
    tokenizer = train_tokenizer(rows["text"], vocab_size=300)
    return tokenize(rows.select(range(_ROWS)), tokenizer, max_length=_LENGTH, long_text="truncate"), tokenizer


class Encoder:
    """A small encoder with random weights, and what is trained on."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type
        self.rows, self.tokenizer = _rows_and_tokenizer()

    def model(self, dropout: bool = False) -> Any:
        """Build the model as `--from_scratch` does."""
        set_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            small_config(self.model_type, dropout).save_pretrained(folder)
            return load_model(folder, self.tokenizer, from_scratch=True)

    def trainer(self, folder: str, dropout: bool = False, **values: Any) -> MLMTrainer:
        """Return a trainer of a new model."""
        usual = {"max_steps": _STEPS, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "bf16": False}
        args = MLMConfig(
            output_dir=folder, use_cpu=True, disable_tqdm=True, **(usual | {"save_strategy": "no"} | values)
        )
        return MLMTrainer(
            self.model(dropout), args=args, train_dataset=self.rows, eval_dataset=self.rows,
            processing_class=self.tokenizer,
        )  # fmt: skip


def _losses(trainer: MLMTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trains(encoder: Encoder, folder: str) -> str:
    """Train, evaluate, save and load again."""
    trainer = encoder.trainer(folder)
    trainer.train()
    found = trainer.evaluate()["eval_loss"]
    assert torch.isfinite(torch.tensor([*_losses(trainer), found])).all(), "a loss is not finite"
    trainer.save_model(folder)
    again = AutoModelForMaskedLM.from_pretrained(folder)
    pad, answer = encoder.tokenizer.pad_token_id, "yes"
    for name, weight in trainer.model.state_dict().items():
        loaded = again.state_dict()[name]
        if not torch.equal(weight, loaded):
            # No label is the padding token, so that nothing is lost.
            assert len(weight) > pad, f"{name} was not saved"
            loaded[pad] = weight[pad]
            assert torch.equal(weight, loaded), f"{name} was not saved"
            answer = "yes: transformers sets the padding token's embedding to 0 when it loads the model"
    return answer


@contextmanager
def _said() -> Iterator[list[str]]:
    """Yield what this library logs within `with`."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("mlm_recipes")
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def _why_off(option: str, said: list[str]) -> str:
    found = [line.partition(f"{option} is off: ")[2].partition(". ")[0] for line in said if f"{option} is off" in line]
    return f"no: {found[0]}" if found else "no"


def _same_loss(option: str, encoder: Encoder, folder: str) -> str:
    """Train with and without a fast path, if the model can have it; every step's loss must be the same."""
    with _said() as said:
        fast = encoder.trainer(folder)
    if not getattr(fast, option):
        return _why_off(option, said)
    plain = encoder.trainer(folder, **{option: False})
    fast.train()
    plain.train()
    for one, other in zip(_losses(fast), _losses(plain), strict=True):
        assert abs(one - other) < 1e-4 * other, f"losses {one} and {other}"
    return "yes"


def whole_word(encoder: Encoder, folder: str) -> str:
    """Mask whole words."""
    trainer = encoder.trainer(folder, masking_policy="whole_word")
    trainer.train()
    assert torch.isfinite(torch.tensor(_losses(trainer))).all(), "a loss is not finite"
    return "yes"


def resume(encoder: Encoder, folder: str) -> str:
    """Resume from the middle, with dropout: every weight must be that of the uninterrupted run, bit for bit."""
    values = {"save_strategy": "steps", "save_steps": 2, "dropout": True}
    whole, resumed = encoder.trainer(f"{folder}/a", **values), encoder.trainer(f"{folder}/b", **values)
    whole.train()
    resumed.train(resume_from_checkpoint=f"{folder}/a/checkpoint-2")
    for (name, one), other in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), f"{name} differs"
    return "yes"


def two_processes(encoder: Encoder, folder: str) -> str:
    """Train in two processes; each step's loss must be that of one process."""
    alone = encoder.trainer(folder)
    alone.train()
    found = Path(folder) / "losses.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    done = subprocess.run(
        [*command, encoder.model_type, folder, str(found)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if re.match(r"(\[rank\d\]:)?\s*\w*(Error|Exception): ", line)]
    ended = re.findall(r"exitcode\s*: (-?\d+)", done.stderr)  # of a process, as torchrun reports it
    why = said[0].split("]:")[-1].strip() if said else f"exit code {' and '.join(ended) or done.returncode}"
    assert done.returncode == 0, why
    for one, other in zip(_losses(alone), json.loads(found.read_text("utf-8")), strict=True):
        assert abs(one - other) < 1e-4 * one, f"losses {one} and {other}"
    return "yes"


def lora(encoder: Encoder, folder: str) -> str:
    """Train with LoRA: only the adapter changes."""
    if importlib.util.find_spec("peft") is None:
        return "not asked: peft is not installed"
    trainer = encoder.trainer(folder, peft="lora")
    trainer.train()
    assert torch.isfinite(torch.tensor(_losses(trainer))).all(), "a loss is not finite"
    return "yes"


#: The columns of the table, and what answers each.
CHECKS: dict[str, Callable[[Encoder, str], str]] = {
    "trains": trains,
    "padding_free": partial(_same_loss, "padding_free"),
    "sparse_prediction": partial(_same_loss, "sparse_prediction"),
    "whole_word": whole_word,
    "exact resume": resume,
    "two processes": two_processes,
    "LoRA": lora,
}


def check(model_type: str) -> dict[str, str]:
    """Return an answer for each column: `yes` or `no`; `: ` and a reason may follow."""
    encoder = Encoder(model_type)
    try:
        encoder.model()
    except Exception as error:
        return {"built": f"no: {_first_line(error)}"}
    answers = {}
    for name, asked in CHECKS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                answers[name] = asked(encoder, folder)
            except Exception as error:  # whatever a model's code raises is the answer
                answers[name] = f"no: {_first_line(error)}"
        if name == "trains" and not answers[name].startswith("yes"):
            break
    return answers


def _first_line(error: Exception) -> str:
    lines = [*filter(None, str(error).splitlines()), type(error).__name__]
    return lines[0][:400]


def be_one_of_two(model_type: str, folder: str, into: str) -> None:
    """Train in one of two processes; the first one writes each step's loss."""
    trainer = Encoder(model_type).trainer(folder, per_device_train_batch_size=2)
    trainer.train()
    if trainer.is_world_process_zero():
        Path(into).write_text(json.dumps(_losses(trainer)), encoding="utf-8")


if __name__ == "__main__":
    be_one_of_two(*sys.argv[1:])
    leave_process_group()  # when nothing refers to it any more
