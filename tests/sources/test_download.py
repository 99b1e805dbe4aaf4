"""Downloads from a real local server, with the faults of real servers."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from text_server import Server

from mlm_recipes import load_corpus
from mlm_recipes.sources.download import download, from_standard_input

TEXT = b"one\ntwo\nthree, by an address"


@pytest.fixture
def server():
    server = Server(TEXT)
    yield server
    server.close()


def test_a_file_with_a_known_sha256_is_fetched_once(server):
    digest = hashlib.sha256(TEXT).hexdigest()
    files = {download(server.url, digest) for _ in range(2)}
    assert [file.read_bytes() for file in files] == [TEXT]
    assert server.requests == 1
    assert load_corpus(server.url, sha256=digest).facts["name"] == "clean"


def test_without_a_sha256_the_file_is_fetched_each_time_and_equal_content_stored_once(server, caplog):
    with caplog.at_level("INFO", logger="mlm_recipes"):
        first = download(server.url)
    assert f"sha256 {hashlib.sha256(TEXT).hexdigest()}" in caplog.text
    assert download(server.url) == first
    server.text = b"four\nfive"
    assert download(server.url).read_bytes() == b"four\nfive"
    assert first.read_bytes() == TEXT
    assert server.requests == 3


def test_content_with_another_sha256_is_refused_and_discarded(server):
    wanted = hashlib.sha256(b"wanted").hexdigest()
    with pytest.raises(ValueError, match=rf"its sha256 is {hashlib.sha256(TEXT).hexdigest()}. Accepted: {wanted}"):
        download(server.url, wanted)
    server.text = b"wanted"
    assert download(server.url, wanted).read_bytes() == b"wanted"


def test_a_partial_file_is_not_kept():
    server = Server(b"a line\n" * 100_000, "cut")
    try:
        with pytest.raises(ValueError, match="the connection was cut before the end"):
            download(server.url)
        server.fault = ""
        assert len(download(server.url).read_bytes()) == 700_000
    finally:
        server.close()


def test_standard_input_becomes_a_file(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    corpus = load_corpus("-")
    assert corpus.facts["name"] == "stdin"
    assert Path(corpus.facts["source"]).read_text() == "one\ntwo\n"


def test_standard_input_is_for_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="with several processes"):
        from_standard_input()
