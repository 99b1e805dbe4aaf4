from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlm_recipes.data.search_set import read_search_set
from mlm_recipes.data.text_pairs import read_pairs

ROWS = [("to be", "not to be", 1), ("to die", "to sleep", 0)] * 6


def write_csv(header="text1,text2,score", rows=ROWS, path="pairs.csv"):
    Path(path).write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_every_format_gives_the_same_pairs():
    write_csv()
    Path("pairs.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(["text1", "text2", "score"], row, strict=True))) for row in ROWS)
    )
    first, second, scores = (list(column) for column in zip(*ROWS, strict=True))
    pq.write_table(pa.table({"text1": first, "text2": second, "score": scores}), "pairs.parquet")
    found = [read_pairs(path) for path in ("pairs.csv", "pairs.jsonl", "pairs.parquet")]
    assert found[0] == found[1] == found[2]
    assert found[0].fingerprint() == found[1].fingerprint() == found[2].fingerprint()
    assert (found[0].first, found[0].second, found[0].scores) == (first, second, [float(score) for score in scores])


@pytest.mark.parametrize(
    ("values", "kind", "scores"),
    [
        (("0", "1"), "match", [0, 1]),
        (("match", "no match"), "match", [1, 0]),
        (("Yes", "no"), "match", [1, 0]),
        (("0.5", "1"), "score", [0.5, 1]),
        (("1", "5"), "score", [1, 5]),
    ],
)
def test_zero_and_one_or_words_are_matches_and_other_numbers_are_scores(values, kind, scores):
    write_csv(rows=[("a b", "c d", values[number % 2]) for number in range(10)])
    pairs = read_pairs("pairs.csv")
    assert pairs.kind == kind
    assert pairs.scores == scores * 5


def test_the_columns_of_known_data_sets_are_found_whatever_their_case():
    write_csv("id,Sentence_A,Sentence_B,Relatedness_Score", [(n, "x y", "z", n) for n in range(12)])
    assert read_pairs("pairs.csv").scores == [float(n) for n in range(12)]


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("text1,text2", [("a", "b")] * 12, "a column of scores"),
        ("text1,other,score", [("a", "b", 1)] * 12, "two columns of texts"),
        (
            "text1,text2,score,label",
            [("a", "b", 1, 2)] * 12,
            "several of which could be a column of scores: score; label",
        ),
        ("text1,text2,score", [("a", "b", 1)] * 12, "nothing to rank"),
        ("text1,text2,score", ROWS[:9], "9 pairs. Accepted: 10 or more"),
        ("text1,text2,score", [*ROWS, ("a", "", 1)], "line 14: text2 is ''"),
        ("text1,text2,score", [*ROWS, ("a", "b", "nan")], "line 14: score is 'nan'"),
        ("text1,text2,score", [*ROWS, ("a", "b", "match")], "line 14: score is 'match'"),
    ],
)
def test_what_is_wrong_is_said(header, rows, said):
    write_csv(header, rows)
    with pytest.raises(ValueError, match=r"^probe_pairs: ") as error:
        read_pairs("pairs.csv")
    assert said in str(error.value)


def test_a_file_that_is_no_table():
    with pytest.raises(ValueError, match=r"probe_pairs: there is no file 'pairs.csv'"):
        read_pairs("pairs.csv")
    Path("pairs.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"probe_pairs: 'pairs.txt' is no table. Accepted: a file that ends in .jsonl"):
        read_pairs("pairs.txt")
    Path("pairs.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"^probe_pairs: pairs.jsonl, line 1: not JSON"):
        read_pairs("pairs.jsonl")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_another_pair_has_another_fingerprint(place):
    other = list(ROWS[0])
    other[place] = "to do" if place < 2 else 0
    found = [read_pairs(write_csv(rows=rows)) for rows in (ROWS, [tuple(other), *ROWS[1:]])]
    assert found[0].fingerprint() != found[1].fingerprint()


@pytest.mark.parametrize("read", [read_pairs, read_search_set])
def test_a_url_is_refused_without_its_password(read):
    with pytest.raises(ValueError, match=r"received a URL\. Accepted: files on this machine") as refused:
        read("https://me:secret@host/a.csv?token=secret")
    assert "secret" not in str(refused.value)
