"""Tokenizers of every kind that encoders have, each trained on a few sentences."""

from __future__ import annotations

import json
from functools import cache
from itertools import product

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mlm_recipes import train_tokenizer

TEXTS = [
    "Waste no more time arguing what a good man should be; be one, and don't wait for 1926 or 3.14.",
    "The soul becomes dyed with the colour of its thoughts (so they say): “nothing” is lost... U.S. e-mail, 50%!",
    "naïve café, Zürich's über-größte Straße, Ελλάδα и Москва",
    "人生は短い。今日は天気がいいですね。我们都是中国人\uff0c他说。",
    "한국어는 띄어쓰기를 합니다. ภาษาไทยไม่มีช่องว่าง ที่มี",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 !?$,.%-()'“” — ø ß",
]
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _wrapped(backend):
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def _bpe(pre_tokenizer, decoder=None, alphabet=(), size=420, normalizer=None, **model):
    learner = Tokenizer(models.BPE(unk_token="<unk>", **model))
    learner.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        learner.normalizer = normalizer
    if decoder is not None:
        learner.decoder = decoder
    names = {"continuing_subword_prefix": "", "end_of_word_suffix": ""} | model
    parts = {name: value for name, value in names.items() if value and name != "byte_fallback"}
    special = [*_SPECIAL, *(_BYTES if model.get("byte_fallback") else [])]
    if model.get("byte_fallback"):
        parts["limit_alphabet"] = 60
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=list(alphabet), show_progress=False,
        min_frequency=1, **parts,
    )  # fmt: skip
    learner.train_from_iterator(TEXTS, trainer)
    if model.get("byte_fallback"):  # to the library they are tokens like all others
        learner = Tokenizer.from_str(_with_bytes_as_tokens(learner.to_str()))
    return _wrapped(learner)


def _with_bytes_as_tokens(described):
    found = json.loads(described)
    found["added_tokens"] = [token for token in found["added_tokens"] if token["content"] not in _BYTES]
    return json.dumps(found)


def _byte_level():
    return _bpe(
        pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet()
    )


def _llama():
    """Its own pattern splits the text, and white space may end a piece."""
    pattern = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
    both = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return _bpe(both, decoders.ByteLevel(), pre_tokenizers.ByteLevel.alphabet())


def _unigram():
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer, learner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False, n_sub_iterations=1
    )
    learner.train_from_iterator(TEXTS, trainer)
    return _wrapped(learner)


def _gemma():
    """White space is replaced by its normalizer, and it falls back to bytes."""
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _bpe(
        pre_tokenizers.Split("▁", "merged_with_next"), decoder, size=480, byte_fallback=True, fuse_unk=True,
        normalizer=normalizers.Replace(" ", "▁"),
    )  # fmt: skip


def _wordpiece(prefix="##", pre_tokenizer=None):
    learner = Tokenizer(models.WordPiece(unk_token="<unk>", continuing_subword_prefix=prefix))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=260, special_tokens=_SPECIAL, continuing_subword_prefix=prefix, show_progress=False
    )
    learner.train_from_iterator(TEXTS, trainer)
    return _wrapped(learner)


def _characters():
    """Each character is a token, spaces too."""
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *sorted(set("".join(TEXTS)))])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return _wrapped(letters)


def _amino_acids():
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *"LAGVSERTIDPKQNFYMHWCXBUZO"])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return _wrapped(letters)


def _kmers(k=3):
    mers = ["".join(letters) for letters in product("ACGT", repeat=k)]
    words = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*_SPECIAL, *mers])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrapped(words)


_MADE = {
    "bert": lambda: train_tokenizer(TEXTS * 2, vocab_size=420),
    "wordpiece": _wordpiece,
    "another prefix": lambda: _wordpiece("@@"),
    "wordpiece, by white space": lambda: _wordpiece(pre_tokenizer=pre_tokenizers.WhitespaceSplit()),
    "byte-level": _byte_level,
    "llama": _llama,
    "unigram": _unigram,
    "metaspace": lambda: _bpe(pre_tokenizers.Metaspace(), decoders.Metaspace()),
    "gemma": _gemma,
    "suffix": lambda: _bpe(pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder("</w>"), end_of_word_suffix="</w>"),
    "characters": _characters,
    "amino acids": _amino_acids,
    "k-mers": _kmers,
}
KINDS = tuple(_MADE)


@cache
def tokenizer_of(kind):
    """Return the tokenizer of a kind, the same one each time."""
    return _MADE[kind]()
