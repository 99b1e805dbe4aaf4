from __future__ import annotations

import pytest

from mlm_recipes.data.line_file import read_lines

ASKED = ("prompts", "a text file", "Check the path.")


def test_lines_are_read_without_a_byte_order_mark_and_ends(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n\nthree")
    assert read_lines(path, *ASKED) == ["one", "two", "", "three"]


def test_a_file_that_is_not_utf8_is_refused_with_the_place(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"prompts: .*lines.txt' is not UTF-8 \(unexpected end of data at byte 3\)"):
        read_lines(path, *ASKED)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a file .*Accepted: a text file\. Check the path\."):
        read_lines(tmp_path, *ASKED)
