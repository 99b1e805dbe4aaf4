"""metrics.json: its types, shared by writers and readers, its version, and a function that reads it.

docs/metrics.md explains the keys; docs/metrics.schema.json is generated from these types.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast, final

from .probes_file import Leakage, ProbeAlone, ProbeChange

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

#: The version of these types. A reader of version N reads files of version 0 (without a version) to N.
SCHEMA_VERSION: Literal[1] = 1

#: The prefix of the keys in `corpus` that count the files whose text was in a column; the column's name follows.
TEXT_COLUMN = "text_column: "

#: The keys in files of every version.
_ALWAYS = {"corpus", "before", "after", "train", "versions"}

Unit = Literal["paragraphs", "rows"]
Verdict = Literal["better", "worse", "no measurable change", "too few paragraphs"]
Chosen = Literal["rose most", "fell most", "at random", "yours"]
WhyUnknown = Literal["script", "letters", "symbols", "long words", "other"]
ModelSource = Literal["built in", "folder", "hub"]
PairKind = Literal["score", "match"]
WhyColumn = Literal["named", "called text", "only column", "most characters", "as the corpus"]
SplitRole = Literal["trained on", "held out", "not read"]
MeasureName = Literal[
    "loss", "perplexity", "accuracy", "top5_accuracy", "pseudo_perplexity", "loss_per_word", "loss_per_character"
]

#: A token and its probability. JSON has no tuples, so this is a list in the file and in a run's result.
TokenProbability = tuple[str, float]

#: A config value before and after a resume; also a list.
OldAndNew = tuple[object, object]


class ReadingCounts(TypedDict):
    """Counts of what was left out or repaired while reading a text."""

    blank_lines_dropped: int
    gutenberg_lines_dropped: int
    rows_without_text: int
    undecodable_replaced: int
    very_long_cut: int
    files_left_out: int


class FilesRead(TypedDict):
    """The number of files read in each way; under `text_column: NAME`, of those with the text in that column."""

    files_read_by_line: NotRequired[int]
    files_read_by_paragraph: NotRequired[int]
    files_read_by_document: NotRequired[int]


class TextOrigin(TypedDict):
    """Where a text comes from."""

    name: str
    source: str
    licence: NotRequired[str]


class TextColumn(TypedDict):
    """The column that was read, or the path to it, and the characters in other columns of strings, if counted.

    `rows_examined`: of a stream, whose rows cannot all be examined before it is chosen.
    """

    name: str
    why: WhyColumn
    characters_of_others: dict[str, int]
    rows_examined: NotRequired[int]


class Characters(TypedDict):
    """How many characters of text were read and kept, and what was left out for which reason."""

    read: int
    kept: int
    left_out: dict[str, int]


class TableCounts(TypedDict):
    """What was found out about tables; absent, if there was nothing to find out."""

    text_column: NotRequired[TextColumn]
    files_without_text: NotRequired[int]
    files_without_header: NotRequired[int]
    tables_read_as_text: NotRequired[int]


class SplitRoles(TypedDict):
    """What each split of a data set is used for, if it has splits."""

    splits: NotRequired[dict[str, SplitRole]]


class ReadText(TextOrigin, ReadingCounts, FilesRead, TableCounts, SplitRoles):
    """A text that was read completely; files of earlier versions have no `characters`."""

    fingerprint: str
    characters: NotRequired[Characters]


class ReadCorpus(ReadText):
    """A corpus that was read completely, and the separate text that is held out, if one was named."""

    validation_corpus: NotRequired[ReadText]


class SplitCounts(TypedDict):
    """How a completely read text was split, and its duplicates."""

    duplicates_dropped: int
    dropped_as_duplicate_of_validation: int
    paragraphs: int
    words: int
    duplicates: int
    train: int
    validation: int
    held_out_copies: NotRequired[int]
    held_out_not_measured: NotRequired[int]
    near_duplicates: NotRequired[int]
    near_duplicates_of_validation: NotRequired[int]


class StreamedText(TextOrigin, TableCounts, SplitRoles):
    """A text that is read as a stream; its length and its duplicates are unknown."""

    streamed: Literal[True]
    validation_corpus: NotRequired[TextOrigin]


class HeldOutParagraphs(TypedDict):
    """The number of paragraphs held out and measured, and of those that are not."""

    validation: int
    held_out_copies: NotRequired[int]
    held_out_not_measured: NotRequired[int]


class PreparedShards(TypedDict):
    """What `mlm-recipes prepare` made: the shards, and the rows and tokens to train on; the text that they were."""

    shards: int
    rows: int
    tokens: int
    fingerprint: str
    text: str


class PreparedText(TextOrigin, TableCounts, SplitRoles):
    """A text that was tokenized beforehand; its duplicates are unknown."""

    prepared: PreparedShards
    paragraphs: int
    words: int
    train: int


@final
class LoadedCorpus(ReadCorpus, SplitCounts):
    """A corpus that was read completely and split, before it is cut into rows."""


@final
class StreamedCorpus(StreamedText, HeldOutParagraphs):
    """A corpus that is read as a stream, before its held-out text is cut into rows."""


@final
class PreparedCorpus(PreparedText, HeldOutParagraphs):
    """A corpus that was tokenized beforehand, before its held-out text is cut into rows."""


class MixedText(TextOrigin):
    """An entry of `corpus.mixed`: a text that is mixed into training.

    `asked_share`: of the training tokens. `share`: what whole rows make of it, on average. `left_out`: the number of
    its paragraphs that are not mixed in, since they are measured.
    """

    fingerprint: str
    asked_share: float
    share: float
    paragraphs: int
    left_out: int
    rows: int
    rows_per_epoch: int


class CutCounts(TypedDict):
    """How a corpus was cut into rows, and the name of the general text; a stream's rows are not counted."""

    max_length: int
    cut_off_paragraphs: int | None
    cut_off_tokens: int | None
    split_paragraphs: int | None
    rows: int | None
    general: NotRequired[str]
    general_word_frequencies: NotRequired[FrequencyScores]
    general_copies: NotRequired[int]
    general_not_measured: NotRequired[int]
    mixed: NotRequired[list[MixedText]]


