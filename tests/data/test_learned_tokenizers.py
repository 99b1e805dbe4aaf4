"""Every type of tokenizer that a run can learn: saved, pickled, exact word by word, the same in every process."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, RobertaConfig

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.checkpoints.tokenizer_files import use_known_class
from mlm_recipes.data.kmers import overlapping
from mlm_recipes.data.learned_tokenizers import TYPES
from mlm_recipes.data.tokenizer import find_tokenizer, vocabulary_fingerprint
from mlm_recipes.data.word_cache import TokenIds

WORDS = ["the soul is dyed with the colour of its thoughts; 人心 is the soul's", "Not to be, or to be: that is it"] * 9
SEQUENCES = ["GATTACAGATTACAGGCATN", "acgtnnacgtACGTTTGACA", "ACG TTTTTTTTTAGG"]
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SPECIAL = st.lists(st.sampled_from(["soul", " ", "<mask>", "[MASK]", "</s>"]), max_size=8).map("".join)
KNOWN = st.text(st.sampled_from("the soul is dyed;'N"), max_size=30)


@cache
def learned(kind):
    return train_tokenizer(SEQUENCES if kind == "kmer" else WORDS, 5000, tokenizer_type=kind, kmer_length=3)


def body(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", TYPES)
def test_it_is_the_same_after_it_is_saved_and_pickled(kind, tmp_path):
    tokenizer, texts = learned(kind), [*WORDS[:2], *SEQUENCES, "\u00e9 <mask> [MASK]\n\tx"]
    tokenizer.save_pretrained(tmp_path)
    use_known_class(tmp_path)
    for model in ("bert", "roberta", "modernbert"):  # AutoTokenizer must not take the model's own class instead
        (tmp_path / "config.json").write_text(f'{{"model_type": "{model}"}}')
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
        assert vocabulary_fingerprint(loaded) == vocabulary_fingerprint(tokenizer)
    assert pickle.loads(pickle.dumps(tokenizer))(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    ids = tokenizer(texts[0])["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.mask_token_id in tokenizer(f"a {tokenizer.mask_token}")["input_ids"]


@pytest.mark.parametrize("kind", TYPES)
@given(texts=st.lists(st.one_of(ANY, KNOWN, st.text("ACGTN acg", max_size=30), SPECIAL), max_size=4))
@settings(max_examples=60)
def test_word_by_word_equals_whole_texts(kind, texts):
    tokenizer = learned(kind)
    assert [ids.tolist() for ids in TokenIds(tokenizer)(texts)] == [body(tokenizer, text) for text in texts]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_mask_includes_the_space_before_it_as_a_word_does(kind):
    tokenizer = learned(kind)
    expected = [*body(tokenizer, "the"), tokenizer.mask_token_id, *body(tokenizer, " soul")]
    assert body(tokenizer, "the <mask> soul") == expected


@given(ANY)
@settings(max_examples=200)
def test_byte_level_bpe_loses_nothing_of_any_text(text):
    tokenizer = learned("bpe")
    ids = body(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


@given(KNOWN)
def test_known_characters_survive(text):
    assert learned("character").decode(body(learned("character"), text)) == text
    squeezed = " ".join(text.split(" ")) if "  " not in text else None
    if squeezed is not None and text == text.strip():
        assert learned("unigram").decode(body(learned("unigram"), text)) == text


def test_each_character_is_a_token_and_a_new_one_is_unknown():
    tokenizer = learned("character")
    assert tokenizer.tokenize("z 人心 soul") == ["[UNK]", "\u2581", "人", "心", "\u2581", *"soul"]
    assert len(train_tokenizer(WORDS, 9, tokenizer_type="character")) == 9


def test_a_unigram_vocabulary_without_room_for_all_characters_is_refused_with_the_number():
    texts = ["".join(map(chr, range(0x4E00, 0x4E00 + 90))) + " \uff21 A"] * 2  # a wide A is an A
    said = r"vocab_size: received 60 .* 92 different characters\. Accepted: 97 or more\."
    with pytest.raises(ValueError, match=said):
        train_tokenizer(texts, 60, tokenizer_type="unigram")
    tokenizer = train_tokenizer(texts, 97, tokenizer_type="unigram")
    assert len(tokenizer) == 97
    assert tokenizer.unk_token_id not in body(tokenizer, texts[0])


@given(st.text("ACGT", max_size=40), st.integers(1, 7))
@settings(max_examples=100)
def test_kmers_are_all_overlapping_ones(sequence, k):
    expected = [sequence[i : i + k] for i in range(len(sequence) - k + 1)] or [sequence] * bool(sequence)
    assert overlapping("ACGT", k).normalize_str(sequence.lower()).split() == expected


def test_all_kmers_of_dna_are_in_the_vocabulary_if_they_fit():
    tokenizer = train_tokenizer(["GATTACA"], 4101, tokenizer_type="kmer")
    assert len(tokenizer) == 4101
    assert tokenizer.unk_token_id not in body(tokenizer, "CCCCCCGGGGGG")
    assert len(train_tokenizer(["GATTACA"], 4100, tokenizer_type="kmer")) == 7
    assert train_tokenizer(["MKVL"], 100, tokenizer_type="kmer", kmer_length=2).tokenize("mkvlX") == [
        "MK",
        "KV",
        "VL",
        "[UNK]",
    ]
    with pytest.raises(ValueError, match="no letter from A to Z"):
        train_tokenizer(["12 人"], tokenizer_type="kmer")


SCRIPT = """
import hashlib
from mlm_recipes import load_corpus, train_tokenizer
texts = load_corpus("meditations")["train"]["text"][:150]
for kind in ("bpe", "unigram", "character", "kmer"):
    learned = train_tokenizer(texts, 700, tokenizer_type=kind, kmer_length=2)
    print(hashlib.sha256(learned.backend_tokenizer.to_str().encode()).hexdigest())
