from __future__ import annotations

import copy
import pickle
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizers import KINDS, tokenizer_of
from tokenizers import normalizers, pre_tokenizers

from mlm_recipes.masking.word_boundaries import word_boundaries

# Amino acids have no words, and of the k-mers each is one.
WITH_WORDS = [kind for kind in KINDS if kind not in ("amino acids", "k-mers")]
with_words = pytest.mark.parametrize("kind", WITH_WORDS)

_UNSPACED = r"[\u3040-\u30ff\u4e00-\u9fff\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46]"
_MARKS = r"[\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]*"
_PUNCTUATION = r"[!-/:-@\[-`{-~\u201c\u201d\u2018\u2019\u2014\u2026\u3001\u3002\uff0c]"
_WORD = re.compile(rf"{_UNSPACED}{_MARKS}|{_PUNCTUATION}{_MARKS}|(?:(?!{_UNSPACED}|{_PUNCTUATION})\S)+")


def starts_of_words(text):
    """Return where words begin in a text, by a regular expression."""
    return {found.start() for found in _WORD.finditer(text)}


def slow_begins(text, offsets, word_starts):
    """Tell which tokens begin a word by where they lie in the text: the plain version, a token at a time."""
    begins, end, after_blank = [], 0, False
    for first, last in offsets:
        visible = next((place for place in range(first, last) if not text[place].isspace()), None)
        spaced = visible is not None and any(text[place].isspace() for place in range(end, visible))
        if visible is None:
            begins.append(True)
        elif first < end:  # other bytes of the character before
            begins.append(False)
        else:
            begins.append(spaced or (visible in word_starts and not after_blank))
        after_blank = visible is None
        end = max(end, last)
    if begins:
        begins[0] = True
    return begins


def fast_begins(tokenizer, ids):
    return word_boundaries(tokenizer).begins(np.array(ids), np.array([len(ids)])).tolist()


PIECES = st.sampled_from(
    [
        *("waste", "no more", "don't", "the soul", "U.S.", "3.14", "1926", "e-mail", "50%", "$5", "GPT2", "x" * 30),
        *("naïve", "cafe\u0301", "über", "Ελλάδα", "Москва", "한국어", "人生", "中国人", "今日は", "天気", "ภาษา", "ที่"),
        *("“nothing”", "...", "!?", "(so)", "—", "。", "\uff0c", "🤗", "ø", "ß", "a", "I"),
    ]
)
SENTENCES = st.lists(st.tuples(PIECES, st.sampled_from(["", " ", " ", "  "])), min_size=1, max_size=8).map(
    lambda parts: "".join(piece + space for piece, space in parts).strip()
)


@with_words
@settings(max_examples=40)
@given(text=SENTENCES)
def test_words_are_those_of_a_regular_expression_over_the_text(kind, text):
    tokenizer = tokenizer_of(kind)
    text = unicodedata.normalize("NFC", text) if kind == "bert" else text
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, tokens = found["input_ids"], tokenizer.convert_ids_to_tokens(found["input_ids"])
    if tokenizer.unk_token_id in ids:
        return  # nobody knows what it was
    expected = slow_begins(text, found["offset_mapping"], starts_of_words(text))
    assert fast_begins(tokenizer, ids) == expected, list(zip(tokens, found["offset_mapping"], strict=True))


TEXT = "Don't stop, naïve 人生 ends in 1926!"


def words_of(tokenizer, text):
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    found = [[] for _ in range(word_boundaries(tokenizer).words(ids, np.array([len(ids)]))[-1] + 1)]
    for number, token in zip(word_boundaries(tokenizer).words(ids, np.array([len(ids)])), tokens, strict=True):
        found[number].append(token)
    return found


@pytest.mark.parametrize("kind", ["bert", "byte-level", "unigram", "metaspace"])
def test_words_are_those_of_berts_pre_tokenizer(kind, corpus):
    """On a book, where every token is within one of BERT's words or has several of them whole."""
    tokenizer = tokenizer_of(kind)
    splitter = pre_tokenizers.BertPreTokenizer()
    seen = 0
    for text in corpus["train"]["text"][:60]:
        text = normalizers.BertNormalizer(lowercase=False, strip_accents=False).normalize_str(text)
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if tokenizer.unk_token_id in found["input_ids"]:
            continue
        starts = {first for _, (first, _) in splitter.pre_tokenize_str(text)}
        begins = fast_begins(tokenizer, found["input_ids"])
        tokens = tokenizer.convert_ids_to_tokens(found["input_ids"])
        after_blank, end = False, 0
        for begin, token, (first, last) in zip(begins, tokens, found["offset_mapping"], strict=True):
            blank = not token.strip("\u0120\u2581")
            if not blank and not after_blank:
                visible = last - len(text[first:last].lstrip())
                assert begin == (visible in starts and first >= end), text[max(0, first - 9) : last + 9]
                seen += 1
            after_blank, end = blank, last
    assert seen > 2000


