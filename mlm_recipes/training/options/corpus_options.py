"""`CorpusOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CorpusOptions:
    """Which text is read, and how."""

    corpus: str = field(
        default="meditations",
        metadata={
            "help": "The text to train on: a known corpus, a file (text, JSON lines, CSV, Parquet ...), "
            "a folder, a quoted pattern, an http(s) URL, - for standard input, or a hub id owner/name."
        },
    )
    text_column: str | None = field(
        default=None,
        metadata={
            "help": "The column of a table that contains the text, or a path such as data.paragraphs.context; by "
            "default it is chosen if that is clear, and the run says which."
        },
    )
    sample_by: str = field(
        default="auto",
        metadata={
            "help": "How a text file is divided into paragraphs: line (each line is one), paragraph (separated by "
            "blank lines), document (the whole file is one), or auto (paragraph if lines are wrapped, otherwise line)."
        },
    )
    encoding: str = field(default="utf-8", metadata={"help": "The encoding of text files, such as cp1252 or utf-16."})
    encoding_errors: str = field(
        default="strict",
        metadata={"help": "What to do with invalid bytes: strict (stop), or replace (replace and count them)."},
    )
    corpus_config: str | None = field(default=None, metadata={"help": "The configuration of a hub data set."})
    corpus_split: str | None = field(
        default=None, metadata={"help": "The split to train on, of a hub data set or a folder."}
    )
    corpus_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of a hub data set, so that it cannot change between runs."},
    )
    corpus_sha256: str | None = field(
        default=None,
        metadata={
            "help": "The expected SHA-256 of a corpus at an http(s) URL; a file with a different one is refused."
        },
    )
    deduplicate: str = field(
        default="none",
        metadata={
            "help": "Remove duplicate paragraphs, keeping the first: none, exact, or near (near duplicates too)."
        },
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "The share of the paragraphs that is held out and never trained on."}
    )
    max_eval_samples: int = field(
        default=2_000,
        metadata={
            "help": "The most distinct paragraphs of a text that are measured; more would hardly improve the result."
        },
    )
    validation_corpus: str | None = field(
        default=None,
        metadata={
            "help": "A text to hold out completely, named in the same ways as corpus; by default a share of the corpus."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read the text block by block while training, for a text too large to tokenize beforehand."},
    )
    stream_buffer: int = field(
        default=10_000,
        metadata={"help": "With streaming: the number of paragraphs that are held in memory and shuffled together."},
    )
    mix: dict[str, float] | str | list[str] | None = field(
        default=None,
        metadata={
            "help": "Texts to blend into training against forgetting, each with its share of the training tokens: "
            "general=0.1 (the general_corpus, of which only the other half is then measured), notes.txt=0.2 (any name "
            "as for corpus). An epoch has the whole corpus and these tokens in addition. By default none."
        },
    )
