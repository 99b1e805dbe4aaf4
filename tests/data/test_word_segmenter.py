# ruff: noqa: RUF001  (Chinese punctuation)
from __future__ import annotations

import re
from importlib.metadata import version

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from mlm_recipes import MLMConfig, MLMTrainer, tokenize
from mlm_recipes.checkpoints.value_kinds import kind
from mlm_recipes.data import word_segmenter
from mlm_recipes.data.rows import pack
from mlm_recipes.data.streams import TextStream, rows_of
from mlm_recipes.data.text_to_ids import Encoder
from mlm_recipes.data.word_segmenter import SEGMENTERS, Segmenter, WordNumbers, words_of_tokens
from mlm_recipes.masking.policies import token
from mlm_recipes.masking.policy_table import POLICIES, Policy
from mlm_recipes.sources.missing_packages import MissingPackageError

#: What the test's own segmenter knows.
KNOWN = ("研究人员", "自然语言", "处理", "论文", "改变", "模型", "北京大学", "语言", "T恤")

TEXT = (
    "今天上午，北京大学的研究人员发表了关于自然语言处理的新论文。BERT-base模型在2019年发布，"
    "don't panic! 它改变了中文信息处理的方法，他买T恤。"
)


def segment(text):
    """Divide a text into the longest known words, runs of other letters, and single characters."""
    return re.findall(rf"{'|'.join(KNOWN)}|[A-Za-z0-9]+|\s+|.", text, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def known_words(monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "known", Segmenter(segment, "numpy"))
    monkeypatch.setitem(POLICIES, "words", Policy(token.choose, "each by itself, of a word", words=True))


@pytest.fixture(scope="module")
def chinese():
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "be",
        "##rt",
        "do",
        "##n",
        "pan",
        "##ic",
        "base",
        "20",
        "##19",
    ]
    pieces += sorted({*TEXT} - {" "})
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, model_max_length=64)


def words_in(row, tokenizer):
    """Return the tokens of each word of a row, joined."""
    found: dict[int, str] = {}
    for number, index in zip(row["word_ids"], row["input_ids"], strict=True):
        found[number] = found.get(number, "") + tokenizer.convert_ids_to_tokens(int(index)).removeprefix("##")
    return found


WORDS = [
    *("今", "天", "上", "午", "，", "北京大学", "的", "研究人员", "发", "表", "了", "关", "于", "自然语言", "处理"),
    *("的", "新", "论文", "。", "bert", "-", "base", "模型", "在", "2019", "年", "发", "布", "，", "don", "'", "t"),
    *(
        "panic",
        "!",
        "它",
        "改变",
        "了",
        "中",
        "文",
        "信",
        "息",
        "处理",
        "的",
        "方",
        "法",
        "，",
        "他",
        "买",
        "t恤",
        "。",
    ),
]


def test_tokens_of_a_segmented_word_share_a_number(chinese):
    (row,) = tokenize(Dataset.from_dict({"text": [TEXT]}), chinese, 128, word_segmenter="known")
    found = words_in(row, chinese)
    assert [*found] == [-1, *range(len(WORDS))]
    assert [found[number] for number in range(len(WORDS))] == WORDS
    assert found[-1] == "[CLS][SEP]"
    assert row["word_ids"][0] == row["word_ids"][-1] == -1


def test_the_ids_are_the_same_with_and_without(chinese):
    rows = Dataset.from_dict({"text": [TEXT, "", TEXT[:20], " "]})
    plain = tokenize(rows, chinese, 24)
    segmented = tokenize(rows, chinese, 24, word_segmenter="known")
    assert plain.column_names == [name for name in segmented.column_names if name != "word_ids"]
    assert segmented.select_columns(plain.column_names)[:] == plain[:]


