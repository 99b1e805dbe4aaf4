"""A name is resolved once, for each kind of source, with a warning if it is ambiguous."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
from pathlib import Path

import pytest
from text_server import Server

from mlm_recipes import load_corpus
from mlm_recipes.data import corpus_name
from mlm_recipes.data.corpus import load_paragraphs
from mlm_recipes.data.corpus_name import CORPORA, Reading, Version, known_corpora, resolve

WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?")


@pytest.fixture
def server():
    server = Server(b"one\ntwo\nthree")
    yield server
    server.close()


def write(name: str, content: str = "one\ntwo\n") -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content, encoding="utf-8")


def texts(name: str) -> list[str]:
    return load_paragraphs(resolve(name))["text"][:]


# Each kind


def test_a_known_corpus():
    found = resolve("general-english", Reading(encoding="utf-16", sample_by="document"))
    assert (found.kind, found.name, found.licence) == ("known", "general-english", "CC0-1.0")
    assert found.files == ((CORPORA / "general-english.txt", "text"),)
    assert found.reading == Reading(sample_by="line")  # its own, not that of the run's other texts


@pytest.mark.parametrize(
    ("name", "kind", "called", "files", "left_out"),
    [
        ("f/a.txt", "file", "a", ["f/a.txt"], 0),
        ("f", "folder", "f", ["f/a.txt", "f/b.txt.gz"], 1),
        ("f/", "folder", "f", ["f/a.txt", "f/b.txt.gz"], 1),
        ("f/*.txt", "pattern", "f", ["f/a.txt"], 0),
        ("f/*", "pattern", "f", ["f/a.txt", "f/b.txt.gz"], 1),
        ("f[1].txt", "file", "f[1]", ["f[1].txt"], 0),
        ("owner/name", "folder", "name", ["owner/name/c.csv"], 0),  # takes precedence over a data set of the hub
        ("~/mine.txt", "file", "mine", ["home/mine.txt"], 0),
    ],
)
def test_files_folders_and_patterns(name, kind, called, files, left_out, monkeypatch):
    for path in ("f/a.txt", "f/b.txt.gz", "f/c.csv", "f[1].txt", "owner/name/c.csv", "home/mine.txt"):
        write(path, "longer\n" if path.endswith(("txt", "gz")) else "")
    monkeypatch.setenv("HOME", "home")
    reading = Reading(encoding="cp1252")
    found = resolve(name, reading)
    assert (found.kind, found.name, found.source, found.path) == (kind, called, name, name)
    assert ([str(file) for file, _ in found.files], found.files_left_out) == (files, left_out)
    assert found.reading is reading
    assert found.facts() == {"name": called, "source": name}


def test_a_folder_or_a_pattern_is_searched_once(monkeypatch):
    write("f/a.txt")
    for name in ("f", "f/*.txt"):
        found = resolve(name)
        write("f/later.txt", "three\n")
        assert load_paragraphs(found)["text"][:] == ["one", "two"]
        Path("f/later.txt").unlink()


def test_a_url(server):
    server.text = b"four\nfive"
    address = server.url.replace("//", "//someone:secret@") + "?key=secret"
    found = resolve(address, version=Version(sha256=hashlib.sha256(server.text).hexdigest()))
    assert (found.kind, found.name) == ("address", "clean")
    assert "secret" not in found.source
    assert [(file.read_bytes(), format) for file, format in found.files] == [(server.text, "text")]
    assert load_paragraphs(found)["text"][:] == ["four", "five"]
    assert resolve(address, version=found.version) == found
    assert server.requests == 1  # with its sha256, the local copy is found
    with pytest.raises(ValueError, match="its sha256 is"):
        resolve(address, version=Version(sha256="0" * 64))


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    found = resolve("-")
    assert (found.kind, found.name, found.source) == ("standard input", "stdin", found.path)
    assert [load_paragraphs(found)["text"][:] for _ in range(2)] == [["one", "two"]] * 2


def test_standard_input_is_not_streamed_and_not_read(monkeypatch):
    given = io.BytesIO(b"one\ntwo\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))
    with pytest.raises(ValueError, match=r"standard input, with streaming.*leave out --streaming"):
        resolve("-", for_streaming=True)
    assert given.tell() == 0


def test_a_data_set_of_the_hub():
    version = Version(config="plain", split="test", revision="v1")
    found = resolve(
        "owner/name", version=version, for_streaming=True
    )  # without a network, since the hub is not contacted
    assert (found.kind, found.name, found.version, found.files) == ("hub", "owner/name", version, ())
    assert found.facts() == {"name": "owner/name", "source": "hub:owner/name"}


# Ambiguous names


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_known_corpus_precedes_a_file_of_the_same_name_with_a_warning(kind, caplog, tmp_path):
    write("meditations" if kind == "file" else "meditations/mine.txt")
    assert resolve("meditations").kind == "known"
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        f"corpus: 'meditations' is the known corpus, not the {kind} of that name in {tmp_path}. To read the {kind}, "
        "name it ./meditations"
    ]
    caplog.clear()
    assert (resolve("./meditations").kind, resolve("./meditations").name) == (kind, "meditations")
    assert texts("./meditations") == ["one", "two"]
    assert not caplog.records


def test_an_unambiguous_name_has_no_warning(caplog):
    assert resolve("meditations").kind == "known"
    assert not caplog.records


# Refused names


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "./notes", "texts/deep/notes.txt", "~/no-such-notes.txt"])
def test_a_missing_file_is_named(name, streaming):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no file or folder {name!r} (looked in")):
        resolve(name, for_streaming=streaming)


def test_a_broken_link_is_distinguished_from_a_missing_file():
    os.symlink("gone", "a.txt")
    with pytest.raises(FileNotFoundError, match="It is a broken link"):
        resolve("a.txt")


@pytest.mark.parametrize("streaming", [False, True])
def test_the_error_for_an_unknown_name_lists_the_known_ones(streaming):
    with pytest.raises(ValueError, match=r"Did you mean 'meditations'\?.*meditations, meditations-long"):
        resolve("meditation", for_streaming=streaming)


@pytest.mark.parametrize(
    ("name", "says"),
    [("f/*.pdf", "no file matches"), ("f", "the folder 'f' contains no text"), ("a.zip", "an archive")],
)
def test_a_source_without_text_is_refused_before_reading(name, says):
    Path("f").mkdir()
    Path("a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=says):
        resolve(name)
    write("notes.txt", "one\n\0")  # would also be refused if it were read
    with pytest.raises(ValueError, match=says):
        load_corpus("notes.txt", validation_corpus=name)


@pytest.mark.parametrize("option", ["config", "split", "revision", "sha256"])
def test_a_version_is_refused_if_it_does_not_apply(option, server, monkeypatch):
    write("notes.txt")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one")))
    others = ["meditations", "notes.txt", ".", "*.txt", "-", "owner/name" if option == "sha256" else server.url]
    what = "an http(s) URL" if option == "sha256" else "a data set of the hub"
    for name in others:
        message = f"corpus_{option}: received 'x' for {name!r}, which is not {what}. Accepted: a value only if --corpus"
        with pytest.raises(ValueError, match=re.escape(message)):
            resolve(name, version=Version(**{option: "x"}))
        with pytest.raises(ValueError, match=re.escape(message)):
            load_corpus(name, **{option: "x"})
    assert server.requests == 0


@pytest.mark.parametrize(
    ("option", "accepted"),
    [("sample_by", "auto, line"), ("encoding", "a name that Python knows"), ("encoding_errors", "strict or replace")],
)
def test_an_unknown_reading_option_is_refused(option, accepted):
    with pytest.raises(ValueError, match=f"{option}: received 'x'. Accepted: {accepted}"):
        Reading(**{option: "x"})


# The bundled texts


def test_the_bundled_text_matches_its_metadata():
    facts = known_corpora()["meditations"]
    text = (CORPORA / "meditations.txt").read_bytes()
    lines = text.decode("ascii").splitlines()
    assert hashlib.sha256(text).hexdigest() == facts["sha256"]
    assert len(lines) == facts["paragraphs"] >= 240
    assert len(text.split()) == facts["words"] >= 14_000
    assert facts["licence"] == "CC0-1.0"
    ends = [facts["books"][book] for book in range(1, 13)]
    assert ends[0][0] == 1
    assert ends[-1][1] == len(lines)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(ends))


def test_no_two_bundled_paragraphs_share_eight_words_in_a_row():
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate((CORPORA / "meditations.txt").read_text("ascii").splitlines(), start=1):
        words = WORDS.findall(line.lower())
        for run in {tuple(words[i : i + 8]) for i in range(len(words) - 7)}:
            assert seen.setdefault(run, number) == number, f"lines {seen[run]} and {number} share: {' '.join(run)}"


def test_the_ordinary_language_matches_its_metadata_and_loads_completely():
    facts = known_corpora()["general-english"]
    text = (CORPORA / "general-english.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest() == facts["sha256"]
    assert (len(text.decode("ascii").splitlines()), len(text.split())) == (facts["paragraphs"], facts["words"])
    rows = load_paragraphs(resolve("general-english"))
    assert list(rows["text"]) == text.decode("ascii").splitlines()
    assert rows["example_id"] == list(range(60))


# A corpus downloaded on demand, from a real server


def name_it(monkeypatch, url, sha256):
    sidecar = {"source": "a test", "licence": "none", "url": url, "sha256": sha256}
    monkeypatch.setattr(corpus_name, "known_corpora", lambda: {"remote": sidecar})


def test_a_remote_corpus_is_downloaded_once_and_checked(monkeypatch, server):
    name_it(monkeypatch, server.url, hashlib.sha256(server.text).hexdigest())
    assert texts("remote") == ["one", "two", "three"]
    assert texts("remote") == ["one", "two", "three"]
    assert server.requests == 1
    assert resolve("remote").facts() == {"name": "remote", "source": server.url, "licence": "none"}


def test_a_remote_corpus_with_changed_content_is_refused_and_removed(monkeypatch, server):
    name_it(monkeypatch, server.url, "0" * 64)
    with pytest.raises(ValueError, match=r"its sha256 is [0-9a-f]{64}. Accepted: 0{64}"):
        resolve("remote")
    name_it(monkeypatch, server.url, hashlib.sha256(server.text).hexdigest())
    assert texts("remote") == ["one", "two", "three"]


def test_the_error_for_an_unreachable_corpus_names_the_next_step(monkeypatch, server):
    name_it(monkeypatch, "http://127.0.0.1:9/clean.txt", "0" * 64)
    with pytest.raises(ValueError, match="cannot be fetched: no connection"):
        resolve("remote")


@pytest.mark.network
def test_meditations_long_is_the_tutorials_text(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    assert len(texts("meditations-long")) == 507
