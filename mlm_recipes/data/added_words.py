"""Adds whole words to a tokenizer, each as one token where it stands alone, and nowhere else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from ..masking.vocabulary import number_of_ids

#: By how much a Unigram model prefers a new word to its pieces, for each character: a longer new word before a shorter.
_PREFERRED = 1e-6


@dataclass(frozen=True)
class AddedWords:
    """A tokenizer with more words.

    Attributes:
        tokenizer: the tokenizer with all words.
        pieces: for the id of each new word, the ids that the word had before.
        known: the words that were tokens already.
        kept: the ids of those new words that the model has rows for, since its own tokenizer has them.
    """

    tokenizer: Any
    pieces: dict[int, list[int]]
    known: list[str]
    kept: tuple[int, ...] = ()


def add_words(tokenizer: Any, words: Sequence[str]) -> AddedWords:
    """Add words to a tokenizer; the given one is not changed, and is returned if all words are tokens already.

    A new token replaces a word that stands alone, as the tokenizer sees it (in lower case for bert-base-uncased), and
    leaves other words as they were:

    - WordPiece: an added token of transformers, which is found as a single word only.
    - Byte-level BPE (RoBERTa, ModernBERT): an entry of the vocabulary, with the space before it. `ignore_merges` makes
      BPE look a whole word up before it merges, so no merge is added. A word without a space before it, as at the
      beginning of a text, keeps its pieces.
    - Unigram (SentencePiece): an entry that is barely likelier than the pieces together. So a longer word that was cut
      into the same pieces and others begins with the new token.

    The second and third become PreTrainedTokenizerFast: a class such as RobertaTokenizer builds its model anew when it
    is loaded, and forgets `ignore_merges` (transformers 5.23).

    Raises: ValueError for a tokenizer of another type, and for words that cannot be one token.

    >>> from mlm_recipes import load_tokenizer
    >>> added = add_words(load_tokenizer("mini"), ["Hegemonikon", "man"])
    >>> added.tokenizer.tokenize("The hegemonikon of a hegemonikons"), added.known
    (['the', 'hegemonikon', 'of', 'a', 'he', '##ge', '##mon', '##ik', '##ons'], ['man'])
    """
    add = _way_to_add(tokenizer)
    pieces_of: dict[str, list[int]] = {}
    known: list[str] = []
    before = ids_alone(tokenizer, words)
    for word, pieces in zip(words, before, strict=True):
        if len(pieces) == 1 and pieces[0] != tokenizer.unk_token_id:
            known.append(word)
        else:
            pieces_of[word] = pieces
    if not pieces_of:
        return AddedWords(tokenizer, {}, known)
    first = number_of_ids(tokenizer)
    extended = add(tokenizer, [*pieces_of])
    after = ids_alone(extended, [*pieces_of])
    unknown = tokenizer.unk_token_id
    wrong = [word for word, ids in zip(pieces_of, after, strict=True) if len(ids) != 1 or ids[0] == unknown]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"add_tokens: {', '.join(map(repr, wrong[:5]))}{more} cannot be one token, since the tokenizer always cuts "
            "there. Accepted: whole words of letters. Remove these."
        )
    found = {word: ids[0] for word, ids in zip(pieces_of, after, strict=True)}
    # A whole word of BPE's vocabulary that its merges cannot build is a token from now on, and has its row.
    known += [word for word, index in found.items() if index < first]
    return AddedWords(extended, {index: pieces_of[word] for word, index in found.items() if index >= first}, known)


def ids_alone(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    """Return the ids of each word where it stands alone within a text, after a space."""
    if not words:
        return []
    return tokenizer([f" {word}" for word in words], add_special_tokens=False, verbose=False)["input_ids"]


def _way_to_add(tokenizer: Any) -> Callable[[Any, Sequence[str]], Any]:
    """Return the function that adds words to a tokenizer of this type, or raise ValueError."""
    kind = "in Python code"
    if getattr(tokenizer, "is_fast", False):
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        kind = state["model"]["type"]
        steps = json.dumps(state["pre_tokenizer"])
        if kind == "WordPiece":
            return _add_whole_words
        if kind == "BPE" and '"ByteLevel"' in steps:
            return _add_to_bpe
        if kind == "Unigram" and '"Metaspace"' in steps:
            return _add_to_unigram
    raise ValueError(
        f"add_tokens: the tokenizer is of the type {kind}. Accepted: WordPiece (BERT), byte-level BPE (RoBERTa, "
        "ModernBERT) and Unigram (SentencePiece), which have words. Leave add_tokens out."
    )


def _add_whole_words(tokenizer: Any, words: Sequence[str]) -> Any:
    extended = copy.deepcopy(tokenizer)
    normalizer = extended.backend_tokenizer.normalizer
    spelled = [word if normalizer is None else normalizer.normalize_str(word).strip() for word in words]
    extended.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in dict.fromkeys(spelled)])
    return extended


def _spelled(tokenizer: Any, word: str) -> str:
    """Return the word as the tokenizer's model gets it: with the sign of the space before it."""
    backend = tokenizer.backend_tokenizer
    text = f" {word}" if backend.normalizer is None else backend.normalizer.normalize_str(f" {word}")
    return "".join(part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text))


def _add_to_bpe(tokenizer: Any, words: Sequence[str]) -> Any:
    def extend(model: dict[str, Any], first: int) -> None:
        model["ignore_merges"] = True
        new = dict.fromkeys(_spelled(tokenizer, word) for word in words)
        free = (spelled for spelled in new if spelled not in model["vocab"])
        model["vocab"] |= {spelled: index for index, spelled in enumerate([*free], start=first)}

    return _with_model(tokenizer, extend)


def _add_to_unigram(tokenizer: Any, words: Sequence[str]) -> Any:
    def extend(model: dict[str, Any], first: int) -> None:
        entries = model["vocab"]
        scores = {number: score for number, (_, score) in enumerate(entries)}
        lowest = min(scores.values())
        added_tokens = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
        while len(entries) < first:  # added tokens, which the model itself never sees
            entries.append([added_tokens.get(len(entries), f"<unused {len(entries)}>"), lowest])
        there = {token for token, _ in entries}
        for word, pieces in zip(words, ids_alone(tokenizer, words), strict=True):
            spelled = _spelled(tokenizer, word)
            # What upstream gives an unknown character: 10 less than the lowest score (tokenizers, unigram/model.rs).
            whole = sum(lowest - 10 if piece == tokenizer.unk_token_id else scores[piece] for piece in pieces)
            if spelled not in there:
                entries.append([spelled, whole + _PREFERRED * len(spelled)])
                there.add(spelled)

    return _with_model(tokenizer, extend)


def _with_model(tokenizer: Any, extend: Callable[[dict[str, Any], int], None]) -> Any:
    """Return a copy of a tokenizer whose model `extend` has changed; it gets the model and the first free id."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    extend(state["model"], number_of_ids(tokenizer))
    extended = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        **_special_tokens(tokenizer),
    )
    extended.name_or_path = tokenizer.name_or_path
    return extended


def _special_tokens(tokenizer: Any) -> dict[str, AddedToken]:
    """Return the tokens with a role as they are, since one that is named by its text would lose its `lstrip`."""
    there = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    return {
        role: there.get(token, token) for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
