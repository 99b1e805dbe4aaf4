from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from mlm_recipes.data import near_duplicates
from mlm_recipes.data.near_duplicates import near_duplicate_groups, training_rows_near


def shingles(text: str, words: int = 5) -> set[tuple[str, ...]]:
    """Word n-grams, only for scripts with spaces."""
    found = text.casefold().split()
    return {tuple(found[start : start + words]) for start in range(max(1, len(found) - words + 1))}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other)


def connected(count: int, near) -> list[int]:
    """The plain equivalent: every pair is compared, and each row gets the first row that it is connected to."""
    labels = list(range(count))
    for one, other in itertools.combinations(range(count), 2):
        if near(one, other):
            low, high = sorted((labels[one], labels[other]))
            labels = [low if label == high else label for label in labels]
    return labels


def numbered(start: int, stop: int) -> str:
    return " ".join(f"w{number}" for number in range(start, stop))


def changed(text: str, *places: int) -> str:
    units = text.split()
    for place in places:
        units[place] = "other" + str(place)
    return " ".join(units)


SIXTY = numbered(0, 60)
CHINESE = (
    "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈剑号巨阙珠称夜光"
)
JAPANESE = "いろはにほへとちりぬるをわかよたれそつねならむうゐのおくやまけふこえてあさきゆめみしゑひもせすン"
THAI = "กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮกาขาคางาจาชาซาดาตา"


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        (SIXTY, SIXTY, True),
        (SIXTY, SIXTY.upper().replace(" ", " \t "), True),
        ("Straße und Gasse", "STRASSE und  gasse", True),
        (SIXTY, changed(SIXTY, 30), True),  # 51 of 61 shingles are shared
        (SIXTY, changed(SIXTY, 0), True),
        (SIXTY, SIXTY + " and three more", True),
        (SIXTY, changed(SIXTY, 20, 40), False),  # 46 of 66
        (SIXTY, changed(SIXTY, *range(30, 60)), False),
        (SIXTY, changed(SIXTY, *range(0, 60, 2)), False),
        (SIXTY, " ".join(reversed(SIXTY.split())), False),
        (numbered(0, 30), changed(numbered(0, 30), 15), False),  # 21 of 31: short paragraphs must be more similar
        ("He said no.", "he said  NO.", True),
        ("He said no.", "He said yes.", False),
        ("He said no.", "He said no. He said", False),
        ("one two three four five", "one two three four five six", False),
        ("", " \n", True),
        ("", "a", False),
        (CHINESE, CHINESE[:2] + "人" + CHINESE[3:], True),
        (CHINESE, CHINESE[:30] + "\n" + CHINESE[30:], True),
        (CHINESE, CHINESE[:25] + CHINESE[:24:-1], False),
        (JAPANESE, JAPANESE[:2] + "ん" + JAPANESE[3:], True),
        (JAPANESE, JAPANESE[:30] + JAPANESE[:29:-1], False),
        (THAI, THAI[:30] + "ๆ" + THAI[31:], True),
        (THAI, THAI[:30] + THAI[:29:-1], False),
    ],
)
def test_near_and_different_pairs(one, other, near):
    assert near_duplicate_groups([one, other]).tolist() == [0, 0 if near else 1]


@pytest.mark.parametrize(("shared", "near"), [(80, True), (79, False)])
def test_the_threshold_is_exact(shared, near):
    one, other = numbered(0, 94), numbered(0, shared + 4) + " " + numbered(1000, 1090 - shared)
    assert jaccard(shingles(one), shingles(other)) == shared / (180 - shared)
    assert (near_duplicate_groups([one, other])[1] == 0) == near


def test_nearness_is_transitive():
    one, two, three = SIXTY, changed(SIXTY, 20), changed(SIXTY, 20, 40)
    assert near_duplicate_groups([one, three]).tolist() == [0, 1]
    assert near_duplicate_groups([one, three, two]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("threshold", "shared", "at_least"), [(0.8, 80, 1.0), (0.7, 75, 0.98)])