@pytest.mark.parametrize("values", [{"stride": 3}, {"long_text": "truncate"}, {}])
@pytest.mark.parametrize("side", ["left", "right"])
def test_windows_keep_the_words_of_their_tokens(chinese, values, side):
    whole = Encoder(chinese, 128, word_segmenter="known")([TEXT], [0]).to_pylist()[0]
    number_at = dict(enumerate(whole["word_ids"][1:-1]))
    tokens = whole["input_ids"][1:-1]
    chinese.truncation_side = side
    try:
        rows = Encoder(chinese, 14, word_segmenter="known", **values)([TEXT], [0]).to_pylist()
    finally:
        chinese.truncation_side = "right"
    assert len(rows) == 1 if "long_text" in values else len(rows) > 3
    for row in rows:
        ids, words = row["input_ids"][1:-1], row["word_ids"][1:-1]
        starts = [i for i in number_at if tokens[i : i + len(ids)] == ids]
        assert words in [[number_at[i + j] for j in range(len(ids))] for i in starts]
        assert words == sorted(words)
        assert row["word_ids"][0] == row["word_ids"][-1] == -1
    if "long_text" in values and side == "left":
        assert rows[0]["word_ids"][-2] == len(WORDS) - 1


def test_packed_rows_continue_the_numbers_and_separators_have_none(chinese):
    texts = [TEXT, "", "模型改变", TEXT[:30]]
    rows = pack(Dataset.from_dict({"text": texts}), chinese, 20, word_segmenter="known")
    plain = pack(Dataset.from_dict({"text": texts}), chinese, 20)
    assert rows["input_ids"][:] == plain["input_ids"][:]
    ids = np.concatenate([row["input_ids"][1:-1] for row in rows])
    words = np.concatenate([row["word_ids"][1:-1] for row in rows])
    assert ((words == -1) == (ids == chinese.sep_token_id)).all()
    assert (words == -1).sum() == len(texts) - 1
    numbered = words[words >= 0]
    assert (np.diff(numbered) >= 0).all()
    assert (np.diff(numbered) <= 1).all()
    parts = np.split(np.stack([ids, words]), np.flatnonzero(words == -1), axis=1)
    apart = [
        Encoder(chinese, 200, word_segmenter="known")([text], [0])["word_ids"].to_pylist()[0][1:-1] for text in texts
    ]
    for part, alone in zip(parts, apart, strict=True):
        found = part[1][part[1] >= 0]
        assert (found - found.min(initial=found[0] if len(found) else 0)).tolist() == alone


def test_streams_and_rows_on_disk_have_the_same_words(chinese):
    for packing in (False, True):
        how = {"packing": packing, "word_segmenter": "known"}
        rows = rows_of([TEXT, TEXT[9:40]], chinese, 32, **how)
        stored = word_rows(chinese, **how)
        assert [row["word_ids"].tolist() for row in rows] == stored["word_ids"][:]


def word_rows(tokenizer, packing, word_segmenter):
    data = Dataset.from_dict({"text": [TEXT, TEXT[9:40]]})
    make = pack if packing else tokenize
    return make(data, tokenizer, 32, word_segmenter=word_segmenter)


def byte_level():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: number for number, char in enumerate([*alphabet, "<mask>", "<pad>"])}
    # The last byte of 语 and the first of 言 in one token, as merges may have it.
    first, second = (
        "".join(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(c)[0][0]) for c in "语言"
    )
    merge = (first[-1], second[0])
    vocabulary["".join(merge)] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[merge]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>", pad_token="<pad>")


def test_all_bytes_of_a_word_belong_to_it():
    tokenizer = byte_level()
    text = "a 语言 模型naïve ok"
    (words,) = WordNumbers(tokenizer, "known")([text])
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert len(words) == len(pieces)
    found = dict.fromkeys(words.tolist(), "")
    for number, piece in zip(words.tolist(), pieces, strict=True):
        found[number] += piece
    assert [tokenizer.convert_tokens_to_string([*each]).strip() for each in found.values()] == [
        *("a", "语言", "模型", "naïve", "ok")
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \n ", [0, 0, 0, 0]),
        (" a  b ", [0, 0, 1, 1, 1, 2]),
        ("don't", [0, 0, 0, 1, 2]),
        ("处理ok处", [0, 0, 1, 1, 2]),
        ("处e\u0301e", [0, 1, 1, 1]),  # an accent on the letter before
        ("处\u0301理", [0, 0, 1]),  # here the segmenter does not know the word
        ("处\u0301e", [0, 0, 1]),
        ("👍🏽ok", [0, 1, 2, 2]),
        ("👍\ufe0fok", [0, 0, 1, 1]),
        ("\u0301a", [0, 0]),
        ("한국어 문장", [0, 0, 0, 1, 1, 1]),
        ("𠮷处理", [0, 1, 1]),
        ("买T恤and", [0, 1, 1, 2, 2, 2]),
    ],
)
def test_every_character_belongs_to_a_word(text, words):
    assert words_of_tokens(text, range(len(text)), segment).tolist() == words


