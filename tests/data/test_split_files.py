"""The splits of a folder: saved by datasets, or named as on the hub."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from datasets.data_files import get_data_patterns, resolve_pattern

from mlm_recipes import cli, load_corpus
from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.file_formats import find_files
from mlm_recipes.data.split_files import splits_in


def lines(split: str, number: int = 30) -> list[str]:
    return [f"{split} {n} says the pilot" for n in range(number)]


def save(folder: str, *splits: str) -> None:
    DatasetDict({split: Dataset.from_dict({"said": lines(split)}) for split in splits}).save_to_disk(folder)


def write(name: str, texts: list[str]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(json.dumps({"said": text}) + "\n" for text in texts)
    Path(name).write_text(rows if name.endswith(".jsonl") else "\n".join(texts))


def origins(corpus) -> dict[str, set[str]]:
    return {part: {text.split()[0] for text in corpus[part]["text"]} for part in corpus}


@pytest.mark.parametrize(
    ("splits", "held_out", "roles"),
    [
        (("train", "validation", "test"), {"validation"}, ["trained on", "held out", "not read"]),
        (("train", "test"), {"train"}, ["trained on", "not read"]),
        (("train", "dev"), {"dev"}, ["trained on", "held out"]),
        (("train", "validation_matched"), {"train"}, ["trained on", "not read"]),
        (("train",), {"train"}, ["trained on"]),
    ],
)
def test_a_saved_dataset_dict_is_read_with_its_own_splits(splits, held_out, roles):
    save("saved", *splits)
    corpus = load_corpus("saved")
    assert origins(corpus) == {"train": {"train"}, "validation": held_out}
    assert corpus.facts["splits"] == dict(zip(splits, roles, strict=True))


def test_one_split_of_it_is_read_alone():
    save("saved", "train", "validation", "test")
    corpus = load_corpus("saved/train")
    assert origins(corpus) == {"train": {"train"}, "validation": {"train"}}
    assert corpus.facts["splits"] == {"train": "trained on", "validation": "not read", "test": "not read"}
    asked = load_corpus("saved", split="test")
    assert origins(asked) == {"train": {"test"}, "validation": {"test"}}
    with pytest.raises(ValueError, match=r"'saved' has the splits train, validation, test, not 'dev'"):
        load_corpus("saved", split="dev")
    save("others", "supervised", "unsupervised")
    with pytest.raises(ValueError, match=r"has the splits supervised, unsupervised, not 'train'.*--corpus_split"):
        load_corpus("others")


def test_a_separate_text_replaces_the_validation_split():
    save("saved", "train", "validation")
    write("other.txt", lines("other", 5))
    corpus = load_corpus("saved", validation_corpus="other.txt")
    assert origins(corpus) == {"train": {"train"}, "validation": {"other"}}
    assert corpus.facts["splits"] == {"train": "trained on", "validation": "not read"}
    held_out = load_corpus("other.txt", validation_corpus="saved")
    assert origins(held_out) == {"train": {"other"}, "validation": {"validation"}}
    assert held_out.facts["validation_corpus"]["splits"] == {"train": "not read", "validation": "held out"}


def test_what_datasets_left_beside_a_saved_data_set_is_not_read():
    Dataset.from_dict({"said": lines("alone")}).save_to_disk("saved")
    shutil.copy("saved/data-00000-of-00001.arrow", "saved/cache-0123456789abcdef.arrow")
    corpus = load_corpus("saved")
    assert sum(corpus.num_rows.values()) == 30
    assert "splits" not in corpus.facts


def matching(patterns: list[str]) -> list[str]:
    found: set[str] = set()
    for pattern in patterns:
        with contextlib.suppress(FileNotFoundError):  # nothing matches
            found |= {
                str(Path(file).relative_to(Path.cwd())) for file in resolve_pattern(pattern, str(Path.cwd() / "texts"))
            }
    return sorted(found)


@pytest.mark.parametrize(
    "names",
    [
        ["train.jsonl", "validation.jsonl", "test.jsonl"],
        ["train.txt", "valid.txt", "test.txt"],
        ["my_train_file.jsonl", "my_dev_file.jsonl"],
        ["train1.jsonl", "train2.jsonl", "val-00.jsonl"],
        ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/dev-00000-of-00001.jsonl"],
        ["train/a.txt", "train/b.txt", "validation/a.txt", "test/test.txt"],
        ["en/training/a.txt", "en/eval/train.txt"],
        ["trained.txt", "a-latest.txt", "device.txt"],
        ["Train.txt", "contest.txt"],
    ],
)
def test_names_are_those_of_the_hub(names):
    for name in names:
        write(f"texts/{name}", lines(name))
    files, _ = find_files("texts", "folder")
    found = {split: sorted(str(file) for file, _ in part) for split, part in splits_in(Path("texts"), files).items()}
    theirs = {
        str(split): matching(patterns) for split, patterns in get_data_patterns(str(Path("texts").resolve())).items()
    }
    theirs = {"validation" if split == "dev" else split: part for split, part in theirs.items()}
    found = {"validation" if split == "dev" else split: part for split, part in found.items()}
    assert found == (theirs if len(theirs) > 1 else {})


def test_files_named_after_splits_beside_others_are_asked():
    for name in ("train", "test", "more"):
        write(f"texts/{name}.jsonl", lines(name))
    with pytest.raises(ValueError, match=r"named after the splits train, test, and 1 are not \(more.jsonl\)"):
        load_corpus("texts")
    Path("texts/train.jsonl").unlink()
    assert len(load_corpus("texts")["train"]) == 54  # one of many files may be called test


def test_a_pattern_reads_all_and_says_so(caplog):
    for name in ("train", "test"):
        write(f"texts/{name}.jsonl", lines(name))
    assert origins(load_corpus("texts/*.jsonl"))["train"] == {"train", "test"}
    assert "named after the splits train, test, and are all read as one text" in caplog.text
    assert len(load_corpus("texts/train.jsonl")["train"]) == 27


@pytest.mark.parametrize("streaming", [[], ["--streaming", "true"]])
def test_a_run_says_which_splits_it_uses(checkpoint, streaming, capsys):
    save("saved", "train", "validation", "test")
    arguments = ["--max_steps", "1", "--max_length", "16", "--eval_draws", "1", "--pseudo_perplexity_tokens", "50"]
    flags = ["--general_corpus", "none", "--output_dir", "run", "--save_strategy", "no", *arguments, *streaming]
    assert cli.main(["train", "--corpus", "saved", "--model", str(checkpoint), *flags]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Its split train is trained on, validation is held out; not read: test." in out
    assert "The text is the column 'said' (the only column of strings" in out
    facts = json.loads(Path("run/metrics.json").read_text())["corpus"]
    assert facts["splits"] == {"train": "trained on", "validation": "held out", "test": "not read"}
    assert facts["validation"] == 30
    report = Path("run/report.html").read_text()
    assert "Its split train is trained on, validation is held out" in report
    assert "The text is the column" in report


def test_a_streamed_folder_reads_only_its_own_splits():
    save("saved", "train", "validation", "test")
    source = resolve("saved", for_streaming=True)
    assert [file.parent.name for file, _ in source.files] == ["train"]
    assert [file.parent.name for file, _ in source.held_out_files] == ["validation"]
