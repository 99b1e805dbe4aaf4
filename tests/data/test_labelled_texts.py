from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlm_recipes.data.labelled_texts import PROBES, known_probes, load_labelled
from mlm_recipes.data.near_duplicates import near_duplicate_groups

TEXTS = [f"the {n}th text, about {'rivers' if n % 3 else 'mountains'} and what is near them" for n in range(60)]
LABELS = ["wet" if n % 3 else "high" for n in range(60)]


def write(name, texts=TEXTS, labels=LABELS, columns=("text", "label")):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(texts, labels, strict=True)]
    if name.endswith(".jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".json"):
        Path(name).write_text(json.dumps(rows))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    else:
        with open(name, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, delimiter="\t" if name.endswith("tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
    return name


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet", "a.tsv"])
def test_tables_of_all_formats_say_the_same(name):
    found = load_labelled(write(name))
    assert found.texts == TEXTS
    assert found.names == ["high", "wet"]
    assert [found.names[label] for label in found.labels] == LABELS
    assert found.fingerprint() == load_labelled(write("other.csv")).fingerprint()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_numbers_are_labels_in_their_order(name):
    labels = [n % 12 for n in range(120)]
    found = load_labelled(write(name, [f"{n} is the number of this text" for n in range(120)], labels))
    assert found.names == [str(label) for label in range(12)]
    assert found.labels.tolist() == labels


def test_columns_are_chosen_or_named():
    found = load_labelled(write("a.csv", columns=("review", "sentiment")))
    assert (found.text_column, found.label_column) == ("review", "sentiment")
    rows = [
        {"id": n, "a": text, "b": text[::-1], "topic": label}
        for n, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"probe_text_column: .* several columns.* --probe_text_column .*to classify"):
        load_labelled("b.jsonl")
    assert load_labelled("b.jsonl", text_column="b").texts[0] == TEXTS[0][::-1]
    with pytest.raises(ValueError, match=r"probe_label_column: .* no column 'kind'.* Accepted: .*topic"):
        load_labelled("b.jsonl", label_column="kind", text_column="a")


def test_rows_without_text_or_label_are_left_out_and_counted():
    texts, labels = [*TEXTS, "", "a text without a label", "   "], [*LABELS, "wet", "", "high"]
    found = load_labelled(write("a.csv", texts, labels))
    assert found.texts == TEXTS
    assert found.left_out == {"without_text": 2, "without_label": 1, "beyond_max": 0}


def test_of_many_rows_some_are_drawn_the_same_each_time():
    one, again = (load_labelled(write("a.csv"), most=40, seed=1) for _ in range(2))
    other = load_labelled("a.csv", most=40, seed=2)
    assert len(one.texts) == 40
    assert one.left_out["beyond_max"] == 20
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("texts", "labels", "says"),
    [
        (TEXTS[:20], LABELS[:20], "20 texts with a label"),
        (TEXTS, ["wet"] * 60, "1 labels with 5 texts"),
        (TEXTS, [f"label {n // 5}" for n in range(55)] + ["a", "b", "c", "d", "e"], "16 different values in 60 rows"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(texts, labels, says):
    with pytest.raises(ValueError, match=rf"^probe: .*{says}.*Accepted.*--probe_label_column"):
        load_labelled(write("a.csv", texts, labels), label_column="label")


def test_what_is_no_table_of_labels_is_refused():
    Path("notes.txt").write_text("\n".join(TEXTS))
    with pytest.raises(ValueError, match=r"^probe: 'notes.txt' is plain text"):
        load_labelled("notes.txt")
    with pytest.raises(ValueError, match=r"^probe: 'stoik' is neither .*Did you mean 'stoic'"):
        load_labelled("stoik")
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder 'missing\.csv'"):
        load_labelled("missing.csv")
    with pytest.raises(ValueError, match=r"^probe: received '-', standard input"):
        load_labelled("-")
    with pytest.raises(ValueError, match=r"^probe_label_column: a\.jsonl, row 1: .* list .*one label for each text"):
        load_labelled(write("a.jsonl", TEXTS, [["wet", "high"]] * 60))
    with pytest.raises(ValueError, match=r"^probe_label_column: a\.jsonl, row 1: .* float"):
        load_labelled(write("a.jsonl", TEXTS, [0.5] * 60))


def test_the_bundled_probes_are_what_their_sidecars_say():
    for name, about in known_probes().items():
        found = load_labelled(name)
        assert hashlib.sha256((PROBES / about["file"]).read_bytes()).hexdigest() == about["sha256"]
        assert len(found.texts) == about["texts"] >= 300
        counts = {label: found.labels.tolist().count(number) for number, label in enumerate(found.names)}
        assert counts == about["labels"]
        assert about["licence"] == found.licence == "CC0-1.0"
        assert len(set(near_duplicate_groups(found.texts).tolist())) == len(found.texts)
        assert set(yaml.safe_load((PROBES / f"{name}.yaml").read_text("utf-8"))) >= {"title", "author", "source"}


def test_labels_that_only_look_like_numbers_are_words():
    found = load_labelled(
        write("a.csv", [f"{n} is a text" for n in range(60)], ["--1" if n % 2 else "1" for n in range(60)])
    )
    assert found.names == ["--1", "1"]
