"""`corpus`: the text that was read, how it was split and cut into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict, final

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on

#: The prefix of the keys in `corpus` that count the files whose text was in a column; the column's name follows.
TEXT_COLUMN = "text_column: "
WhyUnknown = Literal["script", "letters", "symbols", "long words", "other"]
WhyColumn = Literal["named", "called text", "only column", "most characters", "as the corpus"]
SplitRole = Literal["trained on", "held out", "not read"]


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
