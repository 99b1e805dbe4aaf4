from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from mlm_recipes.data.tables import read_table

ROWS = [
    {"id": "a", "body": "to be or not to be"},
    {"id": "b", "body": "that is\nthe question"},
    {"id": "c", "body": " "},
]
TEXTS = ["to be or not to be", "that is\nthe question"]


def read(name: str, **options) -> tuple[list[str], Counter]:
    counts: Counter = Counter()
    return list(read_table(Path(name), Path(name).suffix[1:], counts, **options)), counts


def write_csv(name: str, separator: str) -> None:
    lines = [separator.join(f'"{value}"' for value in row.values()) for row in ROWS]
    Path(name).write_text("\r\n".join([f"id{separator}body", *lines]), encoding="utf-8-sig")


@pytest.fixture
def tables():
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("t.json").write_text(json.dumps(ROWS, indent=1))
    write_csv("t.csv", ",")
    write_csv("t.tsv", "\t")
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, "t.parquet")
    with pa.ipc.new_stream("t.arrow", table.schema) as file:
        file.write_table(table)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "arrow"])
def test_each_format_gives_the_same_texts_and_finds_the_column(kind):
    texts, counts = read(f"t.{kind}")
    assert texts == TEXTS
    assert counts["rows_without_text"] == 1
    assert counts["text_column: body"] == 1
    assert read(f"t.{kind}", text_column="id")[0] == ["a", "b", "c"]
    with pytest.raises(ValueError, match=rf"'t\.{kind}' has no column 'words'. Accepted: one of"):
        read(f"t.{kind}", text_column="words")


def test_arrow_files_and_streams(tmp_path):
    pa.feather.write_feather(pa.Table.from_pylist(ROWS), "t.arrow", compression="uncompressed")
    assert read("t.arrow")[0] == TEXTS
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    assert read(str(file))[0] == TEXTS


def test_rows_need_not_have_the_same_keys_and_halves_of_characters_are_replaced():
    Path("t.jsonl").write_text('{"text": "one"}\n\n{"other": 1}\n{"text": null}\n{"text": "half \\ud83d"}\n')
    texts, counts = read("t.jsonl")
    assert texts == ["one", "half ?"]
    assert (counts["rows_without_text"], counts["undecodable_replaced"]) == (2, 1)


@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"text": "one"}, {"text": "two"}]}',
        '["one", "two"]',
        '{"text": "one"}\n{"text": "two"}\n',
        '"one"\n"two"\n',
        '{"columns": ["n", "text"], "index": [0, 1], "data": [[1, "one"], [2, "two"]]}',  # pandas, orient="split"
        '{"d1": "one", "d2": "two", "d3": ""}',
        '{"a": {"text": "one", "tag": "x"}, "b": {"text": "two"}, "c": {"text": null}}',
    ],
)
def test_common_forms_of_json(content):
    Path("t.json").write_text(content)
    assert read("t.json")[0] == ["one", "two"]


def test_a_document_in_json_is_not_split():
    Path("t.json").write_text(json.dumps({"title": "x", "text": "a long text", "authors": ["Ann", "Bob"]}))
    assert read("t.json")[0] == ["a long text"]
    Path("t.json").write_text(json.dumps({"body": "a long text " * 9, "note1": "so", "note2": "on"}))
    assert read("t.json")[0] == ["a long text " * 9]
    Path("t.json").write_text(json.dumps({"body": "word " * 50, "comments": [{"text": "no"}]}))
    assert read("t.json")[0] == ["word " * 50]


@pytest.mark.parametrize(
    "rows", [{"text": ["one by one", "two by two"]}, [{"text": "one by one"}, {"text": "two by two"}]]
)
def test_splits_in_one_file_of_json_are_not_read_as_one_text(rows):
    Path("t.json").write_text(json.dumps({"train": rows, "test": rows, "dev": rows}))
    with pytest.raises(ValueError, match=r"in several columns: (train|test|dev)\.text"):
        read("t.json")
    assert read("t.json", text_column="train.text")[0] == ["one by one", "two by two"]


