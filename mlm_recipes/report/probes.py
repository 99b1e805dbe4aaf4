"""What a run's probes show, in sentences and as rows of tables; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..metrics_file import EvaluationMetrics, Metrics
from ..probes_file import ChosenFeatures, InspectedProbe, ProbeAlone, ProbeChange, ProbeMeasure, ProbeTexts
from .wording import count, duration

#: The labels that are shown with their numbers, the most common first.
_SHOWN = 8

#: A label with fewer texts than this is hardly learned.
_RARE = 5


def probes_in(metrics: Metrics) -> Sequence[ProbeChange]:
    """Return the probes of a run; none for a run without any."""
    return metrics.get("probes", [])


def about_the_texts(probe: ProbeTexts, selected: int = 0) -> Iterator[str]:
    """Yield what is in a probe, and what keeps it from showing what the model does with new texts.

    `selected` is how many other texts of the table select the best checkpoint.
    """
    most = probe["majority"]
    yield (
        f"Probe {probe['name']}: {count(probe['texts'], 'text')} with {count(len(probe['labels']), 'label')} (columns "
        f"{probe['text_column']} and {probe['label_column']}); {most['label']!r}, the most common, has "
        f"{most['share']:.1%}."
    )
    if selected:
        yield (
            f"{count(selected, 'other text')} of the table select the best checkpoint, and are not measured: what "
            "was selected by a text would look too good on it."
        )
    left = probe["left_out"]
    lost = [
        f"{number:,} {what}"
        for number, what in (
            (left["without_text"], "without a text"),
            (left["without_label"], "without a label"),
            (left["beyond_max"], "beyond --max_probe_samples"),
        )
        if number
    ]
    if lost:
        yield f"Left out: {', '.join(lost)}."
    if probe["cut_off"]:
        yield f"{count(probe['cut_off'], 'text')} longer than a row {_are(probe['cut_off'])} cut off there."
    rare = sum(number < _RARE for number in probe["labels"].values())
    if rare:
        have = "has" if rare == 1 else "have"
        yield f"{count(rare, 'label')} {have} fewer than {_RARE} texts, and can hardly be learned."
    copies = probe["texts"] - probe["groups"]
    if copies:
        equal = "equals" if copies == 1 else "equal"
        yield f"{count(copies, 'text')} nearly {equal} another, and {_are(copies)} kept in its fold."
    yield leakage(probe)


def leakage(probe: ProbeTexts) -> str:
    """Return a sentence about the texts of a probe that are in the training text."""
    exact, near = probe["leakage"]["exact"], probe["leakage"]["near"]
    if exact is None or near is None:
        return "Whether its texts are in the training text is not known, since that is a stream or prepared."
    if not exact + near:
        return "None of its texts was found in the training text."
    parts = [f"{exact:,} equal a paragraph" if exact else "", f"{near:,} nearly stand in it" if near else ""]
    found = ", ".join(filter(None, parts))
    return (
        f"{exact + near:,} of its {probe['texts']:,} texts are in the training text ({found}), "
        "without their labels: on these the model is not measured on new text."
    )


def result(probe: ProbeChange) -> str:
    """Return one sentence: how often a classifier on the model's features is right, before and after.

    >>> measure = dict(before=0.712, after=0.758, change=0.046, low=0.029, high=0.062, verdict="better")
    >>> result(dict(name="your labels", accuracy=measure))
    'Classifying your labels: 71.2% -> 75.8%, +2.9 to +6.2 points.'
    >>> result(dict(name="your labels", accuracy=measure | dict(low=-0.001, verdict="no measurable change")))
    'Classifying your labels: no measurable change (71.2% -> 75.8%, -0.1 to +6.2 points).'
    """
    figures = f"{_from_to(probe['accuracy'])}, {interval(probe['accuracy'])} points"
    if probe["accuracy"]["verdict"] == "no measurable change":
        return f"Classifying {probe['name']}: no measurable change ({figures})."
    return f"Classifying {probe['name']}: {figures}."


def remarks(probe: ProbeChange) -> Iterator[str]:
    """Yield what qualifies the result of a probe."""
    most, (before, after) = probe["majority"], probe["beats_majority"]
    if not after:
        was = "" if before else " So it was before training."
        yield (
            f"That is no better than always answering {most['label']!r}, which is right for {most['share']:.1%} of the "
            f"texts.{was}"
        )
    elif not before:
        yield (
            f"Before training it was no better than always answering {most['label']!r}, which is right for "
            f"{most['share']:.1%} of the texts."
        )
    if probe["accuracy"]["verdict"] == "no measurable change":
        yield (
            f"With {count(probe['texts'], 'text')}, a change of {100 * probe['smallest_change']:.1f} points would be "
            "measured in four of five cases; a smaller one usually not."
        )
    if any(probe["leakage"].values()):
        yield leakage(probe)
        if "not_leaked" in probe:
            yield f"Without these: {_from_to(probe['not_leaked'])}, {interval(probe['not_leaked'])} points."
    if "selected" in probe:
        yield f"{count(probe['selected'], 'other text')} of the table selected the best checkpoint."


def sentences(metrics: Metrics) -> Iterator[str]:
    """Yield what the probes of a run show, one line for each."""
    for probe in probes_in(metrics):
        yield " ".join([result(probe), *remarks(probe)])


def alone(metrics: EvaluationMetrics) -> Iterator[str]:
    """Yield how well a model that is only measured does its probes, one line for each."""
    probes: Sequence[ProbeAlone] = metrics["evaluation"].get("probes", [])
    for probe in probes:
        most = probe["majority"]
        no_better = f", no better than always answering {most['label']!r} ({most['share']:.1%})"
        more = "" if probe["beats_majority"] else no_better
        yield (
            f"Classifying {probe['name']}: {probe['accuracy']:.1%} (95% interval {probe['low']:.1%} to "
            f"{probe['high']:.1%}), macro-F1 {100 * probe['macro_f1']:.1f}{more}."
        )


def rows(probe: ProbeChange) -> list[tuple[str, ...]]:
    """Return the table of a probe: each measure before and after, its change, and its interval."""
    return [
        (name, f"{m['before']:.1%}", f"{m['after']:.1%}", f"{100 * m['change']:+.1f} points", interval(m))
        for name, m in (("accuracy", probe["accuracy"]), ("macro-F1", probe["macro_f1"]))
    ]


def details(probe: ProbeChange) -> Iterator[tuple[str, str]]:
    """Yield the facts of a probe: a label and a value."""
    labels = sorted(probe["labels"].items(), key=lambda item: -item[1])
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    yield "texts", f"{probe['texts']:,}, from {probe['source']}"
    yield "labels", ", ".join(f"{label} ({number:,})" for label, number in labels[:_SHOWN]) + more
    apart = probe["disagreement"]
    yield (
        "only one was right",
        f"before: {apart['only_before']:,} texts, after: {apart['only_after']:,} (McNemar's exact test: "
        f"p = {apart['p']:.2g})",
    )
    yield "features before", _chosen(probe["chosen_before"])
    yield "features after", _chosen(probe["chosen_after"])
    yield "time", duration(probe["seconds"])


def inspected(probe: InspectedProbe) -> str:
    """Return what a probe could show of a run, before there is one."""
    enough = (
        f"A change of two points would be measured in {probe['power']:.0%} of runs, if the classifiers before and "
        f"after disagree on {probe['disagree']:.0%} of the texts"
    )
    if probe["power"] >= 0.8:
        return f"{enough}: there are enough labels."
    return f"{enough}. It takes {probe['texts_needed']:,} labelled texts to measure it in 80%."


def compared(metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Yield the rows of `compare`: a label and a cell for each."""
    for probe in probes_in(metrics):
        yield f"{probe['name']}, texts", f"{probe['texts']:,}"
        for name, before, after, change, low_to_high in rows(probe):
            what = f"{probe['name']}, {name}"
            yield f"{what}, before", before
            yield f"{what}, after", after
            yield f"{what}, change", change
            yield f"{what}, 95% interval", low_to_high
        yield f"{probe['name']}, verdict", probe["accuracy"]["verdict"]


def interval(measure: ProbeMeasure) -> str:
    """Return the ends of an interval in percentage points.

    >>> interval(dict(low=-0.0123, high=0.05))
    '-1.2 to +5.0'
    """
    return f"{100 * measure['low']:+.1f} to {100 * measure['high']:+.1f}"


def _from_to(measure: ProbeMeasure) -> str:
    return f"{measure['before']:.1%} -> {measure['after']:.1%}"


def _chosen(found: ChosenFeatures) -> str:
    layers = [f"{name} in {found['layers'].count(name)}" for name in dict.fromkeys(found["layers"])]
    return f"{', '.join(layers)} of {len(found['layers'])} folds"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
