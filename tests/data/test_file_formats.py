from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes.data.file_formats import find_files, path_kind


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("text")


def names(found):
    files, left_out = found
    return [str(path) for path, _ in files], {kind for _, kind in files}, left_out


def test_a_folders_files_have_the_format_with_the_most_bytes():
    make("f/a.txt", "f/deep/b.txt.gz", "f/notes.md", "f/t.csv", "f/.hidden/c.txt", "f/.d.txt", "f/picture.png")
    assert names(find_files("f", "folder")) == (["f/a.txt", "f/deep/b.txt.gz"], {"text"}, 3)


def test_files_about_other_files_are_not_read():
    make("f/README.md", "f/LICENSE.txt", "f/requirements.txt", "f/data/t.jsonl")
    assert names(find_files("f", "folder")) == (["f/data/t.jsonl"], {"jsonl"}, 0)
    make("g/dataset_info.json", "g/state.json", "g/data-0.arrow")
    assert names(find_files("g", "folder")) == (["g/data-0.arrow"], {"arrow"}, 0)


def test_a_pattern_is_expanded_unless_a_file_has_that_name():
    make("f/a.txt", "f/b.txt", "f/c.md", "f/deep/d.txt")
    assert names(find_files("f/*.txt", "pattern")) == (["f/a.txt", "f/b.txt"], {"text"}, 0)
    assert names(find_files("f/**/*.txt", "pattern"))[0] == ["f/a.txt", "f/b.txt", "f/deep/d.txt"]
    assert path_kind("f/*.txt") == "pattern"
    make("notes[1].txt", "texts [old]/a.txt")
    assert [path_kind(name) for name in ("notes[1].txt", "texts [old]")] == ["file", "folder"]
    assert names(find_files("notes[1].txt", "file"))[0] == ["notes[1].txt"]
    make("h/one.log", "h/two.log")
    assert names(find_files("h/*.log", "pattern")) == (["h/one.log", "h/two.log"], {"text"}, 0)
    with pytest.raises(ValueError, match=r"no file matches 'f/\*\.pdf'"):
        find_files("f/*.pdf", "pattern")


@pytest.mark.parametrize("name", ["texts.zip", "texts.tar", "texts.tar.gz", "texts.tgz", "texts.7z"])
def test_an_archive_is_not_unpacked(name):
    make(name)
    with pytest.raises(ValueError, match="is an archive"):
        find_files(name, "file")
