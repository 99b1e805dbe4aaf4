"""The types of finetune.json, for the modules that write and read it."""

from __future__ import annotations

from typing import Literal, TypedDict

#: The version of these types.
SCHEMA_VERSION: Literal[1] = 1


Verdict = Literal["better", "worse", "no measurable change"]


class FinetuneMeasure(TypedDict):
    """A mean over the seeds, of the encoder compared with and of the run's, and its change with a 95% interval."""

    before: float
    after: float
    change: float
    low: float
    high: float
    verdict: Verdict


class SeedResult(TypedDict):
    """What one seed gave: the share of the held-out texts that were classified correctly, and macro-F1."""

    seed: int
    accuracy_before: float
    accuracy_after: float
    macro_f1_before: float
    macro_f1_after: float


class FinetuneTexts(TypedDict):
    """The labelled texts: how many were trained on and measured, and how often each label is among the latter.

    `fingerprint`: of texts and labels.
    """

    name: str
    source: str
    fingerprint: str
    text_column: str
    label_column: str
    trained: int
    measured: int
    labels: dict[str, int]


class FinetuneSettings(TypedDict):
    """What all fine-tunings have in common."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_length: int
    precision: Literal["float32", "bf16"]


class Finetuned(TypedDict):
    """An entry of `tasks`: the run's encoder against another one, on a table of labelled texts.

    `against`: the model compared with; `as_before`: whether it is the one that the run started from.
    """

    on: FinetuneTexts
    against: str
    as_before: bool
    settings: FinetuneSettings
    accuracy: FinetuneMeasure
    macro_f1: FinetuneMeasure
    seeds: list[SeedResult]
    versions: dict[str, str]


class FinetuneFile(TypedDict):
    """The contents of finetune.json."""

    schema_version: Literal[1]
    tasks: list[Finetuned]
