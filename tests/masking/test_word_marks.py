from __future__ import annotations

import numpy as np
import pytest
from small_tokenizers import tokenizer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import EsmTokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from mlm_recipes.masking.word_boundaries import word_boundaries
from mlm_recipes.masking.word_marks import WordMarks, word_marks


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", WordMarks(prefix="##")),
        ("another prefix", WordMarks(prefix="@@")),
        ("byte-level", WordMarks(space="\u0120", byte_level=True)),
        ("llama", WordMarks(space="\u0120", byte_level=True)),
        ("unigram", WordMarks(space="\u2581")),
        ("metaspace", WordMarks(space="\u2581")),
        ("gemma", WordMarks(space="\u2581")),
        ("suffix", WordMarks(suffix="</w>")),
        ("characters", WordMarks(space=" ")),
        ("k-mers", WordMarks(each=True)),
    ],
)
def test_the_marks_of_each_kind_of_tokenizer(kind, expected):
    assert word_marks(tokenizer_of(kind)) == expected


class Python(PreTrainedTokenizer):
    """A tokenizer without the tokenizers library, of a few pieces that it looks for in front of the text."""

    def __init__(self, pieces, join, **kwargs):
        self.pieces, self.join = pieces, join
        super().__init__(unk_token="<unk>", mask_token="<mask>", pad_token="<pad>", **kwargs)

    @property
    def vocab_size(self):
        return len(self.pieces)

    def get_vocab(self):
        return {piece: i for i, piece in enumerate(self.pieces)} | self.added_tokens_encoder

    def _tokenize(self, text, **kwargs):
        return text.split()

    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, self.get_vocab()["<unk>"])

    def _convert_id_to_token(self, index):
        return self.pieces[index]

    def convert_tokens_to_string(self, tokens):
        return self.join(tokens)


SPECIAL = ["<unk>", "<mask>", "<pad>"]


@pytest.mark.parametrize(
    ("pieces", "join", "begins"),
    [
        (["wa", "##ste", "no"], lambda tokens: " ".join(tokens).replace(" ##", ""), [True, False, True]),
        (["wa@@", "ste", "no"], lambda tokens: " ".join(tokens).replace("@@ ", ""), [True, False, True]),
        (["wa", "ste</w>", "no</w>"], lambda tokens: "".join(tokens).replace("</w>", " ").strip(), [True, False, True]),
        (["\u2581wa", "ste", "\u2581no"], lambda tokens: "".join(tokens).replace("\u2581", " "), [True, False, True]),
        (["wa", "ste", "no"], " ".join, [True, True, True]),
    ],
)
def test_a_tokenizer_in_python_is_asked_how_it_joins_tokens(pieces, join, begins):
    tokenizer = Python([*SPECIAL, *pieces], join)
    assert word_boundaries(tokenizer).begins(np.array([3, 4, 5]), np.array([3])).tolist() == begins


def whitespace_bpe():
    """It forgets the spaces, and marks nothing in their place."""
    learner = Tokenizer(models.BPE({"[UNK]": 0, "[MASK]": 1, "[PAD]": 2, "a": 3, "t": 4}, [], unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=learner, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]"
    )  # fmt: skip


def letters_without_spaces():
    """It drops the spaces before it divides words into letters."""
    names = ["[UNK]", "[MASK]", "[PAD]", *"abcdefghijklmnopqrst"]
    letters = Tokenizer(models.WordLevel({token: i for i, token in enumerate(names)}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=letters, unk_token="[UNK]", mask_token="[MASK]", pad_token="[PAD]"
    )  # fmt: skip


def amino_acids_of_esm(tmp_path):
    letters = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(letters))
    return EsmTokenizer(str(tmp_path / "vocab.txt"))


def test_a_tokenizer_that_marks_no_words_is_refused(tmp_path):
    for tokenizer in (
        tokenizer_of("amino acids"),
        whitespace_bpe(),
        letters_without_spaces(),
        amino_acids_of_esm(tmp_path),
        Python([*SPECIAL, "a"], "".join),
    ):
        with pytest.raises(ValueError, match=r"do not tell where a word begins.*masking_policy ngram"):
            word_marks(tokenizer)
