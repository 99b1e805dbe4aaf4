"""`Probe`: a labelled task, and what a frozen encoder makes of it before and after training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.labelled_texts import LabelledTexts
from ...data.near_duplicates import near_duplicate_groups
from ...masking.random_keys import Floats, Ints
from ...probes_file import ChosenFeatures, InspectedProbe, ProbeAlone, ProbeChange, ProbeMeasure, ProbeTexts
from .features import LAYERS
from .folds import deal
from .leakage import Flags, leaked
from .learning_curve import Point, learning_curve
from .linear_probe import Answers, cross_validate
from .paired_difference import accuracy_change, disagreement, macro_f1_change
from .power import power, smallest_change, texts_needed

#: The folds that the texts are dealt to; each is classified by what is learned from the others.
FOLDS = 5

#: The share of the texts on which classifiers before and after adaptation usually disagree, and a change worth showing.
USUAL_DISAGREEMENT, _SMALL_CHANGE = 0.1, 0.02

#: Makes the features of rows of token ids, shape `(3, rows, hidden)`, as `MLMTrainer.text_features` does.
Features = Callable[[Sequence[Sequence[int]]], Floats]


@dataclass(frozen=True)
class ProbeState:
    """What the classifiers answered on one model's features, the learning curve, and how long that took."""

    answers: Answers
    curve: list[Point]
    seconds: float