def test_the_words_of_each_kind_of_tokenizer():
    said = {
        kind: words_of(tokenizer_of(kind), "stop, don't") for kind in ("bert", "byte-level", "metaspace", "characters")
    }
    for kind, words in said.items():
        text = ["".join(word).replace("##", "").lstrip("Ġ▁ ") for word in words]
        assert text[:3] == ["stop", ",", "don"] or text == ["stop", ",", "don't"], (kind, words)
        assert "".join(text) == "stop,don't"


@pytest.mark.parametrize("kind", ["byte-level", "llama", "gemma"])
def test_a_character_of_several_tokens_is_one_word_and_never_a_sentence(kind):
    text = "漢漢字語"  # in no text that they were trained on
    words = words_of(tokenizer_of(kind), text)
    assert len(words) == 4
    assert max(map(len, words)) > 1


def test_a_row_that_is_cut_within_a_character_has_its_words():
    tokenizer = tokenizer_of("byte-level")
    ids = np.array(tokenizer("ok 漢x", add_special_tokens=False)["input_ids"])
    whole = word_boundaries(tokenizer).begins(ids, np.array([len(ids)]))
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    pieces = [place for place, token in enumerate(tokens) if place > 1 and token != "x"]
    assert len(pieces) > 1
    for end in pieces:
        assert (word_boundaries(tokenizer).begins(ids[:end], np.array([end])) == whole[:end]).all()
    rest = word_boundaries(tokenizer).begins(ids[pieces[-1] :], np.array([len(ids) - pieces[-1]]))
    assert rest.tolist() == [True, False]  # what is left of a character is taken for a letter


@with_words
@settings(max_examples=20)
@given(texts=st.lists(SENTENCES, min_size=1, max_size=4))
def test_a_rows_words_do_not_depend_on_its_batch(kind, texts):
    tokenizer = tokenizer_of(kind)
    rows = [tokenizer(text)["input_ids"] for text in texts]
    lengths = np.array([len(row) for row in rows])
    together = word_boundaries(tokenizer).begins(np.concatenate(rows).astype(np.int64), lengths)
    assert together.tolist() == [begin for row in rows for begin in fast_begins(tokenizer, row)]


def test_special_tokens_are_words_and_unknown_ones_are_letters():
    tokenizer = tokenizer_of("unigram")
    cls, sep, unknown, mask = (
        getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "unk", "mask")
    )  # fmt: skip
    to, comma, e = tokenizer.convert_tokens_to_ids(["▁t", ",", "e"])
    assert unknown not in (to, comma, e)
    assert fast_begins(tokenizer, [cls, e, unknown, e, mask, e, comma, e, to, unknown, sep]) == [
        *(True, True, False, False, True, True, True, True, True, False, True)
    ]


def test_added_words_are_found():
    for kind in ("bert", "byte-level", "metaspace"):
        tokenizer = copy.deepcopy(tokenizer_of(kind))
        before = word_boundaries(tokenizer)
        tokenizer.add_tokens(["zzqq"])
        assert word_boundaries(tokenizer) is not before
        words = words_of(tokenizer, "the zzqq is")
        assert [word[-1].lstrip("Ġ▁") for word in words[-2:]] == ["zzqq", words[-1][-1].lstrip("Ġ▁")], words
        assert len(words) == 3


def test_the_table_is_made_once_and_small_to_send():
    tokenizer = tokenizer_of("byte-level")
    boundaries = word_boundaries(tokenizer)
    assert word_boundaries(tokenizer) is boundaries
    assert len(pickle.dumps(boundaries)) < 10 * len(tokenizer) + 2000
    ids = np.array(tokenizer(TEXT)["input_ids"])
    sent = pickle.loads(pickle.dumps(boundaries))
    assert (sent.begins(ids, np.array([len(ids)])) == boundaries.begins(ids, np.array([len(ids)]))).all()


def test_an_id_that_the_tokenizer_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"input_ids: received 99999, and the tokenizer's largest id is"):
        fast_begins(tokenizer_of("unigram"), [5, 99999])
