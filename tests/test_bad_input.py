"""What people have instead of a clean text file: each is taken, with a count, or refused in one sentence."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_server import Server

from mlm_recipes import cli, load_corpus

LINES = "".join(f"paragraph number {n} of a text\n" for n in range(40))


def write(name: str, content: bytes | str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def an_archive_that_climbs() -> None:
    with tarfile.open("a.tar.gz", "w:gz") as archive:
        write("inside.txt", LINES)
        archive.add("inside.txt", arcname="../../outside.txt")


def a_truncated_parquet() -> None:
    pq.write_table(pa.table({"text": LINES.splitlines() * 100}), "a.parquet")
    write("a.parquet", Path("a.parquet").read_bytes()[:-200])


def an_office_document() -> None:
    with zipfile.ZipFile("a.docx", "w") as archive:
        archive.writestr("word/document.xml", "<w:t>text</w:t>")


# What makes it, what is typed, what is said. Each is refused.
REFUSED = {
    "empty": (lambda: write("a.txt", b""), "a.txt", "'a.txt' contains no text (0 blank lines)"),
    "blank": (lambda: write("a.txt", "\n \n\t\n"), "a.txt", "'a.txt' contains no text (3 blank lines)"),
    "byte order mark only": (lambda: write("a.txt", b"\xef\xbb\xbf"), "a.txt", "'a.txt' contains no text"),
    "one paragraph": (lambda: write("a.txt", "one\n"), "a.txt", "1 different paragraph, too few"),
    "equal lines": (lambda: write("a.txt", "the same\n" * 100_000), "a.txt", "1 different paragraph, too few"),
    "NUL bytes": (lambda: write("a.txt", LINES + "a\0b\n"), "a.txt", "a.txt, line 41: a NUL character"),
    "a picture": (lambda: write("a.txt", b"\x89PNG\r\n\x1a\n\0\0"), "a.txt", "a.txt, line 1: not UTF-8 (byte 0x89"),
    "Latin-1": (lambda: write("a.txt", LINES.encode() + b"caf\xe9\n"), "a.txt", "a.txt, line 41: not UTF-8 (byte 0xe9"),
    "UTF-16": (lambda: write("a.txt", LINES.encode("utf-16")), "a.txt", "--encoding utf-16"),
    "a PDF": (lambda: write("a.txt", b"%PDF-1.7 ..."), "a.txt", "a.txt is a PDF"),
    "an office document": (an_office_document, "a.docx", "a.docx is an archive or an office document"),
    "an archive that climbs": (an_archive_that_climbs, "a.tar.gz", "'a.tar.gz' is an archive"),
    "truncated gzip": (
        lambda: write("a.txt.gz", gzip.compress(LINES.encode())[:-12]),
        "a.txt.gz",
        "a.txt.gz cannot be read to its end",
    ),
    "truncated Parquet": (a_truncated_parquet, "a.parquet", "a.parquet cannot be read as parquet"),
    "csv without text": (lambda: write("a.csv", "n,m\n1,2\n"), "a.csv --text_column text", "has no column 'text'"),
    "csv of numbers and no header": (
        lambda: write("a.csv", "1,2\n"),
        "a.csv",
        "none of the columns of 'a.csv' contains text",
    ),
    "broken JSON lines": (
        lambda: write("a.jsonl", '{"text": "one"}\n' * 6 + '{"text": \n'),
        "a.jsonl",
        "a.jsonl, line 7: not JSON",
    ),
    "a folder with no text": (lambda: write("f/a.png", b"\x89PNG"), "f", "the folder 'f' contains no text"),
    "an empty folder": (lambda: Path("f").mkdir(), "f", "the folder 'f' contains no text"),
    "a folder given as a file": (lambda: Path("a.txt").mkdir(), "a.txt", "the folder 'a.txt' contains no text"),
    "a link to itself": (lambda: os.symlink("a.txt", "a.txt"), "a.txt", "'a.txt' (looked in"),
    "a broken link": (lambda: os.symlink("gone", "a.txt"), "a.txt", "It is a broken link"),
    "a pipe": (lambda: os.mkfifo("a.txt"), "a.txt", "a.txt cannot be read (it is not a regular file)"),
    "a file that cannot be read": (lambda: None, "/proc/self/mem", "/proc/self/mem cannot be read"),
    "a pattern without files": (lambda: None, "f/*.txt", "no file matches 'f/*.txt'"),
    "no such file": (lambda: None, "a.txt", "there is no file or folder 'a.txt'"),
    "held out is all there is": (
        lambda: (write("a.txt", "one\ntwo\n"), write("b.txt", "two\none\nthree\n")),
        "a.txt --validation_corpus b.txt",
        "every paragraph is also in the text that is held out",
    ),
    "an unknown encoding": (lambda: write("a.txt", LINES), "a.txt --encoding utf-9", "encoding: received 'utf-9'"),
    "an unknown unit": (lambda: write("a.txt", LINES), "a.txt --sample_by page", "sample_by: received 'page'"),
    "an unknown way with errors": (
        lambda: write("a.txt", LINES),
        "a.txt --encoding_errors drop",
        "encoding_errors: received 'drop'",
    ),
    "an unknown way with duplicates": (
        lambda: write("a.txt", LINES),
        "a.txt --deduplicate all",
        "deduplicate: received 'all'",
    ),
    "standard input that is empty": (lambda: None, "-", "contains no text"),
}


def refused(arguments: list[str], says: str, capsys, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert cli.main(["train", "--corpus", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlm-recipes: error: ")
    assert len(error.splitlines()) == 1
    assert says in error
    assert "Accepted" in error
    assert sorted(folder.rglob("*")) == before  # nothing written


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_sentence(name, capsys, tmp_path, monkeypatch):
    make, typed, says = REFUSED[name]
    make()
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        refused(typed.split(), says, capsys, tmp_path)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("missing", "it answers 404 Not Found"),
        ("silent", "no answer for"),
        ("cut", "the connection was cut before the end"),
        ("gone", "no connection"),
        ("other", "its sha256 is"),
    ],
)
def test_an_address_that_fails_is_refused(fault, says, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("mlm_recipes.sources.download.TIMEOUT", 0.5)
    server = Server(LINES.encode() * 1000, fault)
    try:
        url = "http://127.0.0.1:9/a.txt" if fault == "gone" else server.url
        sha256 = ["--corpus_sha256", "0" * 64] if fault == "other" else []
        refused([url, *sha256], says, capsys, tmp_path)
    finally:
        server.close()


# What makes it, what is typed, and which facts are said. Each is taken.
TAKEN = {
    "Latin-1 by its name": (
        lambda: write("a.txt", LINES.encode() + b"caf\xe9\n"),
        {"encoding": "latin-1"},
        {"paragraphs": 41},
    ),
    "Latin-1 with replacement": (
        lambda: write("a.txt", LINES.encode() + b"caf\xe9\n"),
        {"encoding_errors": "replace"},
        {"paragraphs": 41, "undecodable_replaced": 1},
    ),
    "UTF-16 by its name": (
        lambda: write("a.txt", LINES.encode("utf-16")),
        {"encoding": "utf-16"},
        {"paragraphs": 40, "words": 240},
    ),
    "one line of 20 MB": (
        lambda: write("a.txt", " ".join(map(str, range(2_500_000)))),
        {},
        {"very_long_cut": 1, "words": 2_500_000, "paragraphs": 189},
    ),
    "blank lines and Windows": (
        lambda: write("a.txt", b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n\r\n").encode()),
        {},
        {"paragraphs": 40, "blank_lines_dropped": 40},
    ),
    "100,000 lines, nearly all equal": (
        lambda: write("a.txt", "the same\n" * 100_000 + "another\n"),
        {"deduplicate": "exact"},
        {"paragraphs": 2, "duplicates_dropped": 99_999},
    ),
    "all shorter than three tokens": (lambda: write("a.txt", "a\nb\nc\n"), {}, {"paragraphs": 3}),
    "held out larger than train": (
        lambda: (write("a.txt", "one\ntwo\n"), write("b.txt", LINES)),
        {"validation_corpus": "b.txt"},
        {"train": 2, "validation": 40},
    ),
    "a folder of many things": (
        lambda: (write("a.txt/x.txt", LINES), write("a.txt/y.md", "more"), write("a.txt/z.png", b"\x89")),
        {},
        {"paragraphs": 40, "files_left_out": 2},
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_with_a_count(name):
    make, options, facts = TAKEN[name]
    make()
    found = load_corpus("a.txt", **options).facts
    assert {key: found[key] for key in facts} == facts


@pytest.mark.slow
def test_a_text_shorter_than_a_batch_trains():
    write("a.txt", "a\nb\nc\n")
    assert cli.main(["train", "--corpus", "a.txt", "--max_steps", "1"]) == 0
