"""The probes of a run: read, measured before and after training, and compared."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from ..data.labelled_texts import load_labelled
from ..evaluation.probes.probe import Probe, ProbeState
from ..probes_file import ProbeAlone, ProbeChange
from ..report.probes import about_the_texts
from ..sources.names import unlike
from ..training.checks.probe_checks import selects
from ..training.config import MLMConfig
from ..training.distributed.processes import from_main
from ..training.trainer import MLMTrainer
from .prepare import Run

logger = logging.getLogger(__name__)


def load_probes(
    config: MLMConfig, tokenizer: Any, original: Any, max_length: int, training: Any, quiet: bool = False
) -> list[Probe]:
    """Read the probes of a config, and say what is in them; all processes call this.

    Args:
        tokenizer, original: the run's tokenizer, and the one before words were added to it.
        max_length: the most tokens of a text.
        training: the paragraphs that are trained on, in which the probes' texts are looked for; None for a stream or a
            prepared corpus.
        quiet: say nothing.

    Raises: ValueError or FileNotFoundError as `mlm_recipes.data.labelled_texts.load_labelled`.
    """
    probes = list[Probe]()
    for name in config.probe or []:

        def read(name: str = name) -> Probe:
            labelled = load_labelled(
                name,
                text_column=config.probe_text_column,
                label_column=config.probe_label_column,
                most=config.max_probe_samples,
                seed=config.evaluation_seed,
                encoding=config.encoding,
                encoding_errors=config.encoding_errors,
            )
            labelled = replace(labelled, name=unlike(labelled.name, [probe.labelled.name for probe in probes]))
            seed = config.evaluation_seed
            return Probe.of(labelled, tokenizer, original, max_length, seed, training, selects(config))

        probes.append(from_main(read))
        selecting = probes[-1].selecting
        selected = 0 if selecting is None else len(selecting.labelled.texts)
        if not quiet:
            logger.info(" ".join(about_the_texts(probes[-1].facts(), selected)))
    return probes


def probes_of(run: Run) -> list[Probe]:
    """Return the probes of a prepared run; all processes call this."""
    training = run.corpus["train"]["text"] if "train" in run.corpus else None
    return load_probes(run.config, run.tokenizer, run.original_tokenizer, run.max_length, training)


def measure_probes(run: Run, trainer: MLMTrainer, original: bool = False) -> list[ProbeState]:
    """Measure the model of a trainer on a run's probes; all processes call this.

    With `original`, before training: by the vocabulary without added words, and with features that are kept on disk.
    """
    found = []
    for probe in run.probes:
        features = trainer.text_features(probe.rows_before if original else probe.rows, cached=original)
        found.append(from_main(partial(probe.state, features)))
    return found


def compare_probes(run: Run, before: list[ProbeState], after: list[ProbeState]) -> list[ProbeChange]:
    """Return metrics.json's `probes`."""
    return [probe.change(old, new) for probe, old, new in zip(run.probes, before, after, strict=True)]


def probes_alone(run: Run, states: list[ProbeState]) -> list[ProbeAlone]:
    """Return the figures of a model that is only measured."""
    return [probe.alone(state) for probe, state in zip(run.probes, states, strict=True)]
