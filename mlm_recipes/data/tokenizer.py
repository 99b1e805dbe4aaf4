"""Loads a model's tokenizer, or trains one on the corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

from ..sources import remote_code
from ..sources.model_folder import model_folder

# BERT's own ids, 0 and 100 to 103: code that was written for bert-base-uncased works with a tokenizer trained here.
_FIRST_IDS = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def has_tokenizer(name: str | Path, revision: str | None = None) -> bool:
    """Tell whether a model comes with a tokenizer; `mini-random` does not, so one is trained on each corpus.

    >>> has_tokenizer("mini"), has_tokenizer("mini-random")
    (True, False)
    """
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "*.model", "*.codes")
    return any(any(model_folder(name, revision).glob(file)) for file in files)


def load_tokenizer(
    name: str | Path, revision: str | None = None, trust_remote_code: str | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model: a built-in name, a local folder, or a hub id with an optional `revision`.

    The model's own code is run only if `trust_remote_code` is the model's name.

    Raises: ValueError if there is none, or it cannot be loaded, needs code that may not be run, or has no mask token.
    """
    return require_mask_token(load_any_tokenizer(name, revision, trust_remote_code), name)


def load_any_tokenizer(
    name: str | Path, revision: str | None = None, trust_remote_code: str | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer as `load_tokenizer` does, even one without a mask token."""
    if not has_tokenizer(name, revision):
        raise ValueError(
            f"model: {str(name)!r} has no tokenizer. Accepted: a model saved together with its tokenizer. "
            "Train one with train_tokenizer(texts), or pass processing_class=."
        )
    trusted = remote_code.is_trusted(str(name), trust_remote_code)
    folder = model_folder(name, revision, with_code=trusted)
    code = remote_code.loading(str(name), folder, trust_remote_code)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **code)
    except ValueError as error:
        if not trusted and "trust_remote_code" in str(error):
            raise remote_code.refusal(str(name)) from error
        raise
    return tokenizer


def load_or_train_tokenizer(
    name: str | Path,
    texts: Iterable[str] | None,
    *,
    from_scratch: bool = False,
    vocab_size: int = 8192,
    revision: str | None = None,
    trust_remote_code: str | None = None,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, or train one on `texts` if the model has none or starts `from_scratch`.

    Raises: ValueError if one has to be trained and `texts` is None; and as `load_tokenizer`.

    >>> load_or_train_tokenizer("mini-random", ["to be or not to be"] * 2).tokenize("To be")
    ['to', 'be']
    """
    if has_tokenizer(name, revision) and not from_scratch:
        return load_tokenizer(name, revision, trust_remote_code)
    if texts is None:
        raise ValueError(
            f"processing_class: received None, and {str(name)!r} has no tokenizer. Accepted: a tokenizer, or "
            "a train_dataset with `text` to train one on. Pass processing_class=train_tokenizer(texts)."
        )
    return train_tokenizer(texts, vocab_size, _positions(name, revision))


def _positions(name: str | Path, revision: str | None) -> int:
    """Return the most tokens that a model has positions for, rounded down, since some begin with the third."""
    config = json.loads((model_folder(name, revision) / "config.json").read_text("utf-8"))
    return int(config.get("max_position_embeddings") or 512) // 8 * 8 or 512


def require_mask_token(tokenizer: PreTrainedTokenizerBase, name: str | Path = "") -> PreTrainedTokenizerBase:
    """Return `tokenizer`, or raise ValueError if it has no mask token."""
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"model: the tokenizer of {str(name or tokenizer.name_or_path)!r} has no mask token, so it cannot mask. "
            "Accepted: an encoder made for masked language modelling (BERT, RoBERTa, ModernBERT, ...), not a decoder "
            "such as GPT-2. Choose such a model, or give the tokenizer a mask_token."
        )
    return tokenizer


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 8192, model_max_length: int = 512
) -> PreTrainedTokenizerBase:
    """Train a lower-casing WordPiece tokenizer (BERT; Devlin et al. 2019) with BERT's id layout.

    Args:
        texts: the training split only; otherwise held-out text leaks into the vocabulary.
        vocab_size: size of the vocabulary, at least 200. A small text gives fewer tokens, since a piece must occur
            twice; a text with more different characters than this gets a token for each.
        model_max_length: the most tokens that the model takes, which the tokenizer's files record.

    The first ids are [PAD]=0, [unused0]..[unused98]=1..99, [UNK]=100, [CLS]=101, [SEP]=102, [MASK]=103. The same texts
    give exactly the same tokenizer in every process.

    Raises: ValueError for a `vocab_size` below 200.

    >>> tokenizer = train_tokenizer(["the soul takes the colour of the thoughts"] * 2, vocab_size=200)
    >>> tokenizer("The soul")["input_ids"][::3], tokenizer.mask_token_id
    ([101, 102], 103)
    """
    if vocab_size < 200:
        raise ValueError(
            f"vocab_size: received {vocab_size}. Accepted: 200 or more (the first 104 ids are BERT's special and "
            "unused tokens); 8192 suits a book, 30522 is bert-base-uncased's."
        )
    if isinstance(texts, Iterator):
        texts = list(texts)  # it is read twice
    normalizer = normalizers.BertNormalizer(lowercase=True)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers the word-internal characters ("##a") in the order of a hash table, which differs between runs,
    # and breaks ties between merges by these numbers, so the same text would give a different vocabulary each time.
    # Passing these tokens in a fixed order, as if they were special, prevents that.
    # Upstream: tokenizers, trainers/bpe.rs, `tokenize_words` iterating over a HashMap.
    inner: set[str] = set()
    for text in texts:
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)):
            inner.update(word[1:])
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=[*_FIRST_IDS, *(f"##{char}" for char in sorted(inner))],
            show_progress=False,
        ),
    )
    # ModernBERT, the architecture of `mini`, has no segment embeddings, so it takes no token_type_ids.
    return BertTokenizer(
        vocab=learner.get_vocab(),
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=model_max_length,
    )