"""


@pytest.mark.slow  # a process that imports transformers
def test_every_process_learns_the_same(corpus):
    texts = corpus["train"]["text"][:150]
    mine = [
        hashlib.sha256(
            train_tokenizer(texts, 700, tokenizer_type=kind, kmer_length=2).backend_tokenizer.to_str().encode()
        ).hexdigest()
        for kind in ("bpe", "unigram", "character", "kmer")
    ]
    found = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == mine


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_roberta_trains_with_it_and_its_positions_begin_after_the_padding(kind, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    RobertaConfig(**size, max_position_embeddings=66, type_vocab_size=1).save_pretrained("shape")
    args = MLMConfig(
        output_dir=str(tmp_path), from_scratch=True, tokenizer_type=kind, vocab_size=400, max_steps=1, use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = MLMTrainer("shape", args, train_dataset=[*WORDS, "soul " * 200])
    tokenizer, config = trainer.processing_class, trainer.model.config
    ends = (config.bos_token_id, config.eos_token_id, config.pad_token_id, config.vocab_size)
    assert ends == (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, len(tokenizer))
    assert trainer.padding_free
    trainer.train()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tokenizer_type": "sentencepiece"}, "tokenizer_type: received 'sentencepiece'. Accepted: wordpiece, bpe"),
        ({"kmer_length": 0}, "kmer_length: received 0. Accepted: 1 to 12"),
    ],
)
def test_what_cannot_be_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(**values)
    with pytest.raises(ValueError, match=says):
        train_tokenizer(WORDS, **values)


def test_trained_weights_learn_no_tokenizer():
    with pytest.raises(ValueError, match="'mini' has trained weights"):
        find_tokenizer("mini", WORDS, tokenizer_type="bpe")
    with pytest.raises(ValueError, match=r"vocab_size: received 200\. Accepted for bpe: 300"):
        find_tokenizer("mini-random", WORDS, tokenizer_type="bpe", vocab_size=200)
