"""A held-out paragraph is measured once, however often the text repeats it."""

from __future__ import annotations

import pytest

from mlm_recipes import evaluate, load_corpus
from mlm_recipes.data.copies import measured_once
from mlm_recipes.data.corpus_name import Reading, resolve
from mlm_recipes.data.paragraphs import read_paragraphs

WORDS = ["patient", "doctor", "court", "judge", "ship", "captain", "river", "engine", "contract", "clause"]
WORDS += ["cell", "market", "price", "child", "teacher"]
PROSE = [f"The {a} sees the {b} and a {WORDS[(i + j) % 15]}." for i, a in enumerate(WORDS) for j, b in enumerate(WORDS)]


def write(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def notice(tmp_path):
    """A line that is held out when it stands in the prose once."""
    lines = (f"Confidential notice {'x' * i}: this message is for the addressee only." for i in range(300))
    return next(
        line
        for line in lines
        if line
        in load_corpus(write(tmp_path / "once.txt", *PROSE, line), count_near_duplicates=False)["validation"]["text"]
    )


def test_a_line_that_repeats_is_held_out_with_its_copies_and_measured_once(tmp_path, notice):
    once = load_corpus(write(tmp_path / "once.txt", *PROSE, notice))
    copies = [notice, notice.upper(), f"  {notice.replace(' ', '   ')}", f"{notice} "] * 100
    often = load_corpus(write(tmp_path / "often.txt", *PROSE, *copies))
    assert often["validation"]["text"][:] == once["validation"]["text"][:]
    assert often["train"]["text"][:] == once["train"]["text"][:]
    facts = often.facts
    assert (facts["held_out_copies"], facts["duplicates"], facts["held_out_not_measured"]) == (399, 399, 0)
    assert facts["train"] + facts["validation"] + facts["held_out_copies"] == facts["paragraphs"] == len(PROSE) + 400
    assert (once.facts["held_out_copies"], once.facts["validation"]) == (0, facts["validation"])


def test_paragraphs_that_differ_in_numbers_are_no_copies(tmp_path):
    rows = [f"Report {n} was read." for n in range(300)]
    corpus = load_corpus(write(tmp_path / "reports.txt", *rows))
    assert (len(corpus["validation"]), corpus.facts["held_out_copies"]) == (30, 0)


def test_a_text_without_copies_is_split_as_ever(corpus):
    assert corpus.facts["held_out_copies"] == 0
    assert sorted(corpus["validation"]["example_id"][:])[:5] == [12, 24, 30, 32, 35]


def test_a_separate_text_is_measured_once_and_up_to_the_limit(tmp_path):
    held_out = [*PROSE[:40], *[PROSE[3]] * 500, PROSE[4].lower()]
    values = {"validation_corpus": write(tmp_path / "other.txt", *held_out)}
    text = write(tmp_path / "text.txt", *PROSE[20:])
    corpus = load_corpus(text, **values)
    assert corpus["validation"]["text"][:] == PROSE[:40]
    assert (corpus.facts["held_out_copies"], corpus.facts["held_out_not_measured"]) == (501, 0)
    fewer = load_corpus(text, **values, max_eval_samples=10)
    assert len(fewer["validation"]) == 10
    assert fewer.facts["held_out_not_measured"] == 30
    assert fewer["train"]["text"][:] == corpus["train"]["text"][:] == PROSE[40:]  # nothing of it is trained on
    assert (
        fewer["validation"]["text"][:]
        != load_corpus(text, **values, max_eval_samples=10, seed=1)["validation"]["text"][:]
    )


def test_at_most_so_many_are_measured_in_the_order_of_the_text(tmp_path):
    rows, _, _ = read_paragraphs(resolve(write(tmp_path / "text.txt", *PROSE, *PROSE), Reading()))
    one, copies, beyond = measured_once(rows, 20, seed=0)
    assert (len(one), copies, beyond) == (20, len(PROSE), len(PROSE) - 20)
    assert sorted(one["example_id"][:]) == one["example_id"][:]
    assert set(one["text"][:]) < set(measured_once(rows, 30, seed=0).rows["text"][:])


@pytest.mark.slow
def test_copies_decide_neither_the_loss_nor_the_interval(tmp_path, notice, checkpoint):
    """The text and the ordinary language: `evaluate` and `train` measure the same rows."""
    found = []
    for copies in (1, 300):
        text = write(tmp_path / f"{copies}.txt", *PROSE, *[notice] * copies)
        general = write(tmp_path / f"general{copies}.txt", *PROSE[:12], *[PROSE[5]] * copies)
        values = {"model": str(checkpoint), "corpus": text, "general_corpus": general, "max_eval_samples": 20}
        result = evaluate("adapt", eval_draws=2, prompts_compared=3, pseudo_perplexity_tokens=500, **values)
        found.append(result.metrics)
    once, often = (metrics["evaluation"] for metrics in found)
    for name in ("loss", "accuracy", "pseudo_perplexity", "masked_tokens"):
        assert (often[name], often["general"][name]) == (once[name], once["general"][name])
    corpus = found[1]["corpus"]
    assert (corpus["validation"], corpus["general_copies"], corpus["general_not_measured"]) == (20, 300, 0)