def test_a_late_column_and_an_initially_blank_column():
    rows = [{"id": "a long identifier"}] * 300 + [{"id": "b", "body": "here"}]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read("t.jsonl", text_column="body")[0] == ["here"]
    rows = [{"url": "https://example.org", "text": ""}] * 300 + [{"url": "", "text": "here"}]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read("t.jsonl")[0] == ["here"]


def test_other_separators_and_string_types():
    Path("t.csv").write_text('id;text\n1;"to be; or not"\n')
    assert read("t.csv")[0] == ["to be; or not"]
    category = pa.table({"n": [1, 1], "kind": pa.array(["one", "two"]).dictionary_encode()})
    pq.write_table(category, "t.parquet")
    assert read("t.parquet")[0] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.jsonl", b'{"text": "one"}\n{"text": "tw\n', r"t\.jsonl, line 2: not JSON"),
        ("t.jsonl", b'{"text": "one"}\n["two"]\n', r"t\.jsonl, line 2: contains list, not an object"),
        ("t.json", b'[{"text": "one"}', r"t\.json: not JSON"),
        ("t.json", b'{\n "text": "one",\n "n": }', r"t\.json: not JSON \(Expecting value: line 3"),
        ("t.jsonl", b"[" * 200_000, r"t\.jsonl, line 1: not JSON"),
        ("t.csv", b'id,text\n1,"one\n', r"t\.csv, line 2: unexpected end of data"),
        ("t.csv", b'id,text\n\n1,"one\ntwo"\n\n2,"three\n3,"four"\n', r"t\.csv, line 6: ',' expected after '\"'"),
        ("t.csv", b'id,text\n1,"one"\n2,"a "word" in it"\n', r"t\.csv, line 3: ',' expected after '\"'"),
        ("t.csv", b'id,text\n1,"one\ntwo"\n2,"three\nfour",five\n', r"t\.csv, line 4: 3 cells under 2 column names"),
        ("t.csv", b"id,text\n1,one,two\n", r"t\.csv, line 2: 3 cells under 2 column names"),
        ("t.csv", b"id,text\n1,caf\xe9\n", r"t\.csv, line 2: not UTF-8"),
        ("t.jsonl", b'{"n": 1}\n', r"none of the columns of 't\.jsonl' contains text \(n\)"),
        ("t.jsonl", b'{"text": "one"}\n{"text": 2}\n', r"t\.jsonl, line 2: the column 'text' contains int"),
        ("t.jsonl", b"3\n4\n", r"t\.jsonl, line 1: contains int, not an object"),
        ("t.parquet", b"PAR1 and no more", r"t\.parquet cannot be read as parquet"),
        ("t.arrow", b"not arrow at all", r"t\.arrow cannot be read as arrow"),
    ],
)
def test_the_error_names_the_damaged_place(name, content, says):
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read(name)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_a_row_with_bytes_that_are_not_utf8_is_named(name):
    texts = pa.array([b"one"] * 1500 + [b"caf\xe9", b"two"])
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())})
    if name == "t.parquet":
        pq.write_table(table, name)
    else:
        with pa.ipc.new_stream(name, table.schema) as file:
            file.write_table(table, max_chunksize=1000)
    with pytest.raises(ValueError, match=rf"{name}, row 1501: not UTF-8 \(byte 0xe9\)\. Accepted: strings in UTF-8"):
        read(name)


def test_a_csv_row_with_too_few_cells_has_no_text_and_is_counted():
    Path("t.csv").write_text("id,text\n1,one\n2\n\n3,two\n")
    texts, counts = read("t.csv")
    assert (texts, counts["rows_without_text"]) == (["one", "two"], 1)


def test_a_table_without_rows_has_no_text():
    Path("t.csv").write_text("id,text\n")
    assert read("t.csv")[0] == []


def test_a_table_without_any_column_of_strings_is_not_called_empty(tmp_path):
    pq.write_table(pa.table({"input_ids": [[1, 2]] * 3, "text": [b"bytes"] * 3}), "t.parquet")
    with pytest.raises(ValueError, match=r"none of the columns of 't\.parquet' contains text \(input_ids, text\)"):
        read("t.parquet")
    Dataset.from_dict({"input_ids": [[1, 2]] * 3}).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    with pytest.raises(ValueError, match=r"contains text \(input_ids\)"):
        read(str(file))