def test_near_pairs_are_found(threshold, shared, at_least):
    """700 pairs of paragraphs, exactly at the threshold (80 of 100) or a little above it."""
    texts = []
    for pair in range(700):
        first, second = (random.Random(2 * pair + side) for side in (0, 1))
        common = [str(first.random()) for _ in range(shared + 4)]
        texts += [" ".join(common + [str(side.random()) for _ in range(90 - shared)]) for side in (first, second)]
    assert jaccard(shingles(texts[0]), shingles(texts[1])) == shared / (180 - shared) >= threshold
    groups = near_duplicate_groups(texts, threshold=threshold)
    assert groups[::2].tolist() == list(range(0, 1400, 2)), "two different pairs are grouped together"
    found = groups[1::2] == groups[::2]
    assert found.mean() >= at_least
    assert (groups[1::2][~found] == np.arange(1, 1400, 2)[~found]).all()


# Short texts of few words, and some with one changed word: this yields copies, near duplicates and different texts.
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.lists(st.sampled_from(["a", "B", "c,", "天", "地", "\t"]), max_size=12).map(" ".join),
        st.builds(changed, st.sampled_from([SIXTY, numbered(5, 55)]), st.integers(0, 49), st.integers(0, 3)),
        st.builds(changed, st.just(SIXTY), st.integers(25, 27)),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(TEXTS)
def test_the_first_of_each_group_represents_it(texts):
    groups = near_duplicate_groups(texts)
    assert groups.dtype == np.int64
    assert groups.shape == (len(texts),)
    assert (groups <= np.arange(len(texts))).all()
    assert (groups[groups] == groups).all()
    again = near_duplicate_groups([texts[row] for row in np.unique(groups)])
    assert (again == np.arange(len(again))).all(), "the kept rows still have near duplicates"


@pytest.mark.slow
@given(TEXTS, st.data())
def test_a_copy_is_always_in_the_group_of_the_original(texts, data):
    texts = [*texts, SIXTY]
    copied = data.draw(st.integers(0, len(texts) - 1))
    copy = data.draw(st.sampled_from([str, lambda text: f"\n {text} ", lambda text: text.replace(" ", "  ")]))
    groups = near_duplicate_groups([*texts, copy(texts[copied])])
    assert groups[-1] == groups[copied]
    assert groups[:-1].tolist() == near_duplicate_groups(texts).tolist()


@pytest.mark.slow
@given(TEXTS, st.randoms(use_true_random=False))
def test_order_does_not_change_the_groups(texts, rng):
    order = list(range(len(texts)))
    rng.shuffle(order)
    groups, shuffled = near_duplicate_groups(texts), near_duplicate_groups([texts[row] for row in order])
    for one, other in itertools.combinations(range(len(texts)), 2):
        assert (shuffled[one] == shuffled[other]) == (groups[order[one]] == groups[order[other]])


@given(TEXTS)
def test_groups_are_within_those_of_comparing_every_pair(texts):
    texts = [text for text in texts if text.isascii()]  # the plain equivalent does not support scripts without spaces
    sets = [shingles(text) for text in texts]
    plain = connected(len(texts), lambda one, other: jaccard(sets[one], sets[other]) >= 0.8)
    assert [plain[group] for group in near_duplicate_groups(texts)] == plain


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_and_columns_give_the_same_groups_as_a_list(batch, monkeypatch):
    rng = random.Random(0)
    texts = [changed(SIXTY, *rng.choices(range(60), k=rng.choice([0, 1, 1, 9]))) for _ in range(60)]
    expected = near_duplicate_groups(texts)
    assert 1 < len(np.unique(expected)) < 60
    sets = [shingles(text) for text in texts]
    assert expected.tolist() == connected(60, lambda one, other: jaccard(sets[one], sets[other]) >= 0.8)
    monkeypatch.setattr(near_duplicates, "BATCH", batch)
    monkeypatch.setattr(near_duplicates, "REMEMBERED", batch)
    assert near_duplicate_groups(texts).tolist() == expected.tolist()
    assert near_duplicate_groups(Dataset.from_dict({"text": texts})["text"]).tolist() == expected.tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 6), min_size=1)), min_size=1, max_size=9))
