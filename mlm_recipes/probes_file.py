"""The types of the probes in metrics.json and in an inspection, for the modules that write and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

#: Which layers a text's vector is the mean of.
Layers = Literal["last layer", "upper half", "all layers"]

ProbeVerdict = Literal["better", "worse", "no measurable change"]


class Majority(TypedDict):
    """The most common label, and its share of the texts."""

    label: str
    share: float


class LabelsLeftOut(TypedDict):
    """How many rows of a labelled table are not used, and why."""

    without_text: int
    without_label: int
    beyond_max: int


class Leakage(TypedDict):
    """How many texts of a probe are in the training text; None in `exact` and `near` if that was not looked for.

    `exact`: equal to a paragraph, but for case and white space. `near`: four fifths of their runs of five words are in
    it; those that are `exact` are not counted again.
    """

    exact: int | None
    near: int | None


class ProbeTexts(TypedDict):
    """A probe's texts and labels.

    `groups`: how many texts there are if near duplicates count once. `cut_off`: texts longer than a row.
    """

    name: str
    source: str
    licence: NotRequired[str]
    fingerprint: str
    texts: int
    groups: int
    labels: dict[str, int]
    majority: Majority
    left_out: LabelsLeftOut
    text_column: str
    label_column: str
    cut_off: int
    leakage: Leakage


class ProbeMeasure(TypedDict):
    """A share of the texts before and after training, and its change with a 95% interval."""

    before: float
    after: float
    change: float
    low: float
    high: float
    verdict: ProbeVerdict


class Disagreement(TypedDict):
    """On how many texts only one of the two was right, and the p-value of McNemar's exact test of that."""

    only_before: int
    only_after: int
    p: float


class CurvePoint(ProbeMeasure):
    """The accuracy with so many labels to learn from, on average over so many draws of them."""

    labels: int
    draws: int


class ChosenFeatures(TypedDict):
    """Which layers and which strength of regularisation were chosen in each fold, on its training texts."""

    layers: list[Layers]
    strength: list[float]


class ProbeChange(ProbeTexts):
    """An entry of `probes`: how well a linear classifier on frozen features does, before and after training.

    `beats_majority`: whether the classifier is measurably better than the most common label, before and after.
    `not_leaked`: the accuracy on the texts that are not in the training text, if some are. `smallest_change`: what
    would be measured in 4 of 5 probes with as many texts and disagreements. `selected`: how many other texts of the
    table decided which checkpoint is the best.
    """

    folds: int
    accuracy: ProbeMeasure
    macro_f1: ProbeMeasure
    disagreement: Disagreement
    beats_majority: list[bool]
    not_leaked: NotRequired[ProbeMeasure]
    smallest_change: float
    chosen_before: ChosenFeatures
    chosen_after: ChosenFeatures
    learning_curve: list[CurvePoint]
    selected: NotRequired[int]
    seconds: float


class ProbeAlone(ProbeTexts):
    """A probe of a model that is only measured: its accuracy with a 95% interval, and macro-F1."""

    folds: int
    accuracy: float
    low: float
    high: float
    macro_f1: float
    beats_majority: bool
    seconds: float


class InspectedProbe(ProbeTexts):
    """A probe before any run: how likely a change of two points would be measured, and the texts that 4 of 5 needs.

    Both assume that the classifiers before and after disagree on a share `disagree` of the texts.
    """

    disagree: float
    power: float
    texts_needed: int
    selecting: NotRequired[int]