@dataclass(frozen=True)
class Probe:
    """A labelled task that is measured in the same way before and after training.

    Attributes:
        labelled: the texts and their labels.
        rows: the token ids of each text.
        rows_before: the same by the vocabulary before words were added to it.
        groups: the same number for near duplicates, which are never learned from and classified at once.
        fold: each text's fold.
        cut_off: how many texts are longer than a row.
        in_training: which texts equal a training paragraph, and which nearly stand in the training text; None if that
            was not looked for.
        selecting: texts of the same table that only select the best checkpoint, if a probe does.
    """

    labelled: LabelledTexts
    rows: list[list[int]]
    rows_before: list[list[int]]
    groups: Ints
    fold: Ints
    cut_off: int
    in_training: tuple[Flags, Flags] | None
    selecting: Probe | None = None

    @classmethod
    def of(
        cls,
        labelled: LabelledTexts,
        tokenizer: Any,
        original: Any,
        max_length: int,
        seed: int,
        training: Any = None,
        selects: bool = False,
    ) -> Probe:
        """Tokenize the texts, and decide how they are measured.

        Args:
            labelled: the texts.
            tokenizer, original: the run's tokenizer, and the one before words were added to it.
            max_length: the most tokens of a text; longer ones are cut off.
            seed: of the folds.
            training: the paragraphs that are trained on, or None if they are not known beforehand.
            selects: whether half of the texts only select the best checkpoint.
        """
        groups = near_duplicate_groups(labelled.texts)
        in_training = None if training is None else leaked(labelled.texts, training)
        whole, cut = token_rows(labelled.texts, tokenizer, max_length)
        before = whole if original is tokenizer else token_rows(labelled.texts, original, max_length)[0]

        def part(chosen: Ints, selecting: Probe | None = None) -> Probe:
            some = labelled if len(chosen) == len(labelled.texts) else labelled.part(chosen)
            return cls(
                some,
                [whole[index] for index in chosen],
                [before[index] for index in chosen],
                groups[chosen],
                deal(some.labels, groups[chosen], FOLDS, seed),
                int(cut[chosen].sum()),
                None if in_training is None else (in_training[0][chosen], in_training[1][chosen]),
                selecting,
            )

        if not selects:
            return part(np.arange(len(whole)))
        half = deal(labelled.labels, groups, 2, seed)
        return part(np.flatnonzero(half == 0), part(np.flatnonzero(half == 1)))

    def state(self, features: Floats, curve: bool = True) -> ProbeState:
        """Return what is learned from a model's features, shape `(3, texts, hidden)`."""
        started = time.monotonic()
        at = features, self.labelled.labels, self.groups, self.fold
        answers = cross_validate(*at)
        return ProbeState(answers, learning_curve(*at) if curve else [], time.monotonic() - started)

    def accuracy(self, features: Floats) -> float:
        """Return the share of the texts that are classified correctly."""
        return float((self.state(features, curve=False).answers.predicted == self.labelled.labels).mean())

    def facts(self) -> ProbeTexts:
        """Return what metrics.json says about the texts."""
        labelled, counts = self.labelled, np.bincount(self.labelled.labels, minlength=len(self.labelled.names))
        most = int(counts.argmax())
        exact, near = (None, None) if self.in_training is None else (int(part.sum()) for part in self.in_training)
        found: ProbeTexts = {
            "name": labelled.name,
            "source": labelled.source,
            "fingerprint": labelled.fingerprint(),
            "texts": len(labelled.texts),
            "groups": len(np.unique(self.groups)),
            "labels": dict(zip(labelled.names, counts.tolist(), strict=True)),
            "majority": {"label": labelled.names[most], "share": float(counts[most]) / len(labelled.texts)},
            "left_out": labelled.left_out,
            "text_column": labelled.text_column,
            "label_column": labelled.label_column,
            "cut_off": self.cut_off,
            "leakage": {"exact": exact, "near": near},
        }
        if labelled.licence is not None:
            found["licence"] = labelled.licence
        return found

    def change(self, before: ProbeState, after: ProbeState) -> ProbeChange:
        """Return metrics.json's entry: both states, and the paired difference between them."""
        labels, groups, fold = self.labelled.labels, self.groups, self.fold
        answers = before.answers.predicted, after.answers.predicted
        old, new = ((answered == labels).astype(float) for answered in answers)
        apart = disagreement(old, new)
        share = (apart["only_before"] + apart["only_after"]) / len(labels)
        found: ProbeChange = {
            **self.facts(),  # type: ignore[typeddict-item]  # optional keys are added below
            "folds": FOLDS,
            "accuracy": accuracy_change(old, new, groups, fold),
            "macro_f1": macro_f1_change(labels, *answers, groups, fold),
            "disagreement": apart,
            "beats_majority": [self._beats_majority(old), self._beats_majority(new)],
            "smallest_change": smallest_change(len(labels), share),
            "chosen_before": _chosen(before.answers),
            "chosen_after": _chosen(after.answers),
            "learning_curve": [
                {
                    "labels": ours.labels,
                    "draws": ours.draws,
                    **accuracy_change(ours.correct, theirs.correct, groups, fold),
                }
                for ours, theirs in zip(before.curve, after.curve, strict=True)
            ],
            "seconds": before.seconds + after.seconds,
        }
        found["learning_curve"].append({"labels": self._learned_from(), "draws": 1, **found["accuracy"]})
        inside = None if self.in_training is None else self.in_training[0] | self.in_training[1]
        if inside is not None and inside.any() and not inside.all():
            found["not_leaked"] = accuracy_change(old[~inside], new[~inside], groups[~inside], fold[~inside])
        if self.selecting is not None:
            found["selected"] = len(self.selecting.labelled.texts)
        return found

    def alone(self, state: ProbeState) -> ProbeAlone:
        """Return the figures of a model that is only measured."""
        labels, answered = self.labelled.labels, state.answers.predicted
        right = (answered == labels).astype(float)
        found = accuracy_change(np.zeros(len(labels)), right, self.groups, self.fold)
        return {
            **self.facts(),
            "folds": FOLDS,
            "accuracy": found["after"],
            "low": found["low"],
            "high": found["high"],
            "macro_f1": macro_f1_change(labels, answered, answered, self.groups, self.fold, resamples=1)["after"],
            "beats_majority": self._beats_majority(right),
            "seconds": state.seconds,
        }

    def inspected(self) -> InspectedProbe:
        """Return what the probe could show of a run."""
        texts = len(self.labelled.texts)
        found: InspectedProbe = {
            **self.facts(),  # type: ignore[typeddict-item]  # an optional key is added below
            "disagree": USUAL_DISAGREEMENT,
            "power": power(texts, _SMALL_CHANGE, USUAL_DISAGREEMENT),
            "texts_needed": texts_needed(_SMALL_CHANGE, USUAL_DISAGREEMENT),
        }
        if self.selecting is not None:
            found["selecting"] = len(self.selecting.labelled.texts)
        return found

    def _learned_from(self) -> int:
        """Return how many labels a fold's classifier learns from, on average."""
        return len(self.fold) - round(len(self.fold) / FOLDS)

    def _beats_majority(self, right: Floats) -> bool:
        """Tell whether a classifier is measurably better than answering the most common label."""
        most = (self.labelled.labels == np.bincount(self.labelled.labels).argmax()).astype(float)
        return better(accuracy_change(most, right, self.groups, self.fold))


def better(measure: ProbeMeasure) -> bool:
    """Tell whether a change's interval is above zero."""
    return measure["low"] > 0


def token_rows(texts: Sequence[str], tokenizer: Any, max_length: int) -> tuple[list[list[int]], Flags]:
    """Return each text's token ids, with special tokens and at most `max_length`, and which texts are cut off."""
    ids = tokenizer(list(texts), verbose=False)["input_ids"]
    cut = np.array([len(row) > max_length for row in ids], dtype=bool)
    if cut.any():
        ids = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    return ids, cut


def _chosen(answers: Answers) -> ChosenFeatures:
    return {
        "layers": [LAYERS[way] for way, _ in answers.chosen],
        "strength": [strength for _, strength in answers.chosen],
    }
