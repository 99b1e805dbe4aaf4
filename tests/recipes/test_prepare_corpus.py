"""A text that is prepared in shares: whole after any interruption, the same from any machine, trained on as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from mlm_recipes import cli, load_corpus, reference, tokenize
from mlm_recipes.data import shard_writer
from mlm_recipes.data.dealt_text import DealtText
from mlm_recipes.data.prepared_index import read_index
from mlm_recipes.data.prepared_rows import PreparedRows, held_out_text
from mlm_recipes.data.text_cache import digests
from mlm_recipes.data.text_to_ids import Encoder
from mlm_recipes.recipes.prepare_corpus import prepare_corpus


@pytest.fixture
def text():
    """A text of 61 paragraphs, of which one is there three times."""
    lines = load_corpus("meditations")["train"]["text"][:58]
    Path("notes.txt").write_text("\n".join([*lines, "Know thyself.", "know  THYSELF.", "Know thyself."]), "utf-8")
    return "notes.txt"


def prepare(text, checkpoint, out="shards", **values):
    values = {"shard_characters": 4_000, "max_length": 64, "validation_fraction": 0.1} | values
    return prepare_corpus("quickstart", corpus=text, model=str(checkpoint), out=out, **values)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*")) if path.is_file()}


def rows_of(folder="shards"):
    return PreparedRows.open(Path(folder), read_index(Path(folder)))


def test_the_rows_are_those_of_the_text(text, checkpoint, tokenizer):
    made = prepare(text, checkpoint)
    rows, held_out = rows_of(), held_out_text(Path("shards"))
    lines, measured = Path(text).read_text("utf-8").splitlines(), digests(held_out["text"])
    trained = [line for line in lines if digests([line])[0] not in measured]
    plain = tokenize(load_corpus(text)["train"].from_dict({"text": trained}), tokenizer, max_length=64)
    assert rows["input_ids"][:] == plain["input_ids"][:]
    assert rows["special_tokens_mask"][:] == plain["special_tokens_mask"][:]
    assert rows["example_id"][:] == plain["example_id"][:]
    index = made.index
    assert len(made.shards) > 2
    assert index.total("rows") == len(rows) == len(plain)
    assert index.total("paragraphs") == len(trained)
    assert index.total("words") == sum(len(line.split()) for line in trained)
    assert index.total("tokens") == sum(map(len, plain["input_ids"]))
    assert index.longest == max(map(len, plain["input_ids"]))
    assert index.total("split_paragraphs") == sum(example >> 40 == 1 for example in plain["example_id"])
    assert index.total("split_paragraphs") > 0
    flat = np.concatenate(plain["input_ids"])[np.concatenate(plain["special_tokens_mask"]) == 0]
    assert np.array_equal(index.token_counts, np.bincount(flat, minlength=len(index.token_counts)))
    assert 0 < len(held_out) < 61 - len(trained) + 1
    assert "shards: " in str(made)
    assert f"{len(made.shards)} shards; {len(trained)} paragraphs, {index.total('tokens'):,} tokens" in str(made)


def test_packed_rows(text, checkpoint):
    prepare(text, checkpoint, packing=True, shard_characters=10**6)
    rows = rows_of()
    assert [len(ids) for ids in rows["input_ids"][:-1]] == [64] * (len(rows) - 1)
    assert rows["example_id"][:] == list(range(len(rows)))


class Killed(BaseException):
    """Stands for a process that ends here: nothing handles it."""


def test_what_is_whole_is_kept_and_what_is_half_is_made_again(text, checkpoint, monkeypatch):
    prepare(text, checkpoint, out="whole")
    encode, calls = Encoder.__call__, []

    def stop_in_the_third(self, texts, ids):
        calls.append(ids)
        if len(calls) == 4:  # the first was for the held-out text
            raise Killed
        return encode(self, texts, ids)

    monkeypatch.setattr(Encoder, "__call__", stop_in_the_third)
    monkeypatch.setattr(shard_writer, "_TOGETHER", 50)
    with pytest.raises(Killed):
        prepare(text, checkpoint)
    half = [path.name for path in Path("shards").glob(".making*")]
    assert half == [".making-share-1-of-1-00003.arrow"]
    with pytest.raises(ValueError, match=r"not completely prepared.*\(1/1\)"):
        read_index(Path("shards"))
    monkeypatch.setattr(Encoder, "__call__", encode)
    before = {path.name: path.stat().st_mtime_ns for path in Path("shards").glob("*-0000[12].*")}
    assert len(before) == 4
    made = prepare(text, checkpoint)
    assert made.kept == 2
    assert "of which 2 were there before" in str(made)
    assert before == {name: (Path("shards") / name).stat().st_mtime_ns for name in before}
    assert contents("shards") == contents("whole")


def test_a_shard_that_lost_a_part_is_made_again(text, checkpoint):
    prepare(text, checkpoint)
    whole = contents("shards")
    damaged = Path("shards/share-1-of-1-00002.arrow")
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"has [\d,]+ bytes instead of"):
        read_index(Path("shards"))
    assert prepare(text, checkpoint).kept == 1
    assert contents("shards") == whole


@pytest.mark.slow
@pytest.mark.parametrize("files", [1, 4])
def test_shares_of_several_machines_become_one_corpus(text, checkpoint, files, monkeypatch):
    monkeypatch.setattr("mlm_recipes.data.dealt_text.DEALT_TOGETHER", 7)
    lines = Path(text).read_text("utf-8").splitlines()
    Path("texts").mkdir()
    for number in range(files):
        Path(f"texts/{number}.txt").write_text("\n".join(lines[number::files]), "utf-8")
    first = prepare("texts", checkpoint, shard="2/3", validation_corpus="meditations")
    assert first.index is None
    assert "Not complete yet: --shard 1/3, 3/3 are missing." in str(first)
    assert not Path("shards/index.json").exists()
    elsewhere = prepare("texts", checkpoint, out="elsewhere", shard="3/3", validation_corpus="meditations")
    for path in Path("elsewhere").glob("share-3*"):
        path.rename(Path("shards") / path.name)
    assert elsewhere.missing == [1, 2]
    last = prepare("texts", checkpoint, shard="1/3", validation_corpus="meditations")
    assert "All 3 shares are complete" in str(last)
    rows = rows_of()
    ids = rows["example_id"][:]
    assert len(set(ids)) == len(ids)
    prepare("texts", checkpoint, out="alone", validation_corpus="meditations")
    alone = rows_of("alone")
    assert sorted(rows["input_ids"][:]) == sorted(alone["input_ids"][:])


def test_a_copy_of_a_held_out_paragraph_is_not_trained_on(text, checkpoint):
    Path("held.txt").write_text("Know thyself.\nSomething else entirely.\n", "utf-8")
    made = prepare(text, checkpoint, validation_corpus="held.txt")
    assert made.index.total("paragraphs") == 58
    assert held_out_text(Path("shards"))["text"][:] == ["Know thyself.", "Something else entirely."]


def test_a_folder_that_was_begun_with_other_values_is_refused(text, checkpoint):
    prepare(text, checkpoint, shard="1/2")
    with pytest.raises(ValueError, match=r"begun with other values: rows.max_length was 64 and is now 32"):
        prepare(text, checkpoint, shard="2/2", max_length=32)
    with Path(text).open("a") as file:
        file.write("\nOne more paragraph.")
    with pytest.raises(ValueError, match=r"begun with other values: corpus.files_sha256 was"):
        prepare(text, checkpoint, shard="2/2")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"deduplicate": "exact"}, "deduplicate: received 'exact' to prepare a text"),
        ({"mix": {"general": 0.1}}, "mix: received"),
        ({"num_proc": 2}, "num_proc: received 2"),
        ({"shard": "0/2"}, "shard: received '0/2'"),
        ({"shard": "3"}, "shard: received '3'"),
        ({"shard_characters": 0}, "shard_characters: received 0"),
        ({"streaming": True, "max_steps": 3}, "streaming: received True"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(values, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        prepare_corpus(corpus="meditations", out="shards", **values)
    assert not Path("shards").exists()


def test_other_files_are_left_alone(text, checkpoint):
    Path("shards").mkdir()
    Path("shards/diary.txt").write_text("mine", "utf-8")
    with pytest.raises(FileExistsError, match="holds other files"):
        prepare(text, checkpoint)
    assert os.listdir("shards") == ["diary.txt"]


def test_two_processes_do_not_prepare_the_same_share(text, checkpoint):
    prepare(text, checkpoint, shard="1/2")
    with FileLock("shards/.share-2-of-2.lock"), pytest.raises(OSError, match="another process is preparing share 2/2"):
        prepare(text, checkpoint, shard="2/2")


def test_a_prepared_corpus_is_no_text(text, checkpoint):
    prepare(text, checkpoint)
    with pytest.raises(ValueError, match="is a prepared corpus, which contains rows of ids and no text"):
        load_corpus("shards")
    with pytest.raises(ValueError, match=r"^corpus: received 'shards', a prepared corpus\. Accepted here: a text"):
        reference("tutorial", corpus="shards", model=str(checkpoint))
    with pytest.raises(ValueError, match=r"is a prepared corpus\. Accepted: a text"):
        prepare("shards", checkpoint, out="again")


def test_an_inspection_finds_a_changed_byte(text, checkpoint, capsys):
    prepare(text, checkpoint)
    assert cli.main(["inspect", "shards"]) == 0
    said = capsys.readouterr().out
    index = read_index(Path("shards"))
    assert f"{index.total('paragraphs')} paragraphs" in said
    assert f"fingerprint {index.fingerprint}" in said
    path = Path("shards/share-1-of-1-00002.arrow")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert cli.main(["inspect", "shards"]) == 1
    assert "Damaged, of" in (said := capsys.readouterr().out)
    assert path.name in said
    assert cli.main(["inspect", "shards", "--max_length", "9"]) == 2


def test_the_command_line(text, checkpoint, capsys):
    command = ["prepare", text, "--model", str(checkpoint), "--out", "shards", "--shard", "1/1", "--max_length", "64"]
    assert cli.main(command) == 0
    assert f"Train on them: mlm-recipes train --corpus shards --model {checkpoint}" in capsys.readouterr().out
    assert cli.main(["prepare", text]) == 2
    assert "out: received nothing" in capsys.readouterr().err
    assert cli.main(["prepare", "--help"]) == 0
    assert "--shard I/N" in capsys.readouterr().out


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_whole_shards_only(text, checkpoint):
    many = "\n".join(f"{line} {number}" for number in range(60) for line in Path(text).read_text("utf-8").splitlines())
    Path("many.txt").write_text(many, "utf-8")
    command = [
        *(sys.executable, "-m", "mlm_recipes", "prepare", "many.txt", "--model", str(checkpoint), "--out", "shards"),
        *("--shard_characters", "20000", "--max_length", "64"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(Path("shards").glob("share-1-of-1-00003.json")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("shards/index.json").exists()
    there = {path.name for path in Path("shards").glob("share-*.json")}
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"of which {len(there)} were there before" in done.stdout
    made = json.loads(Path("shards/index.json").read_text("utf-8"))
    assert made["totals"]["paragraphs"] == read_index(Path("shards")).total("paragraphs") > 3_000
    assert not list(Path("shards").glob(".making*"))


def test_a_text_whose_end_is_missing_is_refused(text, checkpoint, monkeypatch):
    monkeypatch.setattr(DealtText, "files_sha256", lambda self: "as before")
    Path("held.txt").write_text("One that is measured.\nAnd another one.", "utf-8")
    prepare(text, checkpoint, validation_corpus="held.txt")
    Path(text).write_text("\n".join(Path(text).read_text("utf-8").splitlines()[:40]), "utf-8")
    with pytest.raises(ValueError, match=r"it ends before its paragraph 61"):
        prepare(text, checkpoint, validation_corpus="held.txt")
