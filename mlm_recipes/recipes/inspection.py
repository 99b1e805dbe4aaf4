"""`inspect_corpus`: reports what will happen to a text before anything is trained on it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.value_kinds import READING
from ..data.text_statistics import ratio
from ..inspection_file import InspectionFacts, MeasuredFacts, Recommended
from ..masking.random_keys import Ints
from ..report import advice, inspection_page
from ..sources.credentials import without_credentials
from ..sources.escaping import in_all
from ..sources.model_folder import built_in_models
from ..training.batches.kept_batch import follow
from ..training.config import MLMConfig
from . import run_folder
from .arguments import default_recipe, read_config
from .inspection_facts import WHOLE, Subject, duplicates, row_facts, text_facts
from .inspection_timing import timing_of_run
from .probing import load_probes
from .similarity import ReadProbes

logger = logging.getLogger(__name__)

#: Marks a JSON file as an inspection, which the next one may replace.
_WRITTEN_BY = "mlm-recipes inspect"

#: Values that determine which tokens a model reads.
_VOCABULARY = (
    *("model_revision", "tokenizer", "tokenizer_revision", "tokenizer_type", "kmer_length", "vocab_size"),
    *("add_tokens", "extend_positions", "word_segmenter"),
)


@dataclass(frozen=True)
class InspectionResult:
    """The result of `inspect_corpus`: its `facts`, as plain data for JSON; `print(result)` shows the page."""

    facts: InspectionFacts

    @property
    def ok(self) -> bool:
        """Tell whether training could start: there are no problems."""
        return not self.facts["problems"]

    def __str__(self) -> str:
        return inspection_page.page(self.facts)

    def write(self, path: str | Path | None = None) -> Path:
        """Write the facts as JSON, by default to `runs/<corpus>-inspection.json`; return the path.

        An earlier inspection is replaced. Raises: FileExistsError for any other file (`refuse_to_replace`).
        """
        stem = run_folder.file_stem(self.facts["corpus"]["name"])
        path = Path("runs") / f"{stem}-inspection.json" if path is None else Path(path)
        refuse_to_replace(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.facts, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(
            text + "\n", encoding="utf-8", errors="backslashreplace"
        )  # a lone surrogate becomes JSON's escape
        return path


def refuse_to_replace(path: str | Path) -> None:
    """Raise FileExistsError if `path` exists and is not an inspection."""
    path = Path(path)
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        ours = isinstance(there, dict) and there.get("written_by") == _WRITTEN_BY
    except (ValueError, OSError):  # not JSON, or a folder
        ours = False
    if not ours:
        raise FileExistsError(
            f"output: {str(path)!r} already exists and is not an inspection. Accepted: a new file, or an earlier "
            "inspection, which is replaced. Name another file with --output."
        )


def inspect_corpus(
    recipe: str | Path | MLMConfig | None = None, *, timing: bool = True, **overrides: Any
) -> InspectionResult:
    """Report what a recipe would do with a text: what is cut, padded, unknown or never masked, and the time it takes.

    Args:
        recipe, overrides: as for `train`; `corpus` and `model` are inspected.
        timing: whether to time a few optimizer steps, with a copy of the model that is discarded.

    Every ratio in the result's `facts` is a `sum` and a `count`, divided once. Anything that prevents training (such as
    a tokenizer without a mask token) is listed in its `problems`. Nothing is trained or written.

    Raises: as `load_corpus`, for a text that it refuses; ValueError for a model that does not exist, or with more than
    one process.

    >>> inspect_corpus(corpus="meditations", timing=False).facts["lengths"]["longest"]
    173
    """
    started = time.monotonic()
    if recipe is None:
        recipe = default_recipe(overrides)
    config = read_config(recipe, overrides)
    if config.world_size > 1:
        raise ValueError(
            f"inspect: received {config.world_size} processes. Accepted: one. Run it without torchrun or accelerate."
        )
    if config.mix:
        logger.info("mix is left out: only the corpus is inspected, and steps on it alone are timed.")
        config = replace(config, mix=None)
    if config.streaming:
        logger.info("streaming is left out: all of the text is read and tokenized before anything is shown.")
        config = replace(config, streaming=False)
    if config.global_batch_size is not None:
        config = follow(config, config.global_batch_size)
    similar = ReadProbes.of(config)
    subject = Subject.of(config)
    lengths, text = text_facts(subject)
    rows = row_facts(subject)
    measured: MeasuredFacts = {
        "written_by": _WRITTEN_BY,
        "corpus": subject.corpus.facts,
        "recipe": {
            "name": "a config of your own" if isinstance(recipe, MLMConfig) else str(recipe),
            "corpus": without_credentials(config.corpus),
            "reading": _asked_for(config),
            "max_length": subject.max_length,
            "packing": config.packing,
            "per_device_train_batch_size": config.per_device_train_batch_size,
            "mlm_probability": config.mlm_probability,
        },
        "model": subject.model_facts(),
        **text,
        **rows,
        "duplicates": duplicates(subject.corpus),
    }
    facts: InspectionFacts = {
        **measured,  # type: ignore[typeddict-item]  # an optional key is added below
        "problems": subject.problems,
        "warnings": advice.warnings(measured),
        "recommended": _recommended(subject, measured, lengths, overrides),
        "time": timing_of_run(subject, rows["rows"]) if timing and not subject.problems else None,
        "seconds": time.monotonic() - started,
        "versions": run_folder.versions(),
    }
    similar.add_inspected(subject.corpus["train"]["text"], config.evaluation_seed, facts)
    if config.probe:
        training = subject.corpus["train"]["text"]
        found = load_probes(config, subject.tokenizer, subject.tokenizer, subject.max_length, training, quiet=True)
        facts["probes"] = [probe.inspected() for probe in found]
    return InspectionResult(facts)


def _asked_for(config: MLMConfig) -> dict[str, object]:
    """Return the values that determine how the text is read and held out, if they are not the defaults."""
    usual = MLMConfig.__dataclass_fields__
    names = ("validation_corpus", "validation_fraction", *sorted(READING))
    given = {name: getattr(config, name) for name in names if getattr(config, name) != usual[name].default}
    return in_all(given, without_credentials)


def _vocabulary(config: MLMConfig, overrides: dict[str, Any]) -> dict[str, object]:
    """Return the values that determine which tokens the model reads, if they are not the defaults, as they were given.

    `overrides` has a file of words by its name, and the config its words.
    """
    usual, names = MLMConfig.__dataclass_fields__, [*_VOCABULARY]
    if config.tokenizer_type == "kmer":
        names += ["masking_policy", "mask_ngram"]  # k-mers that are masked one by one can be copied
    given = {name: getattr(config, name) for name in names if getattr(config, name) != usual[name].default}
    return in_all({name: overrides.get(name, value) for name, value in given.items()}, without_credentials)


def _recommended(subject: Subject, facts: MeasuredFacts, lengths: Ints, overrides: dict[str, Any]) -> Recommended:
    """Return the recommended recipe, and the values that should differ for this text."""
    kmers = subject.config.tokenizer_type == "kmer"
    found = advice.advised_recipe(facts, subject.config.model in built_in_models(), kmers)
    kept = {} if found["model"] != subject.config.model else _vocabulary(subject.config, overrides)
    usual = read_config(found["recipe"])
    length = usual.max_length if usual.packing else None
    if length is None:
        length = advice.advised_length(lengths, facts["model"]["max_positions"] or WHOLE)
    return {
        **found,
        "vocabulary": kept,
        "packed": usual.packing,
        "max_length": length,
        "tokens_within_max_length": ratio(int(np.minimum(lengths, length).sum()), int(lengths.sum())),
        "per_device_train_batch_size": advice.advised_batch(facts["rows"]["train"], usual.per_device_train_batch_size),
    }
