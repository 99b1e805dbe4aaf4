"""The types of tokenizers that a run from random weights can learn from its text, each by the tokenizers library."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from . import kmers

# BERT's own ids, 0 and 100 to 103: code that was written for bert-base-uncased works with a tokenizer trained here.
_FIRST_IDS = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

#: RoBERTa's names in its order. The position of RoBERTa's first token is the padding token's id plus one, so its usual
#: 514 positions hold 512 tokens.
_ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}

#: DNABERT's, which are BERT's without unused ones.
_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

#: SentencePiece's sign for a space.
_SPACE = "\u2581"


def _special_tokens() -> list[AddedToken]:
    """Return RoBERTa's special tokens; the mask includes the space before it, as words do."""
    return [AddedToken(token, lstrip=role == "mask", special=True) for role, token in _ROBERTA.items()]


def wordpiece(texts: Sequence[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerBase:
    """Learn lower-case WordPiece in BERT's layout of ids (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""
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
    learner = Tokenizer(models.WordPiece(unk_token=_BERT["unk"]))
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


def byte_level_bpe(texts: Sequence[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerBase:
    """Learn byte-level BPE as RoBERTa's and ModernBERT's (Radford et al. 2019): no text is unknown, none is changed."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=_special_tokens(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return _fast(learner, _ROBERTA, model_max_length)


def _too_few(vocab_size: int, letters: set[str]) -> ValueError:
    needed = len((letters | {_SPACE}) - {" "})
    return ValueError(
        f"vocab_size: received {vocab_size} for a unigram tokenizer, which has a token for each of the text's "
        f"{needed:,} different characters. Accepted: {needed + len(_ROBERTA):,} or more. Raise it, or pass "
        f"--tokenizer_type bpe, for which {SMALLEST['bpe']} is enough."
    )


def unigram(texts: Sequence[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerBase:
    """Learn a Unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959) with SentencePiece's normalisation.

    As XLM-R's: NFKC, several spaces count as one, and a character that the text lacks is unknown.

    Raises: ValueError if there are more different characters than `vocab_size`.
    """
    learner = Tokenizer(models.Unigram())
    learner.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=_special_tokens(),
        unk_token=_ROBERTA["unk"],
        show_progress=False,
    )
    try:
        learner.train_from_iterator(texts, trainer)
    except Exception as error:  # tokenizers raises nothing more exact
        if "not large enough to contain all chars" not in str(error):
            raise
        letters = {letter for text in texts for letter in learner.normalizer.normalize_str(text)}
        raise _too_few(vocab_size, letters) from error
    learned = json.loads(learner.to_str())["model"]["vocab"][len(_ROBERTA) :]
    special = [(token, 0.0) for token in _ROBERTA.values()]
    unknown = [*_ROBERTA].index("unk")
    learner.model = models.Unigram([*special, *_in_fixed_order(learned)], unk_id=unknown, byte_fallback=False)
    learner.decoder = decoders.Metaspace()
    return _fast(learner, _ROBERTA, model_max_length)


#: By how much the trainer's scores of two characters that it adds at the end differ.
_BETWEEN_ADDED = 1e-4


def _in_fixed_order(learned: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return a learned vocabulary so that it is the same in every process: sorted, with scores to six decimals.

    The trainer adds up probabilities in the order of a hash table, which differs between runs. So do the sums, in their
    last digits. Characters that got no score are added at the end of it, one _BETWEEN_ADDED above the other, in that
    order too (upstream: tokenizers, trainers/unigram.rs, `finalize`).
    """
    lowest = min((score for _, score in learned), default=0.0)

    def was_added(token: str, score: float) -> bool:
        steps = (score - lowest) / _BETWEEN_ADDED
        return len(token) == 1 and steps < len(learned) and abs(steps - round(steps)) < 1e-3

    added = sorted(token for token, score in learned if was_added(token, score))
    scores = dict(learned) | {token: lowest + number * _BETWEEN_ADDED for number, token in enumerate(added)}
    rounded = {token: round(score, 6) for token, score in scores.items()}
    return sorted(rounded.items(), key=lambda item: (-item[1], item[0]))


def character(texts: Sequence[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerBase:
    """Make every character of the text a token, the space included; at most `vocab_size`, the most frequent ones."""
    counts = Counter(char for text in texts for char in text.replace(" ", _SPACE))
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: vocab_size - len(_BERT)]
    learner = _word_level([char for char, _ in common])
    learner.normalizer = normalizers.Replace(" ", _SPACE)
    learner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    learner.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse()])
    return _fast(learner, _BERT, model_max_length)


def kmer(texts: Sequence[str], vocab_size: int, model_max_length: int, kmer_length: int) -> PreTrainedTokenizerBase:
    """Make every k-mer of DNA or other sequences a token, overlapping as DNABERT's (`mlm_recipes.data.kmers`)."""
    letters = kmers.letters_of(texts)
    normalizer = kmers.overlapping(letters, kmer_length)
    learner = _word_level(kmers.vocabulary_of(texts, normalizer, letters, kmer_length, vocab_size - len(_BERT)))
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _fast(learner, _BERT, model_max_length)


def _word_level(tokens: Sequence[str]) -> Tokenizer:
    every = dict.fromkeys([*_BERT.values(), *tokens])
    return Tokenizer(models.WordLevel({token: number for number, token in enumerate(every)}, unk_token=_BERT["unk"]))


def _fast(learner: Tokenizer, names: dict[str, str], model_max_length: int) -> PreTrainedTokenizerBase:
    """Return one of transformers' tokenizers that puts a special token before a text and after it."""
    before, after = names["cls"], names["sep"]
    between = f"{after} {after}" if names is _ROBERTA else after
    learner.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}",
        pair=f"{before} $A {between} $B {after}",
        special_tokens=[(token, learner.token_to_id(token)) for token in (before, after)],
    )
    named: dict[str, Any] = {f"{role}_token": token for role, token in names.items()}
    if names is _ROBERTA:
        named |= {"bos_token": before, "eos_token": after, "mask_token": _special_tokens()[-1]}
    return PreTrainedTokenizerFast(
        tokenizer_object=learner,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
        **named,
    )


#: How each type is learned; `kmer` also takes the length of a k-mer.
TYPES: dict[str, Callable[..., PreTrainedTokenizerBase]] = {
    "wordpiece": wordpiece,
    "bpe": byte_level_bpe,
    "unigram": unigram,
    "character": character,
    "kmer": kmer,
}

#: The smallest vocabulary of each type: its special tokens, and what it needs besides.
SMALLEST = {"wordpiece": 200, "bpe": 300, "unigram": 50, "character": 6, "kmer": 6}


def check_type(tokenizer_type: str, kmer_length: int) -> None:
    """Raise ValueError for an unknown type of tokenizer, or a length of k-mers that cannot be."""
    if tokenizer_type not in TYPES:
        raise ValueError(
            f"tokenizer_type: received {tokenizer_type!r}. Accepted: {', '.join(TYPES)}. Leave it out for the "
            "default, wordpiece."
        )
    if not 1 <= kmer_length <= kmers.LONGEST:
        raise ValueError(
            f"kmer_length: received {kmer_length}. Accepted: 1 to {kmers.LONGEST}. DNABERT's models have 3 to 6; leave "
            "it out for 6."
        )
