"""Each paragraph of a text is in one share, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlm_recipes.data import dealt_text
from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.dealt_text import DealtText, dealt_by_size, dealt_in_turn


@pytest.fixture
def folder():
    for number, lines in enumerate([30, 2, 17, 8, 11]):
        text = "".join(f"line {line} of file {number} says something of its own\n" for line in range(lines))
        Path("texts").mkdir(exist_ok=True)
        Path(f"texts/{number}.txt").write_text(text, "utf-8")
    return "texts"


@pytest.mark.parametrize("shares", [1, 2, 3, 5, 6, 9])
def test_each_paragraph_is_in_one_share(folder, shares, monkeypatch):
    monkeypatch.setattr(dealt_text, "DEALT_TOGETHER", 4)
    text = DealtText(resolve(folder), shares)
    whole = [*DealtText(resolve(folder), 1).share(1)]
    dealt = [[*text.share(number)] for number in range(1, shares + 1)]
    assert text.dealt == ("whole" if shares == 1 else "files" if shares <= 5 else "paragraphs")
    assert sorted(line for share in dealt for line in share) == sorted(whole)
    assert len(whole) == 68
    for share in dealt:
        assert share == [line for line in whole if line in set(share)], "in the order of the text"
    assert all(share for share in dealt)


def test_a_share_reads_only_its_own_files(folder):
    text = DealtText(resolve(folder), 2)
    done = []
    list(text.share(2, done.append))
    assert max(done) <= text.bytes_of(2) < sum(text.sizes)
    assert sum(text.bytes_of(share) for share in (1, 2)) == sum(text.sizes)


@example([4, 4, 4, 4, 4], 4)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_files_are_dealt_evenly(sizes, shares):
    dealt = dealt_by_size(sizes, shares)
    assert sorted(file for files in dealt for file in files) == list(range(len(sizes)))
    filled = [sum(sizes[file] for file in files) for files in dealt]
    best = max(max(sizes), -(-sum(sizes) // shares))
    assert 3 * max(filled) <= 4 * best + max(sizes)  # in whole numbers: with floats, 8 is above 20 / 3 + 4 / 3


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 9))
def test_every_item_is_dealt_once(number, shares, together):
    dealt = [list(dealt_in_turn(range(number), share, shares, together)) for share in range(1, shares + 1)]
    assert sorted(item for share in dealt for item in share) == list(range(number))


def test_other_files_are_noticed(folder):
    before = DealtText(resolve(folder), 2).files_sha256()
    assert DealtText(resolve(folder), 3).files_sha256() == before
    with Path("texts/3.txt").open("a") as file:
        file.write("more\n")
    assert DealtText(resolve(folder), 2).files_sha256() != before
