"""A text has the same paragraphs whether it is read whole or streamed; and data sets of the hub."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from mlm_recipes import load_corpus
from mlm_recipes.data import hub_texts
from mlm_recipes.data.corpus_name import Reading, Version, resolve
from mlm_recipes.data.paragraphs import COUNTS, read_paragraphs, stream_paragraphs


def test_a_stream_has_the_paragraphs_of_the_text_read_whole(tmp_path):
    path = tmp_path / "texts"
    path.mkdir()
    (path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\n  \n")
    (path / "b.txt").write_bytes(b" three \nfour")
    (path / "c.csv").write_bytes(b"text\n")
    source = resolve(str(path))
    read = stream_paragraphs(source)
    assert list(read()) == list(read()) == ["one", "two", " three ", "four"]
    rows, held_out, facts = read_paragraphs(source)
    assert (rows["text"][:], held_out) == (list(read()), None)
    counted = {key: facts[key] for key in COUNTS if facts[key]}
    assert counted == {"blank_lines_dropped": 2, "files_left_out": 1}
    assert (facts["name"], facts["source"], facts["files_read_by_line"]) == ("texts", str(path), 2)


def test_both_use_the_same_reading():
    Path("a.jsonl").write_bytes('{"a": "longer than b", "b": "caf\u00e9"}\n'.encode("cp1252"))
    Path("b.txt").write_bytes("caf\u00e9\nau lait".encode("cp1252"))
    for name, texts in (("a.jsonl", ["caf\u00e9"]), ("b.txt", ["caf\u00e9\nau lait"])):
        source = resolve(name, Reading(text_column="b", sample_by="document", encoding="cp1252"))
        assert list(stream_paragraphs(source)()) == read_paragraphs(source)[0]["text"][:] == texts


def test_a_streams_error_names_the_line_that_is_not_utf8(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"one\ntwo\xff\n")
    with pytest.raises(ValueError, match=r"text\.txt, line 2: not UTF-8 \(byte 0xff at position 4"):
        list(stream_paragraphs(resolve("text.txt"))())


def test_a_stream_of_the_hub_reports_a_missing_network():
    read = stream_paragraphs(resolve("owner/name"))
    with pytest.raises(ValueError, match=r"'owner/name'.*hub cannot be reached"):
        next(read())


# Data sets of the hub (with a fake load_dataset; errors in reaching the hub are tested above)


def from_hub(monkeypatch, **splits):
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()})
    monkeypatch.setattr(hub_texts, "load_splits", lambda name, **asked: splits)


def test_a_hub_data_set_keeps_its_own_validation_split(monkeypatch):
    from_hub(monkeypatch, train={"body": ["one", "two", "", "THREE"]}, validation={"body": ["three", "four"]})
    corpus = load_corpus("someone/texts", text_column="body")
    assert corpus["train"]["text"] == ["one", "two"]  # "THREE" is already held out
    assert corpus["validation"]["text"] == ["three", "four"]
    assert corpus["validation"]["example_id"] == [0, 1]
    assert corpus.facts["dropped_as_duplicate_of_validation"] == 1
    assert corpus.facts["rows_without_text"] == 1


def test_a_hub_data_sets_column_is_chosen_once_for_all_its_splits(monkeypatch):
    said = [f"In report {n} the pilot says that the pump failed again." for n in range(40)]
    titles = [f"Report {n}" for n in range(40)]
    late = {"title": titles, "body": [None] * 20 + said[:20]}
    from_hub(
        monkeypatch, train=late, dev={"title": titles[:20], "body": said[20:]}, test={"title": ["x"], "body": ["y"]}
    )
    corpus = load_corpus("someone/texts")
    assert corpus["train"]["text"] == said[:20]
    assert corpus["validation"]["text"] == said[20:]
    assert corpus.facts["splits"] == {"train": "trained on", "dev": "held out", "test": "not read"}
    from_hub(monkeypatch, train={"premise": said, "hypothesis": said[::-1]})
    with pytest.raises(ValueError, match=r"may be in several columns: premise \(.*hypothesis \("):
        load_corpus("someone/texts")


def test_a_hub_data_set_without_one_is_split(monkeypatch):
    from_hub(
        monkeypatch, train={"text": ["one", "two", "three"], "label": [0, 1, 0]}, test={"text": ["x"], "label": [0]}
    )
    corpus = load_corpus("someone/texts")
    assert sorted([*corpus["train"]["text"], *corpus["validation"]["text"]]) == ["one", "three", "two"]
    assert corpus["train"].column_names == ["text", "example_id"]


def test_a_hub_data_set_without_the_column_or_the_split_is_refused(monkeypatch):
    from_hub(monkeypatch, train={"body": ["one", "two"], "label": [0, 1]})
    with pytest.raises(ValueError, match=r"no column 'text'. Accepted: one of body, label"):
        load_corpus("someone/texts", text_column="text")
    with pytest.raises(
        ValueError, match=r"the column 'label' of 'someone/texts' contains Value.*Accepted: a column of str"
    ):
        load_corpus("someone/texts", text_column="label")
    from_hub(monkeypatch, train={"text": ["one", "two"]}, validation={"text": ["two", "one"]})
    with pytest.raises(ValueError, match="nothing to train on"):
        load_corpus("someone/texts")
    from_hub(monkeypatch, test={"text": ["one", "two"]})
    with pytest.raises(ValueError, match=r"has the splits test, not 'train'"):
        load_corpus("someone/texts")


def test_the_requested_split_and_column_are_read(monkeypatch):
    asked = {}
    splits = {"train": {"text": ["one"]}, "test": {"text": ["two"], "body": ["three"]}, "validation": {"text": ["4"]}}
    splits = datasets.DatasetDict({name: datasets.Dataset.from_dict(columns) for name, columns in splits.items()})
    monkeypatch.setattr(hub_texts, "load_splits", lambda name, **more: asked.update(more, name=name) or splits)
    version = Version(config="plain", split="test", revision="v1")
    rows, held_out, facts = read_paragraphs(resolve("owner/name", Reading(text_column="body"), version))
    assert (rows["text"][:], held_out, facts["source"]) == (["three"], None, "hub:owner/name")
    assert asked == {"name": "owner/name", "config": "plain", "revision": "v1"}
