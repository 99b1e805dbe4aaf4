"""`inspect`, compared with figures computed by hand, by enumeration or with the parts of a real run."""

from __future__ import annotations

import copy
import itertools
import json
import logging.handlers
import queue
import shlex
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_bert
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertModel, BertTokenizer

from mlm_recipes import cli, evaluate, inspect_corpus, load_corpus
from mlm_recipes.data.text_statistics import expected_positions
from mlm_recipes.recipes import inspection, inspection_facts
from mlm_recipes.recipes.arguments import parse_arguments
from mlm_recipes.report import inspection_page

LINES = ["the soul is dyed by thoughts", "the soul", "by thoughts", "the zebra", "thoughts", "THE  Soul"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six paragraphs, one held out, and a model with a small vocabulary."""
    folder = tmp_path_factory.mktemp("small")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "soul", "is", "dyed", "by", "thought", "##s"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder / "model")
    make_bert(tokenizer, max_position_embeddings=16).save_pretrained(folder / "model")
    (folder / "text.txt").write_text("\n".join(LINES) + "\n")
    (folder / "held_out.txt").write_text("is dyed\n")
    return {
        "model": str(folder / "model"),
        "corpus": str(folder / "text.txt"),
        "validation_corpus": str(folder / "held_out.txt"),
        "max_length": 8,
        "long_text": "truncate",
        "per_device_train_batch_size": 2,
        "mlm_probability": 0.5,
    }


@pytest.fixture(scope="module")
def facts(small):
    return inspect_corpus(timing=False, **small).facts


def parts(found):
    assert found["ratio"] == (found["sum"] / found["count"] if found["count"] else 0.0)
    return found["sum"], found["count"]


def test_tokens_and_lengths_of_the_whole_text(facts):
    # With [CLS] and [SEP]: 9, 4, 5, 4, 4, 4 for training; 4 held out.
    lengths = facts["lengths"]
    assert (facts["corpus"]["paragraphs"], facts["corpus"]["words"]) == (7, 17)
    assert (lengths["tokens"], lengths["tokens_with_special"]) == (20, 34)
    assert (lengths["median"], lengths["longest"], lengths["longest_begins"]) == (4, 9, LINES[0])
    assert lengths["histogram"] == [
        {"from": 1, "to": 8, "paragraphs": 6, "tokens": 25},
        {"from": 9, "to": 16, "paragraphs": 1, "tokens": 9},
    ]


def test_pieces_of_words_and_unknown_words(facts):
    words = facts["words"]
    assert parts(words["pieces_per_word"]) == (20, 17)  # "thought ##s", three times
    assert parts(words["broken"]) == (3, 17)
    assert words["most_fragmented"] == [{"word": "thoughts", "count": 3, "pieces": ["thought", "##s"]}]
    assert words["most_unknown"] == [{"word": "zebra", "count": 1}]
    assert parts(facts["unknown"]) == (1, 20)
    assert (words["counted"], words["sample"]) == (17, False)


def test_cut_off_tokens_are_counted(facts):
    assert facts["longer_than_max_length"] == {"paragraphs": 1, "tokens": 1}
    assert facts["cut_off"]["paragraphs"] == 1
    assert parts(facts["cut_off"]["tokens"]) == (1, 34)
    assert facts["rows"] == {"train": 6, "validation": 1, "train_tokens": 29}


def test_padding(facts):
    padding = facts["padding"]
    assert parts(padding["max_length"]) == (6 * 8 - 29, 6 * 8)
    # Of the 15 pairs of 8, 5, 4, 4, 4, 4 the longest is 8 in five, 5 in four, 4 in six; an epoch has three pairs.
    positions = 3 * 2 * (5 * 8 + 4 * 5 + 6 * 4) / 15
    assert padding["longest"]["count"] == pytest.approx(positions)
    assert padding["longest"]["sum"] == pytest.approx(positions - 29)
    assert parts(padding["padding_free"]) == (0, 29)
    assert padding["run"] == "padding_free"


def test_rows_that_are_never_masked(facts):
    # Maskable after the cut: 6, 2, 3, 1 (zebra is unknown), 2, 2.
    nothing = facts["masking"]["rows_without_a_mask"]
    assert nothing["sum"] == pytest.approx(0.5**6 + 3 * 0.25 + 0.125 + 0.5)
    assert nothing["count"] == 6
    assert parts(facts["masking"]["rows_below_three_maskable"]) == (4, 6)


def test_rows_that_a_policy_of_words_does_not_mask_are_counted(small):
    found = inspect_corpus(timing=False, **small | {"masking_policy": "whole_word", "mlm_probability": 1e-9})
    assert found.facts["masking"]["masking_policy"] == "whole_word"
    assert parts(found.facts["masking"]["rows_without_a_mask"]) == (6, 6)
    assert "6.0 rows of the first epoch have no masked token, at mlm_probability 1e-09 by whole_word" in " ".join(
        str(found).split()
    )
    all_masked = inspect_corpus(timing=False, **small | {"masking_policy": "exact_count", "mlm_probability": 1.0})
    assert parts(all_masked.facts["masking"]["rows_without_a_mask"]) == (0, 6)


def test_duplicates_and_held_out_copies(facts, small, tmp_path):
    assert facts["duplicates"] == {
        "exact": 1,
        "near": 0,
        "dropped_as_duplicate_of_validation": 0,
        "near_duplicates_of_validation": 0,
    }
    (tmp_path / "soul.txt").write_text("The soul\n")
    found = inspect_corpus(timing=False, **small | {"validation_corpus": "soul.txt"})
    assert found.facts["duplicates"] == facts["duplicates"] | {"exact": 0, "dropped_as_duplicate_of_validation": 2}
    assert found.facts["rows"]["train"] == 4
    assert "also held out 2 copies of held-out paragraphs; dropped" in " ".join(str(found).split())


@pytest.mark.slow
def test_the_share_without_a_mask_matches_the_collator(checkpoint, short_text):
    """They agree over 400 epochs of short rows, within five standard deviations."""
    lines = [" ".join(line.split()[:3]) for line in short_text.read_text().splitlines()]
    Path("short.txt").write_text("\n".join(lines) + "\n")
    subject = inspection_facts.Subject.of(
        inspection.read_config("adapt", {"model": str(checkpoint), "corpus": "short.txt", "mlm_probability": 0.2})
    )
    expected = inspection_facts.row_facts(subject)["masking"]["rows_without_a_mask"]
    collate, rows = subject.collator(), inspection_facts.tokenize(subject.corpus["train"], subject.tokenizer, 512)
    epochs = 400
    seen = sum(
        int((collate([row | {"epoch": epoch} for row in rows])["labels"] == -100).all(1).sum())
        for epoch in range(epochs)
    )
    assert 0.2 < expected["ratio"] < 0.6
    assert abs(seen / epochs - expected["sum"]) < 5 * (expected["count"] * 0.25 / epochs) ** 0.5


def test_with_a_schedule_the_share_without_a_mask_is_that_of_the_run(small):
    step = {"mlm_probability": 0.5, "mlm_probability_schedule": "step", "mlm_probability_end": 0.3}
    fixed, falling, short = (
        inspect_corpus(timing=False, **small | changes)
        for changes in ({"mlm_probability": 0.3}, step, step | {"max_steps": 1})
    )
    low, high = (inspect_corpus(timing=False, **small | {"mlm_probability": share}).facts for share in (0.3, 0.5))
    found = falling.facts["masking"]
    expected = sum(each["masking"]["rows_without_a_mask"]["sum"] for each in (low, high)) / 2
    assert found["rows_without_a_mask"]["sum"] == pytest.approx(expected)
    assert found["schedule"] == "50%, 30%, in phases of equal length"
    assert short.facts["masking"]["schedule"] == "50%"
    assert "schedule" not in fixed.facts["masking"]
    said = "on average over the run, with this share of the tokens masked: 50%, 30%, in phases of equal length"
    assert said in " ".join(str(falling).split())


@pytest.mark.slow
def test_held_out_masked_tokens_equal_those_of_the_evaluation(checkpoint, short_text):
    values = {"model": str(checkpoint), "corpus": str(short_text)}
    found = inspect_corpus(timing=False, **values).facts["masking"]["held_out_masked_tokens"]
    assert found == evaluate(**values).metrics["evaluation"]["first_draw"]["masked_tokens"]
    assert (
        found == inspect_corpus(timing=False, padding="max_length", **values).facts["masking"]["held_out_masked_tokens"]
    )


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 7))
def test_expected_padding_equals_the_mean_over_all_orders(lengths, batch):
    def positions(order):
        batches = [order[i : i + batch] for i in range(0, len(order), batch)]
        return sum(len(part) * max(part) for part in batches)

    every = [positions(order) for order in itertools.permutations(lengths)]
    assert expected_positions(np.array(lengths), batch) == pytest.approx(sum(every) / len(every))


def test_expected_padding_is_finite_for_a_large_text():
    lengths = np.arange(1, 1_000_001)
    longest = 1_000_001 * 32 / 33  # (n + 1) B / (B + 1), the known result for the numbers from 1 to n
    assert expected_positions(lengths, 32) == pytest.approx(1e6 * longest, rel=1e-6)


def test_packed_rows_lose_nothing(small):
    found = inspect_corpus(timing=False, packing=True, **small).facts
    assert found["longer_than_max_length"]["paragraphs"] == 1
    assert found["cut_off"]["tokens"]["sum"] == 0
    assert found["rows"]["train_tokens"] == 18 + 5 + 2 * found["rows"]["train"]  # five [SEP]s between paragraphs


def test_a_large_text_is_sampled_and_the_page_reports_it(small, monkeypatch):
    monkeypatch.setattr("mlm_recipes.data.text_statistics._TOKENS", 7)
    found = inspect_corpus(timing=False, **small)
    # Every third paragraph: the first and the fourth, and the one held out.
    assert found.facts["words"]["counted"] == 6 + 2 + 2
    assert "(a sample of 10)" in str(found)


# The model


def test_a_complete_model_has_no_problems(facts):
    model = facts["model"]
    assert (model["vocabulary"], model["embeddings"], model["max_positions"], model["mask_token"]) == (
        12, 12, 16, "[MASK]",
    )  # fmt: skip
    assert (model["missing_weights"], model["random_weights"], facts["problems"]) == ([], False, [])


def test_a_checkpoint_without_a_head(tokenizer, short_text, tmp_path):
    said = queue.SimpleQueue()
    listener = logging.handlers.QueueHandler(said)
    logging.getLogger("transformers").addHandler(listener)
    BertModel(make_bert(tokenizer).config).save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    found = inspect_corpus(model=str(tmp_path / "headless"), corpus=str(short_text), timing=False)
    logging.getLogger("transformers").removeHandler(listener)
    missing = found.facts["model"]["missing_weights"]
    assert "cls.predictions.transform.dense.weight" in missing
    assert all(name.startswith("cls.") for name in missing)
    assert found.facts["model"]["missing_in_encoder"] == 0
    assert found.ok
    page = " ".join(str(found).split())
    assert "the checkpoint has no trained masked-language-modelling head" in page
    assert f"{len(missing)} weights start from random values" in page
    assert said.empty()  # not transformers' report of missing weights, since the page lists them


def test_a_checkpoint_without_parts_of_its_encoder(checkpoint, short_text, tmp_path):
    make_bert(cut := AutoTokenizer.from_pretrained(checkpoint)).save_pretrained(tmp_path / "torn")
    cut.save_pretrained(tmp_path / "torn")
    weights = load_file(tmp_path / "torn/model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "torn/model.safetensors", metadata={"format": "pt"})
    found = inspect_corpus(model=str(tmp_path / "torn"), corpus=str(short_text), timing=False)
    assert found.facts["model"]["missing_in_encoder"] == 1
    assert "parts of the model itself are not in the checkpoint" in " ".join(str(found).split())


def test_a_tokenizer_without_a_mask_token_is_a_problem(tokenizer, short_text, tmp_path, capsys):
    maskless = copy.deepcopy(tokenizer)
    maskless.mask_token = None
    maskless.save_pretrained(tmp_path / "maskless")
    make_bert(tokenizer).save_pretrained(tmp_path / "maskless")
    capsys.readouterr()
    assert cli.main(["inspect", str(short_text), "--model", str(tmp_path / "maskless")]) == 1
    captured = capsys.readouterr()
    page = " ".join(captured.out.split())
    assert "Cannot train: model: the tokenizer of" in page
    assert "has no mask token" in page
    assert "mask token none" in page
    assert "Recommended" not in page
    assert captured.err == ""
    written = json.loads(Path("runs/notes-inspection.json").read_text())
    assert written["corpus"]["paragraphs"] == 60  # the text is still measured
    assert written["time"] is None


def test_more_tokens_than_embeddings_is_a_problem(tokenizer, short_text, tmp_path):
    make_bert(tokenizer, vocab_size=len(tokenizer) - 1).save_pretrained(tmp_path / "narrow")
    tokenizer.save_pretrained(tmp_path / "narrow")
    found = inspect_corpus(model=str(tmp_path / "narrow"), corpus=str(short_text))
    assert not found.ok
    assert f"has {len(tokenizer) - 1} token embeddings" in found.facts["problems"][0]


def test_random_weights_with_little_text_give_a_warning(short_text):
    found = inspect_corpus(model="mini-random", corpus=str(short_text), vocab_size=500, timing=False)
    assert found.facts["model"]["random_weights"]
    assert (found.facts["recommended"]["recipe"], found.facts["recommended"]["model"]) == ("quickstart", "mini")


def _recommended_command(found):
    shown = str(found)
    words = shlex.split(shown[shown.rindex(" train ") :].split("\n\n")[0].replace("\\\n", " "))
    return words[1], parse_arguments(words[2:])


def test_the_recommended_command_has_the_vocabulary_that_was_inspected(short_text, tokenizer, tmp_path):
    make_bert(tokenizer).save_pretrained(tmp_path / "only weights")
    tokenizer.save_pretrained(tmp_path / "words")
    (tmp_path / "mine.txt").write_text("zzone\nzztwo\n", "utf-8")
    vocabulary = {"tokenizer": str(tmp_path / "words"), "add_tokens": str(tmp_path / "mine.txt")}
    values = {"model": str(tmp_path / "only weights"), "corpus": str(short_text), **vocabulary, "extend_positions": 256}
    recipe, found = _recommended_command(inspect_corpus(timing=False, **values))
    assert recipe == "adapt"
    assert found.items() >= values.items()
    recipe, found = _recommended_command(inspect_corpus(timing=False, **values | {"add_tokens": ["zzone", "zztwo"]}))
    assert found["add_tokens"] == ["zzone", "zztwo"]


def test_a_model_of_words_is_not_recommended_for_kmers(tmp_path):
    (tmp_path / "dna.txt").write_text("\n".join(["GATTACAGATTACAGATTACA", "CCGGTTAACCGGTTAACCGG"] * 20), "utf-8")
    kmers = {"tokenizer_type": "kmer", "kmer_length": 3, "masking_policy": "ngram"}
    values = {"corpus": str(tmp_path / "dna.txt"), "model": "mini-random", **kmers}
    recipe, found = _recommended_command(inspect_corpus("pretrain", timing=False, **values))
    assert recipe == "pretrain"
    assert found.items() >= values.items()


def test_held_out_text_with_nothing_to_mask_is_a_problem(small, tmp_path):
    (tmp_path / "unknown.txt").write_text("zebra zebra\n")
    found = inspect_corpus(timing=False, **small | {"validation_corpus": "unknown.txt"})
    assert found.facts["masking"]["held_out_masked_tokens"] == 0
    assert "nothing of the held-out text is in the vocabulary" in found.facts["problems"][0]


# Recommendations


@pytest.mark.slow
def test_wrapped_lines_are_recognised(checkpoint):
    text = (ROOT / "mlm_recipes/bundled/corpora/meditations.txt").read_text("utf-8").splitlines()[:80]
    Path("whole.txt").write_text("\n".join(text), encoding="utf-8")
    Path("wrapped.txt").write_text("\n".join(line for part in text for line in textwrap.wrap(part, 72)), "utf-8")
    verse = Path("wrapped.txt").read_text("utf-8").splitlines()
    Path("verse.txt").write_text("\n".join(line[:1].upper() + line[1:] for line in verse), "utf-8")
    for name, wrapped in (("whole.txt", False), ("wrapped.txt", True), ("verse.txt", False)):
        found = inspect_corpus(corpus=name, model=str(checkpoint), timing=False).facts["warnings"]
        assert any("look like wrapped lines" in warning for warning in found) == wrapped, name


def test_short_paragraphs_and_few_masks_give_warnings(small, tmp_path):
    (tmp_path / "short.txt").write_text("the soul\nby thoughts\nthe thought\nis dyed\n")
    values = small | {"corpus": "short.txt", "validation_corpus": None}
    found = inspect_corpus(timing=False, **values).facts
    short = found["masking"]["rows_below_three_maskable"]["sum"]
    assert short == sum(line != "by thoughts" for line in load_corpus("short.txt")["train"]["text"])
    assert any("fewer than three tokens" in warning or "Every row is" in warning for warning in found["warnings"])
    assert any("a meaningful interval needs at least 200" in warning for warning in found["warnings"])
    (tmp_path / "shorter.txt").write_text("the soul\nthe thought\nis dyed\n")
    found = inspect_corpus(timing=False, **values | {"corpus": "shorter.txt"}).facts
    assert found["warnings"][0].startswith("Every row is shorter than three tokens")


@pytest.mark.slow
def test_a_normal_text_has_no_warnings():
    found = inspect_corpus(corpus="meditations", timing=False)
    assert (found.facts["warnings"], found.ok) == ([], True)
    assert found.facts["recommended"]["max_length"] == 256


@pytest.mark.slow
def test_the_warning_about_cut_off_text_names_the_next_step(checkpoint):
    values = {"corpus": "meditations", "model": str(checkpoint), "timing": False, "long_text": "truncate"}
    found = inspect_corpus(**values, max_length=64).facts["warnings"]
    assert any(
        "cut off at 64. Raise --max_length (this model takes up to 128), or pass --long_text split" in w for w in found
    )
    found = inspect_corpus(**values).facts["warnings"]
    assert any("cut off at 128. Pass --long_text split" in warning for warning in found)


def test_split_text_is_not_cut_off(small):
    found = inspect_corpus(timing=False, **small | {"long_text": "split"})
    assert found.facts["cut_off"] == {"paragraphs": 0, "tokens": {"sum": 0, "count": 36, "ratio": 0.0}}
    assert found.facts["rows"]["train"] == 7
    assert "they are split at the ends of sentences" in " ".join(str(found).split())
    assert not any("cut off" in warning for warning in found.facts["warnings"])


# The page and the file


def test_every_ratio_is_a_sum_and_a_count_divided_once(facts):
    found = []

    def look(value):
        if isinstance(value, dict):
            if "ratio" in value:
                found.append(parts(value))
            for inner in value.values():
                look(inner)

    look(facts)
    assert len(found) >= 11


@pytest.mark.parametrize("columns", [72, 80, 110])
def test_the_page_fits_the_terminal(facts, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    page = inspection.InspectionResult(facts | {"time": None})
    lines = str(page).splitlines()
    before_command = lines[: next(i for i, line in enumerate(lines) if " train " in line and line.endswith("\\"))]
    assert max(len(line) for line in before_command) <= columns
    assert all(line == line.rstrip() for line in lines)


def test_counts_unknown_to_the_page_are_shown(facts):
    corpus = facts["corpus"] | {"lines_joined": 1234, "nothing_replaced": 0}
    corpus["validation_corpus"] = {"name": "other", "blank_lines_dropped": 5}
    page = " ".join(inspection_page.page(facts | {"corpus": corpus}).split())
    assert "while reading 1,234 lines joined" in page
    assert "while reading 5 validation corpus: blank lines dropped" in page
    assert "nothing replaced" not in page


def test_the_command_line_prints_a_page_and_writes_the_file(checkpoint, short_text, capsys):
    arguments = ["inspect", str(short_text), "--model", str(checkpoint), "--recipe", "adapt", "--max_length", "32"]
    assert cli.main([*arguments, "--no_timing"]) == 0
    shown = capsys.readouterr().out
    assert "All figures are in runs/notes-inspection.json" in shown
    assert "train adapt" in shown
    written = json.loads(Path("runs/notes-inspection.json").read_text())
    assert (written["recipe"]["max_length"], written["recipe"]["name"], written["time"]) == (32, "adapt", None)
    assert [path.name for path in Path("runs").iterdir()] == ["notes-inspection.json"]
    assert cli.main([*arguments, "--max_length=16"]) == 0  # an earlier inspection is replaced
    written = json.loads(Path("runs/notes-inspection.json").read_text())
    assert written["recipe"]["max_length"] == 16
    assert written["time"]["seconds_an_epoch"] > 0


@pytest.mark.parametrize("content", ["{}", "[1]", "my notes", '{"written_by": "me"}'])
def test_a_file_that_is_not_an_inspection_is_never_replaced(content, checkpoint, short_text, monkeypatch, capsys):
    Path("mine.json").write_text(content)
    arguments = ["inspect", str(short_text), "--model", str(checkpoint), "--no_timing", "--output"]
    with monkeypatch.context() as patch:
        patch.setattr(inspection, "inspect_corpus", None)  # it is refused before anything is computed
        assert cli.main([*arguments, "mine.json"]) == 2
        assert cli.main([*arguments, "."]) == 2
    assert "'mine.json' already exists and is not an inspection" in capsys.readouterr().err
    Path("runs").mkdir()
    Path("runs/notes-inspection.json").write_text(content)
    assert cli.main(arguments[:-1]) == 2
    assert Path("mine.json").read_text() == Path("runs/notes-inspection.json").read_text() == content


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.txt"], "there is no file or folder 'missing.txt'"),
        (["--corpus", "meditation"], "Did you mean 'meditations'?"),
        (["meditations", "--corpus", "meditations"], "corpus: received 'meditations' and --corpus"),
        (["meditations", "--model", "minni"], "Did you mean 'mini'?"),
        (["meditations", "--max_length", "2000"], "max_length: received 2000. Accepted: 3 to 1024"),
        (["meditations", "quickstart"], "quickstart: received without a flag"),
    ],
)
def test_a_refusal_is_one_line(arguments, says, capsys, tmp_path):
    assert cli.main(["inspect", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("mlm-recipes: error: ")
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err
    assert list(tmp_path.iterdir()) == []


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr("mlm_recipes.training.config.MLMConfig.world_size", 2)
    with pytest.raises(ValueError, match="inspect: received 2 processes"):
        inspect_corpus("quickstart")


def test_help_lists_the_arguments(capsys):
    assert cli.main(["inspect", "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in ("[CORPUS]", "--recipe", "--output FILE", "--no_timing", "--mlm_probability"):
        assert flag in shown


def test_a_stream_is_inspected_as_a_whole(small, caplog):
    with caplog.at_level("INFO", "mlm_recipes"):
        found = inspect_corpus(**small | {"streaming": True})  # timed too
    assert "streaming is left out: all of the text is read" in caplog.text
    assert found.ok
