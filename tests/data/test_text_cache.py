from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes.data.text_cache import _in_batches, read_once


def test_a_cached_text_is_not_read_again():
    reads = 0

    def read(counts):
        nonlocal reads
        reads += 1
        counts["blank_lines_dropped"] += 2
        yield from ("one two", "THREE", "three ")

    for _ in range(2):
        rows, counts = read_once(["a test", 1], read)
        assert rows["text"] == ["one two", "THREE", "three "]
        assert rows["example_id"] == [0, 1, 2]
        assert rows["words"] == [2, 1, 1]
        assert rows["digest"][1] == rows["digest"][2] != rows["digest"][0]
        assert (counts["blank_lines_dropped"], counts["paragraphs"], counts["words"]) == (2, 3, 4)
    assert reads == 1
    again, other = read_once(["a test", 2], read)
    assert (reads, other) == (2, counts)
    assert again._fingerprint != rows._fingerprint


def test_an_interrupted_read_leaves_nothing():
    def breaks(counts):
        yield "one"
        raise ValueError("line 2")

    for _ in range(2):
        with pytest.raises(ValueError, match="line 2"):
            read_once("breaks", breaks)
    rows, _ = read_once("breaks", lambda counts: ["one", "two"])
    assert rows["text"] == ["one", "two"]


def test_the_cache_is_readable_by_other_users_and_a_faster_process_is_not_an_error(monkeypatch):
    def read(counts):
        read_once("both", lambda counts: ["one", "two"])  # written by the other process in the meantime
        return ["one", "two"]

    rows, _ = read_once("both", read)
    assert rows["text"] == ["one", "two"]
    folder = Path(rows.cache_files[0]["filename"]).parent
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in folder.parent.glob("reading-*")] == []


def test_long_texts_are_written_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr("mlm_recipes.data.text_cache._CHARACTERS", 10)
    assert [len(batch) for batch in _in_batches(["12345", "67890", "1", "2"])] == [2, 2]


def test_several_batches_and_no_text(monkeypatch):
    monkeypatch.setattr("mlm_recipes.data.text_cache._BATCH", 3)
    rows, counts = read_once("seven", lambda counts: map(str, range(7)))
    assert (rows["example_id"], counts["paragraphs"]) == (list(range(7)), 7)
    rows, counts = read_once("none", lambda counts: [])
    assert (len(rows), counts["paragraphs"]) == (0, 0)
