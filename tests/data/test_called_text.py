"""A table that is called .txt is asked about; text is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlm_recipes import load_corpus
from mlm_recipes.data.called_text import table_ending


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        ([json.dumps({"id": n, "text": f"number {n}"}) for n in range(3)], ".jsonl"),
        ([f"text number {n}\t{n % 2}" for n in range(30)], ".tsv"),
        (["id,text", *(f'{n},"text, number {n}"' for n in range(30))], ".csv"),
        ([f"\tA paragraph that begins with a tab, number {n}." for n in range(30)], None),
        ([f"{n}, number {n}, and so on" for n in range(30)], None),
        (["Ann: hello", *(f"{n}:00, she said: well" for n in range(30))], None),
        (["id,text", "1,one"], None),
        (["{a}", "{b}"], None),
        (json.dumps([{"text": "one"}, {"text": "two"}], indent=2).split("\n"), ".json"),
        (json.dumps({"data": [{"text": "one"}]}, indent=2).split("\n"), ".json"),
        ([json.dumps([{"text": "one"}])], ".json"),
        (["[1] See above.", "[2] See below."], None),
        (['["To be", he said]', "and so on"], None),
        ([], None),
    ],
)
def test_a_table_is_told_from_text(lines, ending):
    assert table_ending(lines) == ending


def test_a_table_that_is_called_text_is_asked_about(tmp_path):
    file = Path(tmp_path / "notes.txt")
    file.write_text("".join(json.dumps({"text": f"number {n}"}) + "\n" for n in range(30)))
    with pytest.raises(ValueError, match=r"Rename it to end in \.jsonl.*pass --sample_by line"):
        load_corpus(file)
    with pytest.raises(ValueError, match=r"lines are those of a table"):
        load_corpus(tmp_path)
    assert load_corpus(file, sample_by="line")["train"][0]["text"].startswith('{"text"')