def test_joining_agrees_with_comparing_every_pair(rows):
    """Rows with the same label count as joined already, whatever they contain."""
    sets = [held for _, held in rows]
    labels = [min(row for row, (other, _) in enumerate(rows) if other == label) for label, _ in rows]
    found = near_duplicates._joined(np.array(labels), [np.array(sorted(held), np.uint64) for held in sets], 0.75)
    expected = connected(
        len(rows), lambda one, other: labels[one] == labels[other] or jaccard(sets[one], sets[other]) >= 0.75
    )
    assert found.tolist() == expected


def test_many_near_copies_need_few_comparisons(monkeypatch):
    """The cost for a corpus full of one template must not grow with the square of its rows."""
    held = np.arange(10, dtype=np.uint64)
    shingle_sets = [np.append(held, np.uint64(100 + row)) for row in range(2000)] + [held + np.uint64(5000)]
    comparisons = []
    plain = np.isin
    monkeypatch.setattr(np, "isin", lambda *given: comparisons.append(1) or plain(*given))
    counted = np.flatnonzero
    monkeypatch.setattr(np, "flatnonzero", lambda given: comparisons.append(1) or counted(given))
    labels = near_duplicates._joined(np.arange(2001), shingle_sets, 0.8)
    assert labels.tolist() == [0] * 2000 + [2000]
    assert len(comparisons) < 10


@pytest.mark.slow
def test_memory_per_paragraph_is_bounded(monkeypatch):
    class Texts(Sequence):
        """Paragraphs that are created on access."""

        def __len__(self):
            return 10_000

        def __getitem__(self, asked):
            assert len(range(10_000)[asked]) <= 50, "more than a batch was read"
            return [f"text of row {row}" for row in range(10_000)[asked]]

    monkeypatch.setattr(near_duplicates, "BATCH", 50)
    near_duplicate_groups(["a"])  # loads everything that is loaded once
    tracemalloc.start()
    groups = near_duplicate_groups(Texts())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (groups == np.arange(10_000)).all()
    assert peak / 10_000 < 200, "bytes per paragraph"


@pytest.mark.slow
def test_processes_hash_seeds_and_threads_agree():
    code = (
        "import hashlib; from mlm_recipes.data.near_duplicates import near_duplicate_groups, _sketch\n"
        "texts = [' '.join(str(w * (i % 50 + 1) + (w == i % 60)) for w in range(60)) for i in range(300)]\n"
        "print(near_duplicate_groups(texts).tolist(), hashlib.sha256(_sketch(texts, 5)[1].tobytes()).hexdigest())"
    )
    seen = set()
    for hash_seed, threads in (("0", "1"), ("7", "4")):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": threads}
        seen.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1
    assert len(set(eval(seen.pop().split(b"]")[0] + b"]"))) < 300


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12))
def test_no_group_is_on_both_sides(rows):
    names, held_out = [name for name, _ in rows], np.array([held for _, held in rows], bool)
    groups = np.array([names.index(name) for name in names], np.int64)
    dropped = training_rows_near(groups, held_out)
    assert not (dropped & held_out).any()
    training = ~held_out & ~dropped
    assert not set(groups[training]) & set(groups[held_out])
    assert set(groups[dropped]) <= set(groups[held_out]), "a different row was dropped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.5}, r"threshold: received 0.5. Accepted: 0.7 to 1"),
        ({"threshold": 80}, "received 80"),
        ({"words": 0}, "words: received 0. Accepted: 1 or more"),
    ],
)
def test_errors_list_the_accepted_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        near_duplicate_groups(["a"], **arguments)


def test_no_paragraphs_and_one():
    assert near_duplicate_groups([]).tolist() == []
    assert near_duplicate_groups(["a"]).tolist() == [0]