class LostCharacters(TypedDict):
    """The share of a text's characters that the vocabulary lacks, why it lacks most of them, and some of them."""

    characters: float
    why: WhyUnknown | None
    script: str | None
    examples: list[str]


class UnknownText(LostCharacters):
    """How much of a text is unknown to the vocabulary: how many of its `tokens`, without special ones."""

    tokens: int
    unknown_tokens: int


class FrequencyScores(TypedDict):
    """The score of guessing by the token frequencies of the training text."""

    loss: float
    accuracy: float


class RowFacts(CutCounts):
    """How a corpus was cut into rows, what of it is unknown, and the score of its token frequencies."""

    unknown: NotRequired[UnknownText]
    word_frequencies: FrequencyScores


@final
class WholeCorpusFacts(ReadCorpus, SplitCounts, RowFacts):
    """`corpus` of a text that was read completely."""


@final
class StreamedCorpusFacts(StreamedText, HeldOutParagraphs, RowFacts):
    """`corpus` of a text that was read as a stream."""


@final
class PreparedCorpusFacts(PreparedText, HeldOutParagraphs, RowFacts):
    """`corpus` of a text that was tokenized beforehand."""


CorpusFacts = WholeCorpusFacts | StreamedCorpusFacts | PreparedCorpusFacts


def with_rows(corpus: LoadedCorpus | StreamedCorpus | PreparedCorpus, rows: RowFacts) -> CorpusFacts:
    """Return what metrics.json has under `corpus`."""
    if "prepared" in corpus:
        prepared: PreparedCorpusFacts = {**corpus, **rows}
        return prepared
    if "streamed" in corpus:
        streamed: StreamedCorpusFacts = {**corpus, **rows}
        return streamed
    whole: WholeCorpusFacts = {**corpus, **rows}
    return whole


class Scores(TypedDict):
    """A model's measures on masked tokens."""

    loss: float
    perplexity: float
    accuracy: float
    top5_accuracy: float
    masked_tokens: int


class TextScores(Scores):
    """A model's measures on a text, and those on the first draw of the masks only."""

    pseudo_perplexity: float
    loss_per_word: NotRequired[float]
    loss_per_character: NotRequired[float]
    first_draw: Scores


