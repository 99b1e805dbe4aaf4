"""Which column is the text: decided once for all files, or asked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset

from mlm_recipes import load_corpus
from mlm_recipes.data import corpus_files
from mlm_recipes.data.corpus_name import Reading, resolve
from mlm_recipes.data.paragraphs import stream_paragraphs
from mlm_recipes.data.text_column import Column, Evidence, choose_column


def said(number: int) -> str:
    return f"In report {number} the pilot says that the pump failed again, and that the harbour is far away."


def write_lines(name: str, rows: list[dict]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def texts(name: str, **options) -> list[str]:
    corpus = load_corpus(name, **options)
    return [*corpus["train"]["text"], *corpus["validation"]["text"]]


def chosen(rows: list[dict], text_column: str | None = None) -> str:
    return choose_column(Evidence.of(rows), text_column, "a table").column


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["to be", "or not"], "text"),
        (["\u6211\u4eec\u57282024\u5e74", "\u4ed6\u4eec\u4e5f\u662f"], "text"),
        (["MKVLAAG", "MKTAYIAKQR", "GSHMLE"], "text"),
        (["1", "2.5", "3e"], "text"),
        (["1", "-2.5", "1,000", "50%"], "key"),
        (["2024-01-31", "2024-02-01 10:30:00"], "key"),
        (["https://example.org/a", "www.example.org/b"], "key"),
        (["LJ001-0001", "LJ001-0002", "LJ014-0100"], "key"),
        (["clip_1.mp3", "clips/other.mp3"], "key"),
        (["0123456789abcdef" * 2, "fedcba9876543210" * 2], "key"),
        (["ann@example.org", "bob@example.org"], "key"),
        (["United States English", "England English"] * 15, "category"),
        ([], "key"),
    ],
)
def test_kinds_of_columns(values, kind):
    column = Column()
    for value in values:
        column.add(value)
    assert column.kind == kind


def test_the_column_called_text_is_the_text_unless_it_is_nearly_empty():
    rows = [{"text": f"A short one, {n}.", "html": f"<p>{said(n)}</p>" * 9} for n in range(30)]
    assert chosen(rows) == "text"
    assert chosen([{**row, "text": row["text"] if n < 3 else None} for n, row in enumerate(rows)]) == "html"
    mixed = [{"text": said(n)} if n % 2 else {"content": said(n)} for n in range(30)]
    with pytest.raises(ValueError, match=r"several columns: (content|text) .*(content|text) "):
        chosen(mixed)


def test_the_column_with_three_times_the_characters_is_the_text_and_otherwise_it_is_asked():
    rows = [{"id": f"a-{n}", "title": f"Report {n}", "body": said(n)} for n in range(30)]
    assert chosen(rows) == "body"
    pairs = [
        {"premise": f"The pilot {n} waits near the old pump.", "hypothesis": f"Pilot {n} sleeps."} for n in range(30)
    ]
    with pytest.raises(
        ValueError, match=r"may be in several columns: premise \(\u201cThe pilot .* hypothesis \(\u201cPilot"
    ):
        chosen(pairs)
    assert chosen(pairs, "hypothesis") == "hypothesis"


def test_addresses_are_not_trained_on_unless_asked():
    write_lines("a.jsonl", [{"id": n, "url": f"https://example.org/{n}", "body": None} for n in range(30)])
    with pytest.raises(ValueError, match=r"none of the columns of 'a.jsonl' contains text \(url \(\u201chttps://"):
        load_corpus("a.jsonl")
    assert len(texts("a.jsonl", text_column="url")) == 30


@pytest.mark.parametrize("name", ["months", "months/*.jsonl", "months/**/*.jsonl"])
def test_a_file_without_text_does_not_have_a_column_of_its_own(name, caplog):
    write_lines("months/1.jsonl", [{"url": f"https://example.org/{n}", "body": None} for n in range(20)])
    write_lines("months/2.jsonl", [{"url": f"https://example.org/{n}", "body": said(n)} for n in range(20)])
    corpus = load_corpus(name)
    assert corpus.facts["text_column"]["name"] == "body"
    assert sorted([*corpus["train"]["text"], *corpus["validation"]["text"]]) == sorted(map(said, range(20)))
    assert corpus.facts["files_without_text"] == 1
    assert "1.jsonl: no text in the column 'body'" in caplog.text


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet", "json"])
@pytest.mark.parametrize("without", [300, 3_000])
def test_rows_without_text_at_the_beginning_do_not_decide(kind, without):
    rows = [{"title": f"Report {n}", "abstract": None if n < without else said(n)} for n in range(2 * without)]
    name = f"a.{kind}"
    if kind == "parquet":
        Dataset.from_list(rows[::-1]).select(range(2 * without - 1, -1, -1)).to_parquet(name)
    elif kind == "csv":
        Path(name).write_text("title,abstract\n" + "".join(f'{r["title"]},"{r["abstract"] or ""}"\n' for r in rows))
    elif kind == "json":
        Path(name).write_text(json.dumps(rows))
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        Path(name).write_bytes(gzip.compress(content) if kind == "jsonl.gz" else content)
    if without == 3_000 and kind == "csv":  # only its beginning is examined before it is read
        with pytest.raises(ValueError, match=r"'title', but in all rows 'abstract' has more characters. .*Accepted"):
            load_corpus(name)
        return
    facts = load_corpus(name, count_near_duplicates=False).facts
    assert (facts["text_column"]["name"], facts["paragraphs"]) == ("abstract", without)


def test_files_with_their_text_in_different_columns_are_refused(monkeypatch, caplog):
    write_lines("two/a.jsonl", [{"text": said(n)} for n in range(20)])
    write_lines("two/b.jsonl", [{"content": said(n + 20)} for n in range(20)])
    says = r"text of 'two' is in different columns: 'text' in 'two/a.jsonl', 'content' in 'two/b.jsonl'.*--text_column"
    with pytest.raises(ValueError, match=says):
        load_corpus("two")
    monkeypatch.setattr(corpus_files, "_EXAMINED", 1)  # a file that is not examined beforehand
    write_lines("two/c.jsonl", [{"text": said(n + 40)} for n in range(20)])
    says = r"'text' of other files, but 'two/b.jsonl' has no such column. It has content \(\u201cIn report"
    with pytest.raises(ValueError, match=says):
        load_corpus("two")
    assert len(list(stream_paragraphs(resolve("two"))())) == 40
    assert "b.jsonl: no text in the column 'text'" in caplog.text
    assert len(texts("two", text_column="content")) == 20


def test_the_text_that_is_held_out_is_read_from_the_same_column():
    write_lines("a.jsonl", [{"title": f"Report {n}", "body": said(n)} for n in range(20)])
    write_lines("b.jsonl", [{"title": said(n) * 4, "body": said(n)} for n in range(20, 24)])
    corpus = load_corpus("a.jsonl", validation_corpus="b.jsonl")
    assert corpus["validation"]["text"][:] == [said(n) for n in range(20, 24)]
    assert corpus.facts["validation_corpus"]["text_column"]["why"] == "as the corpus"


def test_an_earlier_choice_is_not_taken_from_the_cache():
    rows = [{"note": said(n), "body": said(n) * 4} for n in range(20)]
    write_lines("a.jsonl", rows)
    for column in (None, "note", "body"):
        facts = load_corpus("a.jsonl", text_column=column).facts
        assert (facts["text_column"]["name"], facts["text_column"]["why"]) == (
            (column, "named") if column else ("body", "most characters")
        )


def test_a_stream_says_on_what_its_choice_is_based():
    write_lines("a.jsonl", [{"title": f"Report {n}", "abstract": None if n < 250 else said(n)} for n in range(500)])
    read = stream_paragraphs(resolve("a.jsonl"))
    facts = read.facts()["text_column"]
    assert (facts["name"], facts["why"], facts["rows_examined"]) == ("abstract", "most characters", 500)
    assert len(list(read())) == len(list(read())) == 250
    assert "text_column" not in stream_paragraphs(resolve("meditations")).facts()
    named = stream_paragraphs(resolve("a.jsonl", Reading(text_column="title")))
    assert len(list(named())) == 500


# Fields within fields

ROWS = [{"id": f"a{n}", "doc": {"parts": [{"said": said(n)}, {"said": said(100 + n)}]}} for n in range(10)]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "arrow"])
@pytest.mark.parametrize("column", [None, "doc.parts.said", "said"])
def test_a_path_leads_to_a_field_and_lists_are_walked(kind, column):
    name = f"a.{kind}"
    if kind == "jsonl":
        write_lines(name, ROWS)
    elif kind == "json":
        Path(name).write_text(json.dumps(ROWS))
    elif kind == "parquet":
        Dataset.from_list(ROWS).to_parquet(name)
    else:
        Dataset.from_list(ROWS).save_to_disk("saved")
        Path("saved/data-00000-of-00001.arrow").rename(name)
    corpus = load_corpus(name, text_column=column)
    assert corpus.facts["text_column"]["name"] == "doc.parts.said"
    found = sorted([*corpus["train"]["text"], *corpus["validation"]["text"]])
    assert found == sorted(said(n + more) for n in range(10) for more in (0, 100))


def test_a_name_with_dots_precedes_a_path():
    write_lines("a.jsonl", [{"data.text": said(n), "data": {"text": "no"}} for n in range(5)])
    assert sorted(texts("a.jsonl", text_column="data.text")) == sorted(map(said, range(5)))


def test_a_field_with_fields_is_refused_with_their_paths():
    write_lines("a.jsonl", ROWS)
    with pytest.raises(
        ValueError, match=r"'doc.parts' in 'a.jsonl' has fields of its own. Accepted: one of doc.parts.said"
    ):
        load_corpus("a.jsonl", text_column="doc.parts")
    with pytest.raises(ValueError, match=r"no column 'body'. Accepted: one of id, doc.parts.said"):
        load_corpus("a.jsonl", text_column="body")


def test_records_in_an_object():
    paragraphs = [{"context": said(n) * 3, "qas": [{"question": f"What failed in {n}?"}]} for n in range(10)]
    Path("a.json").write_text(json.dumps({"version": "1.1", "data": [{"title": "x", "paragraphs": paragraphs}]}))
    assert load_corpus("a.json").facts["text_column"]["name"] == "data.paragraphs.context"
    assert texts("a.json", text_column="data.paragraphs.context")[0] in [row["context"] for row in paragraphs]
    parts = {part: [{"text": said(n)} for n in range(start, start + 9)] for part, start in (("old", 0), ("new", 9))}
    Path("b.json").write_text(json.dumps(parts))
    with pytest.raises(ValueError, match=r"several columns: new.text \(.*old.text \("):
        load_corpus("b.json")
    assert len(texts("b.json", text_column="old.text")) == 9


@pytest.mark.parametrize(
    "content",
    [
        {"text": {str(n): said(n) for n in range(5)}, "label": {str(n): 1 for n in range(5)}},
        {f"row {n}": {"text": said(n), "label": 1} for n in range(5)},
        {"text": [said(n) for n in range(5)], "label": [1] * 5},
    ],
    ids=["columns", "rows", "lists"],
)
def test_tables_that_are_an_object(content):
    Path("a.json").write_text(json.dumps(content))
    assert sorted(texts("a.json")) == [said(n) for n in range(5)]


def test_lists_of_texts_are_paragraphs_and_lists_of_words_are_refused():
    write_lines("a.jsonl", [{"id": n, "sentences": [said(n), said(n + 10)]} for n in range(10)])
    assert len(texts("a.jsonl")) == 20
    write_lines("b.jsonl", [{"id": n, "tokens": said(n).split()} for n in range(10)])
    for column in (None, "tokens"):
        with pytest.raises(ValueError, match=r"'tokens' of 'b.jsonl' has lists of single words \('In', 'report'"):
            load_corpus("b.jsonl", text_column=column)
