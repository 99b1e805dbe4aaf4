"""Loads a model's tokenizer, or trains one on the corpus."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, tokenization_utils_tokenizers

from ..masking.vocabulary import require_mask_token, special_token_ids
from ..model.load_errors import explained
from ..model.load_report import held_back
from ..model.loading import starts_random
from ..sources import remote_code
from ..sources.adapter_folder import adapter_in
from ..sources.model_folder import model_folder
from ..sources.tokenizer_folder import hint, holds_tokenizer, require_content, tokenizer_folder
from .learned_tokenizers import SMALLEST, TYPES, check_type

logger = logging.getLogger(__name__)


def load_tokenizer(
    name: str | Path, revision: str | None = None, trust_remote_code: str | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model: a built-in name, a local folder, or a hub id with an optional `revision`.

    The folder may hold only a tokenizer. Its own code is run only if `trust_remote_code` is its name.

    Raises: ValueError if there is none, or it cannot be loaded, needs code that may not be run, or has no mask token.
    """
    found = _load(name, tokenizer_folder, revision, trust_remote_code)
    return require_mask_token(found, whose=str(name))


def load_or_train_tokenizer(name: str | Path, texts: Iterable[str] | None, **values: Any) -> PreTrainedTokenizerBase:
    """Find a run's tokenizer as `find_tokenizer` does, with the same arguments; one without a mask token is refused.

    >>> load_or_train_tokenizer("mini-random", ["to be or not to be"] * 2).tokenize("To be")
    ['to', 'be']
    """
    return require_mask_of(find_tokenizer(name, texts, **values), name, values.get("tokenizer"))


def require_mask_of(found: Any, name: str | Path, elsewhere: str | Path | None) -> PreTrainedTokenizerBase:
    """Return a run's tokenizer, or raise ValueError if it has no mask token; the message names where it comes from.

    That is `elsewhere`, or the model `name` if that is None.
    """
    return require_mask_token(found, "model" if elsewhere is None else "tokenizer", str(elsewhere or name))


def find_tokenizer(
    name: str | Path,
    texts: Iterable[str] | None,
    *,
    from_scratch: bool = False,
    vocab_size: int = 8192,
    tokenizer_type: str = "wordpiece",
    kmer_length: int = 6,
    revision: str | None = None,
    trust_remote_code: str | None = None,
    tokenizer: str | Path | None = None,
    tokenizer_revision: str | None = None,
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a run that starts from the model `name`, even one without a mask token.

    It is `tokenizer` (a built-in name, a folder or a hub id) if that is given, and otherwise the model's own. For
    random weights without a `tokenizer`, one is trained on `texts`; trained weights never get a new vocabulary, since
    each id would then mean another word than the one it was learned for.

    Raises: ValueError for trained weights without a tokenizer; if one has to be trained and `texts` is None; for a
    `tokenizer_type` if none is trained; and as `load_tokenizer` and `train_tokenizer`.
    """
    if tokenizer_type != "wordpiece" and (tokenizer is not None or not starts_random(name, from_scratch)):
        whose = (
            f"the tokenizer {str(tokenizer)!r} is given"
            if tokenizer is not None
            else (f"{str(name)!r} has trained weights, which belong to its own tokenizer")
        )
        raise ValueError(
            f"tokenizer_type: received {tokenizer_type!r}, and {whose}. Accepted: a type for random weights without a "
            "--tokenizer, which learn their tokenizer from the text. Pass --tokenizer_type wordpiece or --from_scratch."
        )
    if tokenizer is not None:
        trusted = remote_code.trust_in(str(tokenizer), trust_remote_code, str(name))
        return _load(tokenizer, tokenizer_folder, tokenizer_revision, trusted)
    if tokenizer_revision is not None:
        raise ValueError(
            f"tokenizer_revision: received {tokenizer_revision!r} without a tokenizer. Accepted: a branch, a tag or a "
            "commit together with a hub id. Pass --tokenizer NAME, or leave it out; --model_revision is the model's."
        )
    if not starts_random(name, from_scratch):
        return _load(name, model_folder, revision, trust_remote_code)
    if texts is None:
        raise ValueError(
            f"tokenizer: received None, and {str(name)!r} has no tokenizer, nor is there text to train one on. "
            "Accepted: a folder or a hub id. Pass --tokenizer NAME; in Python, a train_dataset with `text`, or "
            "processing_class=train_tokenizer(texts)."
        )
    return train_tokenizer(texts, vocab_size, _positions(name, revision), tokenizer_type, kmer_length)


def own_tokenizer(
    name: str | Path,
    other: Any,
    *,
    from_scratch: bool = False,
    revision: str | None = None,
    trust_remote_code: str | None = None,
) -> Any:
    """Return the tokenizer that the trained model `name` has, if `other` comes from elsewhere; None if it has no own.

    One that cannot be loaded is reported, and counts as none.
    """
    if starts_random(name, from_scratch):
        return None
    folder = model_folder(name, revision)
    if not holds_tokenizer(folder) or str(folder) == other.name_or_path:
        return None
    try:
        return _load(name, model_folder, revision, trust_remote_code)
    except ValueError as error:
        logger.warning("Which words the model has rows for is unknown, since its own tokenizer is no help: %s", error)
        return None


def _positions(name: str | Path, revision: str | None) -> int:
    """Return the most tokens that a model has positions for, rounded down, since some begin with the third."""
    folder = model_folder(name, revision)
    if (adapter := adapter_in(folder, str(name))) is not None and not (folder / "config.json").exists():
        return _positions(adapter.base, adapter.revision)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return int(config.get("max_position_embeddings") or 512) // 8 * 8 or 512


def _load(
    name: str | Path, find: Callable[..., Path], revision: str | None, trust_remote_code: str | None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer in the folder that `find` returns: `model_folder`, or `tokenizer_folder` for one by itself."""
    what = "model" if find is model_folder else "tokenizer"
    trusted = remote_code.is_trusted(str(name), trust_remote_code)
    folder = find(name, revision, with_code=trusted)
    code = remote_code.arguments(str(name), folder, trust_remote_code, what)
    if not holds_tokenizer(folder):
        if (adapter := adapter_in(folder, str(name))) is not None and adapter.base != str(name):
            return _load(adapter.base, find, adapter.revision, trust_remote_code)
        raise _no_vocabulary(what, name, folder)
    require_content(folder, name)
    try:
        # What it falls back to does not read the file either; the error names what does.
        with (
            explained(name, folder, "tokenizer", option=what),
            held_back(tokenization_utils_tokenizers.logger, "Falling back"),
        ):
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, **code)
    except ValueError as error:
        if not trusted and "trust_remote_code" in str(error.__cause__):
            raise remote_code.refusal(str(name), what) from error
        raise
    # Without a file that holds a vocabulary, transformers (5.23) makes a tokenizer of the special tokens only.
    if not set(tokenizer.get_vocab().values()) - set(special_token_ids(tokenizer).tolist()):
        raise _no_vocabulary(what, name, folder)
    return tokenizer