class ModelScores(TextScores):
    """A model's measures on the held-out text, and on general English if that was measured."""

    general: NotRequired[TextScores]


class FilledPrompt(TypedDict):
    """A prompt and a model's answer to it."""

    prompt: str
    answer: str | None
    chosen: Chosen
    probability: float | None
    top: list[TokenProbability]


class ModelState(ModelScores):
    """`before` or `after`."""

    fill_mask: list[FilledPrompt]


class PseudoPerplexitySample(TypedDict):
    """The tokens that were masked one at a time."""

    tokens: int
    paragraphs: int
    share: float


class WordSample(TypedDict):
    """The words whose loss is measured, and the tokens that they are before and after training."""

    words: int
    characters: int
    paragraphs: int
    share: float
    tokens_before: int
    tokens_after: int
    fingerprint: str


class Sample(TypedDict):
    """How much of a text a model was measured on."""

    text: str
    draws: int
    masked_tokens: int
    distinct_tokens: int
    paragraphs: int
    unit: Unit
    fingerprint: str
    repeated_rows: NotRequired[int]
    pseudo_perplexity_sample: PseudoPerplexitySample


class Measure(TypedDict):
    """A measure before and after, and its change with a 95% interval."""

    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    verdict: Verdict


class GroupMeasures(TypedDict):
    """The measures of a band or a piece."""

    loss: Measure
    accuracy: Measure
    top5_accuracy: Measure


class TextMeasures(GroupMeasures):
    """The measures of a text."""

    perplexity: Measure
    pseudo_perplexity: Measure
    loss_per_word: NotRequired[Measure]
    loss_per_character: NotRequired[Measure]


class TextChange(Sample):
    """What changed on a text."""

    word_sample: NotRequired[WordSample]
    measures: TextMeasures


class Change(TypedDict):
    """`change`."""

    held_out: TextChange
    general: NotRequired[TextChange]


class Gain(TypedDict):
    """`gain`: by how much the loss fell, on how many paragraphs or rows."""

    loss: float
    low: float
    high: float
    paragraphs: NotRequired[int]
    rows: NotRequired[int]


class GroupChange(TypedDict):
    """What changed on a group of tokens."""

    masked_tokens: int
    distinct_tokens: int
    paragraphs: int
    measures: GroupMeasures


class Piece(GroupChange):
    """An entry of `pieces`."""

    name: str


# `from` is a keyword, which cannot name an attribute.
_Range = TypedDict("_Range", {"from": int, "to": "int | None"})


class Band(Piece, _Range):
    """An entry of `bands`: tokens that the training text has between `from` and `to` times."""


class WordChange(Measure):
    """What changed on a word: its loss, in nats per masked token."""

    masked_tokens: int
    paragraphs: int


class Word(WordChange):
    """An entry of `words.gained` or `words.lost`."""

    word: str
    places: int


class Words(TypedDict):
    """`words`."""

    at_least: int
    compared: int
    gained: list[Word]
    lost: list[Word]


class WhiteningFacts(TypedDict):
    """How many training texts whitening was fitted to, and the dimensions that it kept."""

    texts: int
    dimensions_before: int
    dimensions_after: int


class PairChanges(TypedDict):
    """How well similarities rank pairs, before and after; average precision if pairs match or do not."""

    spearman: Measure
    average_precision: NotRequired[Measure]


class SearchChanges(TypedDict):
    """How well similarities find documents, before and after: means over the queries."""

    ndcg_at_10: Measure
    recall_at_10: Measure


class PairProbe(TypedDict):
    """An entry of `probe_pairs`: what changed on a file of pairs, with the encoder as it is and whitened."""

    name: str
    kind: PairKind
    fingerprint: NotRequired[str]
    pairs: int
    distinct_texts: int
    leakage: Leakage
    as_is: PairChanges
    whitened: PairChanges
    whitening: WhiteningFacts


class SearchProbe(TypedDict):
    """An entry of `probe_search`: what changed on a set of queries, with the encoder as it is and whitened.

    `relevant`: the number of documents that are relevant to a query, added up.
    """

    name: str
    fingerprint: NotRequired[str]
    queries: int
    documents: int
    relevant: int
    leakage: Leakage
    as_is: SearchChanges
    whitened: SearchChanges
    whitening: WhiteningFacts