def test_a_token_of_two_words_belongs_to_its_first_character():
    assert words_of_tokens("自然语言处理", [0, 2, 3, 5], segment).tolist() == [0, 0, 0, 1]


def test_the_cache_distinguishes_segmenters_and_their_versions(chinese, monkeypatch):
    rows = Dataset.from_dict({"text": [TEXT]})
    first = tokenize(rows, chinese, 64, word_segmenter="known")
    assert tokenize(rows, chinese, 64, word_segmenter="known")._fingerprint == first._fingerprint
    assert tokenize(rows, chinese, 64)._fingerprint != first._fingerprint
    monkeypatch.setattr(word_segmenter, "version", lambda package: version(package) + ".1")
    assert tokenize(rows, chinese, 64, word_segmenter="known")._fingerprint != first._fingerprint


@pytest.mark.slow
def test_several_processes_find_the_same_words(chinese):
    rows = Dataset.from_dict({"text": [TEXT, TEXT[9:40]]})
    one, two = (tokenize(rows, chinese, 64, num_proc=n, word_segmenter="known") for n in (1, 2))
    assert one["word_ids"][:] == two["word_ids"][:]


def test_a_segmenter_that_is_not_installed_is_named_with_its_command(chinese, monkeypatch):
    monkeypatch.setitem(SEGMENTERS, "jieba", SEGMENTERS["jieba"]._replace(package="lorem-jieba"))
    with pytest.raises(
        MissingPackageError,
        match=r"^word_segmenter: 'jieba' needs .*lorem-jieba\. Accepted: none.*pip install lorem-jieba$",
    ):
        tokenize(Dataset.from_dict({"text": [TEXT]}), chinese, word_segmenter="jieba")


def test_a_tokenizer_in_python_and_an_unknown_segmenter_are_refused(chinese):
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ValueError, match="word_segmenter: received 'known' with Slow, which does not say where"):
        WordNumbers(slow, "known")
    with pytest.raises(ValueError, match=r"word_segmenter: received 'pkuseg'. Accepted: none, jieba"):
        MLMConfig(word_segmenter="pkuseg", masking_policy="words")


def test_a_policy_that_uses_no_words_is_refused():
    with pytest.raises(
        ValueError, match=r"^word_segmenter: received 'known' with masking_policy 'token', which does not"
    ):
        MLMConfig(word_segmenter="known")
    assert MLMConfig(word_segmenter="known", masking_policy="words").rows()["word_segmenter"] == "known"


def test_a_resumed_run_cannot_change_its_segmenter():
    assert kind("word_segmenter") == "fixed"


def test_a_run_is_identified_by_its_words(chinese, tiny_bert, monkeypatch):
    def identity(rows, **values):
        args = MLMConfig(output_dir="run", use_cpu=True, masking_policy="words", word_segmenter="known", **values)
        trainer = MLMTrainer(tiny_bert, args=args, train_dataset=rows, processing_class=chinese)
        return trainer.identity()

    texts = [TEXT, TEXT[9:40]]
    for rows, values in (
        (Dataset.from_dict({"text": texts}), {}),
        (TextStream(lambda: iter(texts)), {"streaming": True, "max_steps": 1}),
    ):
        before = identity(rows, **values)
        assert identity(rows, **values) == before
        with monkeypatch.context() as changed:
            changed.setitem(SEGMENTERS, "known", Segmenter(list, "pyyaml"))
            after = identity(rows, **values)
        assert {name for name in before if before[name] != after[name]} == {"training words"}


def test_jieba_finds_the_words_of_a_paragraph(chinese):
    pytest.importorskip("rjieba")
    (row,) = tokenize(Dataset.from_dict({"text": [TEXT]}), chinese, 128, word_segmenter="jieba")
    found = words_in(row, chinese)
    assert {"北京大学", "研究", "人员", "论文", "模型", "改变", "方法", "bert", "base", "panic", "don"} <= {
        *found.values()
    }
    assert sum(len(word) > 1 for word in found.values()) > 20
    assert "".join(found[number] for number in range(len(found) - 1)) == TEXT.replace(" ", "").lower()