def _no_vocabulary(what: str, name: str | Path, folder: Path) -> ValueError:
    if what == "tokenizer":
        return ValueError(
            f"tokenizer: {str(name)!r} holds no vocabulary ({folder}). Accepted: a folder or a hub id with a "
            "tokenizer.json, or with the vocabulary that its tokenizer_config.json describes. Name another."
        )
    return ValueError(
        f"model: {str(name)!r} has trained weights and no tokenizer ({folder}). Accepted: weights together with the "
        "tokenizer that they were trained with; with a new vocabulary, which only random weights (--from_scratch) get, "
        f"each id would mean another word. Name it, a folder or a hub id: --tokenizer {hint(name, folder)}."
    )


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a tokenizer's vocabulary and special tokens, 16 hexadecimal digits; the same after it is saved.

    >>> vocabulary_fingerprint(train_tokenizer(["to be"] * 2)) == vocabulary_fingerprint(train_tokenizer(["to be"] * 3))
    True
    """
    vocabulary = sorted(tokenizer.get_vocab().items())
    content = json.dumps([vocabulary, sorted(tokenizer.special_tokens_map.items())])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int = 8192,
    model_max_length: int = 512,
    tokenizer_type: str = "wordpiece",
    kmer_length: int = 6,
) -> PreTrainedTokenizerBase:
    """Train a tokenizer, by default lower-casing WordPiece (BERT; Devlin et al. 2019) with BERT's id layout.

    Args:
        texts: the training split only; otherwise held-out text leaks into the vocabulary.
        vocab_size: size of the vocabulary, at least 200 for WordPiece. A small text gives fewer tokens, since a piece
            must occur twice; a text with more different characters than this gets a token for each.
        model_max_length: the most tokens that the model takes, which the tokenizer's files record.
        tokenizer_type: wordpiece, bpe (of bytes, as RoBERTa's), unigram (as SentencePiece's), character or kmer
            (`mlm_recipes.data.learned_tokenizers`).
        kmer_length: the number of letters of a k-mer.

    The first ids of WordPiece are [PAD]=0, [unused0]..[unused98]=1..99, [UNK]=100, [CLS]=101, [SEP]=102, [MASK]=103.
    The same texts give exactly the same tokenizer in every process.

    Raises: ValueError for a `vocab_size` that is too small for the type, an unknown type, or a `kmer_length` that is
    not 1 to 12.

    >>> tokenizer = train_tokenizer(["the soul takes the colour of the thoughts"] * 2, vocab_size=200)
    >>> tokenizer("The soul")["input_ids"][::3], tokenizer.mask_token_id
    ([101, 102], 103)
    >>> train_tokenizer(["GATTACA"], tokenizer_type="kmer", kmer_length=3).tokenize("ATTAC")
    ['ATT', 'TTA', 'TAC']
    """
    check_type(tokenizer_type, kmer_length)
    if vocab_size < SMALLEST[tokenizer_type]:
        why = {
            "wordpiece": "the first 104 ids are BERT's special and unused tokens",
            "bpe": "256 are single bytes",
        }.get(tokenizer_type, "5 are special tokens")
        raise ValueError(
            f"vocab_size: received {vocab_size}. Accepted for {tokenizer_type}: {SMALLEST[tokenizer_type]} or more "
            f"({why}); 8192 suits a book, 30522 is bert-base-uncased's."
        )
    if isinstance(texts, Iterator):
        texts = list(texts)  # it is read twice
    more = {"kmer_length": kmer_length} if tokenizer_type == "kmer" else {}
    return TYPES[tokenizer_type](texts, vocab_size, model_max_length, **more)
