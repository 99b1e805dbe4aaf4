from __future__ import annotations

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mlm_recipes import train_tokenizer
from mlm_recipes.evaluation.word_pieces import WordPieces

TEXT = "he walked, walking slowly (very) slowly to market-town; no walker walks unhurriedly"


def bpe(pre_tokenizer, decoder, alphabet, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    tokenizer.train_from_iterator(
        [TEXT] * 3, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_level():
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), alphabet, 290)


def sentencepiece():
    return bpe(pre_tokenizers.Metaspace(), decoders.Metaspace(), [], 60)


@pytest.mark.parametrize("make", [lambda: train_tokenizer([TEXT], vocab_size=200), byte_level, sentencepiece])
def test_every_word_is_joined_from_its_pieces(make):
    tokenizer = make()
    # SentencePiece's pieces may span punctuation, and then belong to no word.
    text = " ".join(re.findall(r"\w+", TEXT)) if make is sentencepiece else TEXT
    pieces = WordPieces(tokenizer)
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    begins = pieces.begin(ids)
    words = [pieces.word_at(ids, begins, position) for position in np.flatnonzero(begins)]
    expected = [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]
    assert [word for word in words if word.isalnum()] == [word for word in expected if word.isalnum()]
    assert len(ids) > len(words)  # some word has several pieces
    for position in range(len(ids)):
        start = np.flatnonzero(begins[: position + 1])[-1]
        assert pieces.word_at(ids, begins, position) == words[int(begins[: start + 1].sum()) - 1]
