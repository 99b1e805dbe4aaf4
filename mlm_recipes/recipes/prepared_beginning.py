"""The beginning of a prepared corpus, which all processes make alike: what is held out, and the plan."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from datasets import Dataset

from ..data.copies import measured_once
from ..data.corpus import load_paragraphs
from ..data.corpus_name import Reading, resolve
from ..data.dealt_text import DealtText
from ..data.prepared_files import HELD_OUT, PLAN, TOKENIZER, as_lines, write_text
from ..data.prepared_plan import HeldOutText, Plan, WrittenFile, differences, read_plan
from ..data.streams import HeldOut
from ..data.text_cache import digests
from ..sources.credentials import without_credentials
from ..training.config import MLMConfig

#: What may differ between two machines that prepare the same text: where it is, and bytes that other versions of Arrow
#: or of transformers write for the same contents.
_OF_A_MACHINE = {"corpus": {"source"}, "tokenizer": {"model", "files"}, "held_out": {"file"}}


def hold_out(config: MLMConfig, text: DealtText, reading: Reading) -> tuple[Dataset, HeldOut, HeldOutText]:
    """Return the paragraphs that are measured, the rule that keeps them and their copies out of training, and facts.

    Of a text without a `validation` split, these are the first ones that the rule of a stream holds out; all others are
    trained on. Each process finds the same ones, by reading the beginning of the text.
    """
    at_most, seed = config.max_eval_samples, config.evaluation_seed
    if config.validation_corpus is not None:
        validation = load_paragraphs(resolve(config.validation_corpus, reading))
    elif text.source.held_out_files:
        validation = cast(Dataset, text.whole.own_validation())
    else:
        try:
            chosen = HeldOut(config.validation_fraction, seed).choose(text.whole(), at_most)
        except ValueError as error:
            if not str(error).startswith("validation_fraction:"):
                raise
            raise ValueError(
                f"validation_fraction: with {config.validation_fraction} no paragraph of {text.source.name!r} is held "
                "out, so there would be nothing to measure on. Accepted: a text and a fraction that give at least one. "
                "Raise it, or name a --validation_corpus."
            ) from error
        validation = Dataset.from_dict({"text": chosen, "example_id": range(len(chosen)), "digest": digests(chosen)})
    measured = measured_once(validation, at_most, seed)
    about: HeldOutText = {
        "paragraphs": len(measured.rows),
        "copies": measured.copies,
        "not_measured": measured.beyond,
        "fraction": config.validation_fraction,
        "at_most": at_most,
        "seed": seed,
        "corpus": None if config.validation_corpus is None else without_credentials(config.validation_corpus),
        "file": {"bytes": 0, "sha256": ""},
    }
    return measured.rows.select_columns(["text", "example_id"]), HeldOut(texts=validation["text"]), about


def agreed_plan(folder: Path, plan: Plan, tokenizer: Any, validation: Dataset) -> Plan:
    """Return the plan that is in the folder; if there is none, write this one, the tokenizer and the held-out text.

    Raises: ValueError if the folder was begun with other values.
    """
    there = read_plan(folder)
    if there is not None:
        if found := list(differences(_compared(there), _compared(plan))):
            raise ValueError(
                f"out: {str(folder)!r} was begun with other values: {'; '.join(found)}. Accepted: the same text, model "
                "and values in all processes. Restore them, or name a new folder."
            )
        return there
    aside = folder / f".making-{TOKENIZER}-{os.getpid()}"
    tokenizer.save_pretrained(aside)
    plan["tokenizer"]["files"] = {path.name: _written(path) for path in sorted(aside.iterdir())}
    if (folder / TOKENIZER).exists():
        shutil.rmtree(folder / TOKENIZER)
    os.replace(aside, folder / TOKENIZER)
    rows = folder / f".making-{HELD_OUT}-{os.getpid()}"
    _write_arrow(validation, rows)
    plan["held_out"]["file"] = _written(rows)
    os.replace(rows, folder / HELD_OUT)
    write_text(folder / PLAN, as_lines(cast(dict[str, Any], plan)))  # last: with it, the others are there too
    return plan


def _compared(plan: Plan) -> dict[str, Any]:
    every: dict[str, Any] = {**plan}
    for part, names in _OF_A_MACHINE.items():
        every[part] = {name: value for name, value in every[part].items() if name not in names}
    return every


def _write_arrow(rows: Dataset, path: Path) -> None:
    table = rows.with_format("arrow")[:]
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table)


def _written(path: Path) -> WrittenFile:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
