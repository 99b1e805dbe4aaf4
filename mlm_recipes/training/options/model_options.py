"""`ModelOptions`: a group of the values of MLMConfig."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelOptions:
    """Which model and tokenizer a run starts from, and how text becomes rows."""

    model: str = field(
        default="mini", metadata={"help": "A built-in model, a local folder, or a hub id of a masked-language model."}
    )
    model_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of a hub model, so that it cannot change between runs."},
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "A tokenizer from elsewhere: a folder, or a hub id. By default the model's own; for random "
            "weights, one that is trained on the corpus."
        },
    )
    tokenizer_revision: str | None = field(
        default=None,
        metadata={"help": "A branch, tag or commit of the tokenizer's hub id, so that it cannot change between runs."},
    )
    trust_remote_code: str | None = field(
        default=None,
        metadata={
            "help": "The name of the only model (or tokenizer) whose own code may be run; a recipe cannot set it."
        },
    )
    from_scratch: bool = field(
        default=False,
        metadata={
            "help": "Start from random weights in the model's shape, and train a tokenizer on the corpus unless one is "
            "given."
        },
    )
    vocab_size: int = field(
        default=8192, metadata={"help": "The largest vocabulary of a tokenizer that is trained on the corpus."}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "The most tokens in a row; by default 512, or the number of the model's positions if that is lower."
        },
    )
    long_text: str = field(
        default="split",
        metadata={
            "help": "What to do with a paragraph longer than max_length: split it into rows at the ends of sentences, "
            "or truncate it (as in the tutorial)."
        },
    )
    stride: int = field(
        default=0,
        metadata={"help": "The number of tokens that a row of a split paragraph repeats from the row before it."},
    )
    num_proc: int | None = field(
        default=None, metadata={"help": "The number of processes that tokenize; by default one."}
    )
    packing: bool = field(
        default=False,
        metadata={
            "help": "Join paragraphs end to end and split them into rows of max_length tokens; no text is discarded."
        },
    )
    extend_positions: int | None = field(
        default=None,
        metadata={
            "help": "Give the model positions for rows of this many tokens, more than it was trained on, and make rows "
            "that long unless max_length is set. By default the model's own, since a longer row costs more memory and "
            "needs training on long text."
        },
    )
    tokenizer_type: str = field(
        default="wordpiece",
        metadata={
            "help": "For random weights, the type of the tokenizer that is trained on the corpus: wordpiece (as "
            "BERT's, lower case), bpe (of bytes, as RoBERTa's and ModernBERT's), unigram (as SentencePiece's), "
            "character or kmer (overlapping, as DNABERT's). WordPiece suits a little English text."
        },
    )
    kmer_length: int = field(
        default=6,
        metadata={"help": "With tokenizer_type kmer: the number of letters of a k-mer; 6 is DNABERT's choice."},
    )
    add_tokens: None | str | list[str] = field(  # noqa: RUF036  # transformers reads the types in this order
        default=None,
        metadata={
            "help": "Words that become one token each: a file that ends in .txt, with one word per line (`mlm-recipes "
            "vocab` proposes one), or the words themselves. Their rows start as the mean of their pieces' rows."
        },
    )
    train_new_tokens_first: int | None = field(
        default=None,
        metadata={
            "help": "With add_tokens: the number of steps at the beginning in which only the rows of these words are "
            "trained; by default none."
        },
    )