class Comparison(TypedDict):
    """Two measurements of a model and their comparison; only `before` and `after` if the comparison failed."""

    before: ModelState
    after: ModelState
    gain: NotRequired[Gain]
    change: NotRequired[Change]
    bands: NotRequired[list[Band]]
    pieces: NotRequired[list[Piece]]
    words: NotRequired[Words]
    probes: NotRequired[list[ProbeChange]]
    probe_pairs: NotRequired[list[PairProbe]]
    probe_search: NotRequired[list[SearchProbe]]


class Resumed(TypedDict):
    """A resume: the step that the run was resumed from, and the old and new values that were changed."""

    step: int
    changed: dict[str, OldAndNew]


class LoggedStep(TypedDict):
    """An entry of `train.history`."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: NotRequired[float]
    mlm_probability: NotRequired[float]  # the share of the tokens that this step masked, if that changes


class Evaluation(TypedDict):
    """An entry of `train.evaluations`."""

    step: int
    loss: float
    accuracy: float
    perplexity: float
    probe_accuracy: NotRequired[float]


class BestModel(TypedDict):
    """`train.best_model`: the best evaluation by `metric_for_best_model`, and whether its model was loaded."""

    metric: str
    value: float
    step: int
    loaded: bool


class StoppedEarly(TypedDict):
    """`train.stopped_early`: after which of how many steps, and for how many evaluations nothing had improved."""

    step: int
    of: int
    metric: str
    best: float
    best_step: int
    evaluations_since: int


class Tokens(TypedDict):
    """The tokens that training computed."""

    real: int
    padding: int


class MixedIn(TypedDict):
    """An entry of `train.mixed`: what a run read of a text that was mixed in.

    `share`: of the tokens of all rows. `times_read`: how often each of its rows was, on average.
    """

    name: str
    rows: int
    tokens: int
    share: float
    times_read: float


class Balance(TypedDict):
    """`train.balance`: how evenly the tokens of each step were divided among several processes.

    `by_length`: whether the rows were dealt by their lengths. `max_to_mean`: the tokens of the busiest process in each
    step, added up, divided by the sum of the means; `in_order`: the same if the rows had been dealt in their order.
    """

    by_length: bool
    max_to_mean: float
    in_order: float


class MachineLimit(TypedDict):
    """The rate of operations that training needed at least, and the rate that this machine reaches."""

    flops_per_second: float
    matrix_flops_per_second: float
    dtype: str


class OutOfMemory(TypedDict):
    """The parts in which micro-batches were computed after memory ran out."""

    parts: int


class Compilation(TypedDict):
    """What `torch_compile` did: the regions that were compiled (0 if a trial failed), and how long that took."""

    regions: int
    seconds: float


class RecordedGraphs(TypedDict):
    """What `cuda_graphs` recorded: how many shapes of batches, how long that took, and the memory they kept."""

    shapes: int
    seconds: float
    bytes: int


class Frozen(TypedDict):
    """What `freeze` froze: the part, how many parameters are trained, and whether the head's matrix is frozen too."""

    part: str
    parameters: int
    trained_parameters: int
    head_matrix: bool


class PeakMemory(TypedDict):
    """The peak memory of the main process."""

    bytes: int
    of: Literal["process", "gpu"]


class LoraFacts(TypedDict):
    """The adapter that was trained: its rank, its alpha, and how many linear layers it updates.

    `head`: the parts of the head that were trained whole. `merged`: whether the whole model was saved.
    """

    r: int
    alpha: float
    layers: int
    head: list[str]
    merged: bool


class Start(TypedDict):
    """What training started from."""

    command: str | None
    model: str
    random_weights: bool
    head_initialised: list[str]
    parameters: int
    trained_parameters: NotRequired[int]
    lora: NotRequired[LoraFacts]
    tokenizer: NotRequired[str | None]  # its name if it came from elsewhere; None: the model's own, or trained
    model_source: NotRequired[ModelSource]
    model_licence: NotRequired[str | None]


