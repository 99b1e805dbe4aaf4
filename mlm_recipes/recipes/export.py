"""`export` writes a trained model in another format, and checks that it still gives the same answers."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data.tokenizer import load_tokenizer
from ..evaluation.fill_mask import prompt_inputs
from ..evaluation.prompts import Prompts
from ..evaluation.same_answers import Answers, compare, milliseconds
from ..masking.batch_layout import IGNORE_INDEX
from ..metrics_file import read as read_metrics
from ..model.loading import load_model
from ..model.onnx_export import (
    export_onnx,
    input_names,
    onnx_logits,
    quantize,
    require_onnx,
    torch_logits,
)
from ..model.rounding_bounds import rounding_bound, summed_terms
from ..model.sample_rows import padded
from ..report.terminal import table
from .arguments import read_config, trained_model
from .prepare import prepare
from .run_folder import versions

logger = logging.getLogger(__name__)

FORMATS, QUANTIZED = ("onnx",), ("int8",)

#: The files of an export beside the tokenizer's.
MODEL, INT8, FACTS = "model.onnx", "model_int8.onnx", "export.json"
_TOKENIZER = "tokenizer.json"

#: The most rows that are compared, and that are timed.
_COMPARED, _TIMED = 256, 16


@dataclass(frozen=True)
class Export:
    """The result of an export: its folder, and the facts in its export.json."""

    folder: Path
    facts: dict[str, Any]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("", "MB", "loss (nats)", "accuracy", "first choice as before", "ms per row", "relative")
        ]
        models = self.facts["models"]
        for name, each in models.items():
            loss, accuracy = each.get("loss"), each.get("accuracy")
            rows.append(
                (
                    name,
                    f"{each['megabytes']:.1f}",
                    "" if loss is None else f"{loss:.3f}",
                    "" if accuracy is None else f"{accuracy:.1%}",
                    f"{each['same_first_choice']:.1%}",
                    f"{each['milliseconds']:.1f}",
                    f"{each['milliseconds'] / models['torch']['milliseconds']:.2f}",
                )
            )
        checked = self.facts["checked"]
        on = f"{checked['masked_tokens']:,} masked tokens of {checked['rows']:,} {checked['what']}"
        return (
            f"{table(rows, right=range(1, 7))}\n\nCompared on {on}; the largest difference between the logits of torch "
            f"and ONNX is {models['onnx']['largest_difference']:.1e}. Time: one row at a time, median, on "
            f"{checked['threads']} threads.\n{self._without_tokenizer()}Everything is in {self.folder}."
        )

    def _without_tokenizer(self) -> str:
        kind = self.facts["tokenizer"]
        if kind == _TOKENIZER:
            return ""
        return (
            f"There is no {_TOKENIZER}, since {kind} is Python code: read the tokenizer with transformers, "
            "AutoTokenizer.from_pretrained.\n"
        )


@dataclass(frozen=True)
class _Held:
    """What the models are compared on: batches with labels, and whether these are the true tokens."""

    batches: list[dict[str, torch.Tensor]]
    what: str
    true: bool


def export(
    run: str | Path,
    to: str = "onnx",
    output: str | Path | None = None,
    quantized: str | None = None,
    prompts: str | Path | None = None,
) -> Export:
    """Write a run's model as ONNX, with its tokenizer, and compare it with the model in torch.

    Args:
        run: a run folder, or another local folder or hub id with a masked-language model.
        to: the format; only onnx.
        output: a new or empty folder; by default `onnx` in the run folder.
        quantized: int8 adds a second file with the weights as 8-bit integers.
        prompts: a file of sentences with one [MASK] each, to compare on; by default the run's held-out rows, with the
            masks of its evaluation.

    The folder gets model.onnx, model_int8.onnx if asked for, the tokenizer, config.json and export.json.

    Raises: ValueError for a model that cannot be exported, or whose ONNX file has another first choice at any masked
    position than the model, beyond rounding; nothing is then left in the folder. MissingPackageError without the
    packages of the extra `onnx`. FileExistsError if `output` is not empty.
    """
    for name, value, accepted in (("to", to, FORMATS), ("quantize", quantized, (None, *QUANTIZED))):
        if value not in accepted:
            said = ", ".join(str(each) for each in accepted if each is not None)
            raise ValueError(f"{name}: received {value!r}. Accepted: {said}. Pass --{name} {accepted[-1]}.")
    require_onnx()
    local = Path(run).expanduser()
    folder = Path(output) if output is not None else (local if local.is_dir() else Path(local.name)) / "onnx"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"output: {str(folder)!r} exists and is not empty. Accepted: a new or empty folder. Name another with "
            "--output, or remove it."
        )
    tokenizer: Any = load_tokenizer(run)
    model: Any = load_model(run, tokenizer).eval()
    held = _held_out(local, model, tokenizer, prompts)
    names = input_names(model, tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as staged:
        place = Path(staged)
        logger.info("Exporting %s with torch %s.", run, torch.__version__)
        export_onnx(model, names, place / MODEL)
        files = {"onnx": MODEL}
        if quantized is not None:
            quantize(place / MODEL, place / INT8)
            files["onnx int8"] = INT8
        logger.info("Comparing it with the model in torch.")
        models = {"torch": torch_logits(model)} | {
            name: onnx_logits(place / file, names) for name, file in files.items()
        }
        bound = rounding_bound(summed_terms(model, max(batch["input_ids"].shape[1] for batch in held.batches)))
        answers = compare(models, held.batches, bound)
        _refuse_other_answers(answers["onnx"], type(model).__name__)
        times = milliseconds(models, _alone(held.batches))
        sizes = {name: _megabytes(place, file) for name, file in files.items()}
        sizes["torch"] = sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 1e6
        facts = {
            "format": to,
            "tokenizer": _TOKENIZER,
            "source": str(run),
            "inputs": names,
            "outputs": ["logits"],
            "checked": {
                "what": held.what,
                "rows": sum(len(batch["input_ids"]) for batch in held.batches),
                "masked_tokens": answers["torch"].tokens,
                "rounding": bound,
                "threads": torch.get_num_threads(),
            },
            "models": {
                name: {
                    "file": files.get(name),
                    "megabytes": sizes[name],
                    **_scores(answers[name], held.true),
                    "milliseconds": times[name],
                }
                for name in models
            },
            "versions": versions() | {package: version(package) for package in ("onnx", "onnxscript", "onnxruntime")},
        }
        tokenizer.save_pretrained(place)
        if not (place / _TOKENIZER).exists():
            facts["tokenizer"] = type(tokenizer).__name__
        model.config.save_pretrained(place)
        (place / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for path in sorted(place.iterdir(), key=lambda path: path.name == FACTS):  # the facts last
            shutil.move(path, folder / path.name)
    return Export(folder, facts)


def _scores(answers: Answers, true: bool) -> dict[str, float | None]:
    count = answers.tokens
    return {
        "loss": answers.nats / count if true else None,
        "accuracy": answers.correct / count if true else None,
        "same_first_choice": answers.same / count,
        "largest_difference": answers.largest,
    }


def _refuse_other_answers(answers: Answers, name: str) -> None:
    if answers.different:
        raise ValueError(
            f"export: the ONNX file of {name} has another first choice than the model in torch at "
            f"{answers.different} of {answers.tokens} masked positions, by more than rounding (logits differ by up to "
            f"{answers.largest:.1e}). It was removed. Accepted: a file with the same answers. Use the model in "
            "PyTorch, or try a newer torch."
        )


def _megabytes(place: Path, file: str) -> float:
    return sum(path.stat().st_size for path in place.glob(f"{file}*")) / 1e6


def _held_out(run: Path, model: Any, tokenizer: Any, prompts: str | Path | None) -> _Held:
    """Return what to compare on: given prompts, the run's held-out rows, or the prompts in its metrics.json.

    Raises: ValueError if there are none of these, or for a prompt that the model cannot fill.
    """
    why = f"{str(run)!r} is not a run folder"
    if prompts is not None:
        texts = [prompt.text for prompt in Prompts.read(prompts, tokenizer.mask_token).candidates]
        return _Held(_prompt_batches(texts, model, tokenizer), "given prompts", true=False)
    if (run / "recipe.yaml").is_file():
        values = trained_model(run) | {"general_corpus": "none"}
        values |= {
            "tokenizer": None,
            "tokenizer_revision": None,
            "report_to": "none",
            "use_cpu": True,
            "mix": None,
            "peft": "none",
        }
        try:
            config = read_config(run, values)
            found = prepare(replace(config, push_to_hub=False))
        except (ValueError, OSError) as error:
            why = f"the run's text cannot be read again ({str(error).rstrip('.')})"
        else:
            collator = found.frozen().changed(padding="longest", padding_free=False, pad_to_multiple_of=None)
            rows: Any = found.measured.held_out.rows
            rows = rows.select(range(min(_COMPARED, len(rows))))
            return _Held([*DataLoader(rows, batch_size=8, collate_fn=collator)], "held-out rows", true=True)
    if (run / "metrics.json").is_file():
        texts = [entry["prompt"] for entry in read_metrics(run, "export")["after"]["fill_mask"]]
        if texts:
            logger.warning("%s%s; its prompts are used instead.", why[0].upper(), why[1:])
            return _Held(_prompt_batches(texts, model, tokenizer), "prompts of its metrics.json", true=False)
        why += ", and it has no prompts"
    raise ValueError(
        f"prompts: {why}, so there is nothing to compare the models on. Accepted: a file with one sentence per line, "
        "each with one [MASK]. Pass --prompts FILE."
    )


def _prompt_batches(texts: Sequence[str], model: Any, tokenizer: Any) -> list[dict[str, torch.Tensor]]:
    """Return a batch of each prompt; the label at its mask only marks it."""
    batches = []
    for text in texts:
        (ids,) = prompt_inputs(model, tokenizer, text)["input_ids"]
        batch = padded([ids], tokenizer.pad_token_id or 0)
        batch["labels"] = batch["input_ids"].where(batch["input_ids"] == tokenizer.mask_token_id, IGNORE_INDEX)
        batches.append(batch)
    return batches


def _alone(batches: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Return rows without padding, one in each batch, for timing."""
    found = []
    for batch in batches:
        for ids, real in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            found.append(padded([ids[real.bool()]], 0))
    return found[:: -(-len(found) // _TIMED)]
