"""An inspection's facts, `runs/NAME-inspection.json`: the types that writers and readers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from .metrics_file import LoadedCorpus, LostCharacters, PairKind
from .probes_file import InspectedProbe, Leakage

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

Layout = Literal["max_length", "longest", "padding_free"]


class Ratio(TypedDict):
    """A sum and a count, divided once."""

    sum: float
    count: float
    ratio: float


class InspectedRecipe(TypedDict):
    """`recipe`: the values that decide what becomes of the text."""

    name: str
    corpus: str
    reading: dict[str, object]
    max_length: int
    packing: bool
    per_device_train_batch_size: int
    mlm_probability: float


class InspectedModel(TypedDict):
    """`model`; what only a loaded model can say is None where it cannot be loaded."""

    name: str
    parameters: int | None
    random_weights: bool
    vocabulary: int
    embeddings: int | None
    max_positions: int | None
    mask_token: str | None
    missing_weights: list[str]
    missing_in_encoder: int


# `from` is a keyword, which no attribute can be called.
_Range = TypedDict("_Range", {"from": int, "to": int})


class Bucket(_Range):
    """Paragraphs of so many tokens."""

    paragraphs: int
    tokens: int


class Lengths(TypedDict):
    """`lengths`, in tokens, none cut off."""

    paragraphs: int
    tokens: int
    tokens_with_special: int
    median: float
    longest: int
    longest_begins: str
    histogram: list[Bucket]


class Amount(TypedDict):
    """Paragraphs, and tokens of them."""

    paragraphs: int
    tokens: int


class CutOff(TypedDict):
    """`cut_off`: paragraphs that lose their end, and the share of all tokens."""

    paragraphs: int
    tokens: Ratio


class CountedWord(TypedDict):
    """A word, and how often the text has it."""

    word: str
    count: int


class FragmentedWord(CountedWord):
    """A word, and the pieces that the vocabulary has for it."""

    pieces: list[str]


class WordPieceCounts(TypedDict):
    """`words`: how the vocabulary breaks them into pieces."""

    counted: int
    sample: bool
    pieces_per_word: Ratio
    broken: Ratio
    most_fragmented: list[FragmentedWord]
    most_unknown: list[CountedWord]


class LineShapes(TypedDict):
    """`lines`: what tells wrapped lines from paragraphs."""

    usual_longest: int
    nearly_as_long: Ratio
    begin_with_a_small_letter: Ratio


class RowCounts(TypedDict):
    """`rows`."""

    train: int
    validation: int
    train_tokens: int


class Padding(TypedDict):
    """`padding`: the layout of the run, and the share of padding in each."""

    run: Layout
    max_length: Ratio
    longest: Ratio
    padding_free: Ratio


class Masking(TypedDict):
    """`masking`: what it leaves alone, and on how many tokens the result is measured, where that is known.

    `rows_without_a_mask` is the number expected of an epoch, or that of the first one with a policy that masks several
    tokens together. `schedule` is there if the share of masked tokens changes during training, in words.
    """

    mlm_probability: float
    masking_policy: str
    schedule: NotRequired[str]
    rows_without_a_mask: Ratio
    rows_below_three_maskable: Ratio
    held_out_masked_tokens: int | None


class Duplicates(TypedDict):
    """`duplicates`."""

    exact: int
    near: int
    dropped_as_duplicate_of_validation: int
    near_duplicates_of_validation: int


class Advised(TypedDict):
    """The recipe and the model to use, and why."""

    recipe: str
    model: str
    num_train_epochs: NotRequired[float]
    why: str


class Recommended(Advised):
    """`recommended`: also the values that this text needs, and those of the vocabulary if the model is kept."""

    packed: bool
    max_length: int
    tokens_within_max_length: Ratio
    per_device_train_batch_size: int
    vocabulary: dict[str, object]


class Timing(TypedDict):
    """`time`: what the first steps took on this machine.

    `batch`: the rows of a step; with `tokens_per_batch` their mean, and `batch_tokens` is the mean of its tokens.
    """

    seconds_per_step: float
    steps_timed: list[float]
    batch: int
    batch_tokens: NotRequired[int]
    micro_batches: int
    precision: Literal["bf16", "fp16", "float32"]
    device: str
    threads: int
    steps_an_epoch: int
    seconds_an_epoch: float
    steps_of_the_run: int
    seconds_of_the_run: float


class TextFacts(TypedDict):
    """What is measured of the text as it is."""

    lengths: Lengths
    longer_than_max_length: Amount
    unknown: Ratio
    lost: LostCharacters
    words: WordPieceCounts
    lines: LineShapes


class RowFacts(TypedDict):
    """What is measured of the rows that a run would see."""

    cut_off: CutOff
    rows: RowCounts
    padding: Padding
    masking: Masking


class MeasuredFacts(TextFacts, RowFacts):
    """All that advice follows from."""

    written_by: str
    corpus: LoadedCorpus
    recipe: InspectedRecipe
    model: InspectedModel
    duplicates: Duplicates


class ExpectedInterval(TypedDict):
    """What so many pairs or queries are likely to show of a run.

    `spread`: the assumed standard deviation of what each contributes to the change of Spearman's correlation, or of
    nDCG@10. `half_width`: how far the 95% interval then reaches to each side. `power`: how likely a change of 0.02
    would be measured, and `needed`: how many it takes to measure it in 4 of 5 runs.
    """

    spread: float
    half_width: float
    power: float
    needed: int


class InspectedPairs(ExpectedInterval):
    """A file of pairs before any run."""

    name: str
    kind: PairKind
    pairs: int
    distinct_texts: int
    leakage: Leakage


class InspectedSearch(ExpectedInterval):
    """A set of queries before any run."""

    name: str
    queries: int
    documents: int
    relevant: int
    leakage: Leakage


class InspectionFacts(MeasuredFacts):
    """What the file holds."""

    probes: NotRequired[list[InspectedProbe]]
    probe_pairs: NotRequired[list[InspectedPairs]]
    probe_search: NotRequired[list[InspectedSearch]]
    problems: list[str]
    warnings: list[str]
    recommended: Recommended
    time: Timing | None
    seconds: float
    versions: dict[str, str]