class Loop(TypedDict):
    """What the training loop reports."""

    recipe: Literal["train", "reference"]
    skipped_steps: NotRequired[list[int]]
    seconds: float
    steps: int
    epochs: float
    processes: int
    resumed: NotRequired[list[Resumed]]
    history: list[LoggedStep]
    evaluations: list[Evaluation]
    best_model: NotRequired[BestModel]
    stopped_early: NotRequired[StoppedEarly]
    tokens: Tokens | None
    steps_per_second: float | None
    tokens_per_second: float | None
    machine_limit: NotRequired[MachineLimit | None]
    out_of_memory: NotRequired[OutOfMemory]
    compilation: NotRequired[Compilation]
    cuda_graphs: NotRequired[RecordedGraphs]
    frozen: NotRequired[Frozen]
    head_warmup_steps: NotRequired[int]
    mixed: NotRequired[list[MixedIn]]
    balance: NotRequired[Balance]


class Measuring(TypedDict):
    """The duration of measuring, and the peak memory."""

    evaluation_seconds: float
    prompts_compared: int
    peak_memory: PeakMemory | None


class Train(Start, Loop, Measuring):
    """`train`."""


class Failure(TypedDict):
    """An entry of `not_made`."""

    what: str
    why: str


@final
class Metrics(Comparison):
    """The contents of metrics.json."""

    schema_version: Literal[1]
    corpus: CorpusFacts
    train: Train
    versions: dict[str, str]
    not_made: NotRequired[list[Failure]]


class PairScores(TypedDict):
    """How well a model's similarities rank pairs."""

    spearman: float
    average_precision: NotRequired[float]


class SearchScores(TypedDict):
    """How well a model's similarities find documents."""

    ndcg_at_10: float
    recall_at_10: float


class PairsAlone(TypedDict):
    """A file of pairs, measured without a training run."""

    name: str
    kind: PairKind
    pairs: int
    as_is: PairScores
    whitened: PairScores


class SearchAlone(TypedDict):
    """A set of queries, measured without a training run."""

    name: str
    queries: int
    documents: int
    as_is: SearchScores
    whitened: SearchScores


class EvaluatedModel(TypedDict):
    """A model that was measured."""

    model: str
    tokenizer: NotRequired[str | None]
    random_weights: bool
    head_initialised: list[str]


class ModelAlone(ModelState):
    """How a model scores on the text, without a training run."""

    draws: int
    distinct_tokens: int
    pseudo_perplexity_sample: PseudoPerplexitySample
    word_sample: NotRequired[WordSample]
    probes: NotRequired[list[ProbeAlone]]
    probe_pairs: NotRequired[list[PairsAlone]]
    probe_search: NotRequired[list[SearchAlone]]


class EvaluationFacts(EvaluatedModel, ModelAlone):
    """`evaluation`."""


@final
class EvaluationMetrics(TypedDict):
    """The metrics of `mlm-recipes evaluate`, which writes no file."""

    corpus: CorpusFacts
    evaluation: EvaluationFacts
    versions: dict[str, str]


def read(folder: str | Path, verb: str) -> Metrics:
    """Read the metrics.json of a finished run, of any version up to this library's.

    Args:
        folder: the run folder.
        verb: the command that reads it; error messages begin with it.

    A file of version 0 may lack keys that are required here. Raises: FileNotFoundError for a folder that is not a
    finished run's; ValueError if no run wrote the file, or if a later version of the library did.
    """
    for name in ("metrics.json", "recipe.yaml"):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"{verb}: {str(folder)!r} has no {name}. Accepted: the folder of a finished run, such as "
                "runs/meditations. Run `mlm-recipes train` first."
            )
    path = Path(folder) / "metrics.json"
    not_ours = ValueError(
        f"{verb}: {str(path)!r} does not hold a run's metrics. Accepted: JSON as in docs/metrics.md. "
        "Run `mlm-recipes train` again, or restore the file from a copy."
    )
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise not_ours from error
    version = metrics.get("schema_version", 0) if isinstance(metrics, dict) else None
    if not isinstance(version, int) or version < 0:
        raise not_ours
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{verb}: {str(path)!r} has schema_version {version}, so a later version of mlm-recipes wrote it. "
            f"Accepted: 0 (a file without schema_version) to {SCHEMA_VERSION}. Upgrade mlm-recipes."
        )
    if _ALWAYS - metrics.keys() or not metrics.keys() & {"gain", "not_made"}:
        raise not_ours
    return cast(Metrics, metrics)
