"""The plan of a prepared corpus: what all processes that prepare it have in common, and what a shard says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from ..metrics_file import SplitRole, TextColumn
from .prepared_files import FORMAT, PLAN, VERSION, read_json, unreadable

if TYPE_CHECKING:
    from typing_extensions import NotRequired  # in `typing` from Python 3.11 on


class WrittenFile(TypedDict):
    """The size and the hash of a file."""

    bytes: int
    sha256: str


class RowRules(TypedDict):
    """How paragraphs became rows: the values of MLMConfig with these names."""

    max_length: int
    packing: bool
    long_text: str
    stride: int
    word_segmenter: str


class PreparedFrom(TypedDict):
    """The text: where it comes from, and the names and sizes of its files, as a hash."""

    name: str
    source: str
    licence: NotRequired[str]
    text_column: NotRequired[TextColumn]
    splits: NotRequired[dict[str, SplitRole]]
    files: int
    files_sha256: str
    reading: dict[str, Any]


class PreparedTokenizer(TypedDict):
    """The tokenizer: whose it is, what identifies its vocabulary and what it makes of the held-out text, its files."""

    model: str
    tokens: int
    vocabulary: str
    held_out_rows: str
    files: dict[str, WrittenFile]


class HeldOutText(TypedDict):
    """The paragraphs that are measured, and not trained on."""

    paragraphs: int
    copies: int
    not_measured: int
    fraction: float
    at_most: int
    seed: int
    corpus: str | None
    file: WrittenFile


class Plan(TypedDict):
    """What all processes that prepare a corpus have in common."""

    format: str
    version: int
    shares: int
    dealt: Literal["whole", "files", "paragraphs"]
    shard_characters: int
    corpus: PreparedFrom
    tokenizer: PreparedTokenizer
    rows: RowRules
    held_out: HeldOutText


class Shard(TypedDict):
    """What is in a shard.

    `read`: how many of its share's paragraphs are before its end, held-out ones among them. `token_counts`: how often
    each id occurs, without special tokens; not in the index, which has the sum.
    """

    file: str
    bytes: int
    sha256: str
    read: int
    paragraphs: int
    words: int
    rows: int
    tokens: int
    longest: int
    cut_off_paragraphs: int
    cut_off_tokens: int
    split_paragraphs: int
    token_counts: NotRequired[list[int]]


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a folder, or None if there is none. Raises: ValueError for one that cannot be read."""
    if not (folder / PLAN).exists():
        return None
    return plan_in(read_json(folder / PLAN), folder / PLAN)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Yield what differs between two plans, for a message.

    >>> list(differences({"rows": {"max_length": 128}}, {"rows": {"max_length": 64}}))
    ['rows.max_length was 128 and is now 64']
    """
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from differences(before, now, f"{prefix}{name}.")
        elif before != now:
            yield f"{prefix}{name} was {before!r} and is now {now!r}"


def plan_in(content: Any, path: str | Path) -> Plan:
    """Return the plan that a file contains; `path` is its name, for messages.

    Raises: ValueError for another version, and for what is none.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise unreadable(path, "it has no plan")
    if content.get("version") != VERSION:
        raise ValueError(
            f"corpus: {str(path)!r} is of version {content.get('version')!r}. Accepted: version {VERSION}. Prepare the "
            "corpus again with this mlm-recipes, or install the one that it was prepared with."
        )
    require_entries(Plan, content, path)
    parts = {"corpus": PreparedFrom, "tokenizer": PreparedTokenizer, "rows": RowRules, "held_out": HeldOutText}
    for name, kind in parts.items():
        require_entries(kind, content[name], path)
    return cast(Plan, content)


def require_entries(kind: Any, value: Any, path: str | Path) -> None:
    """Raise ValueError if an object lacks an entry that its type has."""
    # Not __required_keys__: annotations are strings here, which TypedDict does not look into.
    required = {name for name, of in kind.__annotations__.items() if "NotRequired" not in str(of)}
    lacking = sorted(required - (value.keys() if isinstance(value, Mapping) else set()))
    if lacking:
        raise unreadable(path, f"something lacks {', '.join(lacking)}")
