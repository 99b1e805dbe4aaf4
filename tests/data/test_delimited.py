"""How a file called .csv or .tsv is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlm_recipes import load_corpus
from mlm_recipes.data.delimited import dialect_of

SAID = [f"The pilot reads chart {n}." for n in range(12)]


def dialect(*lines: str, **options):
    return dialect_of(lines, **options)


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        (["id,text", "1,one", "2,two"], ("id", "text")),
        ([",text", "0,one", "1,two"], ("1", "text")),
        (["0,1", "5,one thing", "6,two things"], ("0", "1")),
        (["When,How do you feel about the pump today?", "2024-01-01,well", "2024-01-02,badly"],
         ("When", "How do you feel about the pump today?")),
        (["text,text", "a b,c d", "e f,g h"], ("text", "text.2")),
        (["id, text", "1, one", "2, two"], ("id", "text")),
        (["1,one", "2,two"], ("1", "2")),
        (["The pump failed again today.,pos", "It works.,neg", "Far away.,pos"], ("1", "2")),
        (["good film,pos", "bad film,neg", "so so,pos"], ("1", "2")),
        (["https://example.org/a,one", "https://example.org/b,two"], ("1", "2")),
        (["LJ001-0001|Mr. Old said so|Mister Old said so", "LJ001-0002|No, no, no|No, no, no"], ("1", "2", "3")),
    ],
)  # fmt: skip
def test_a_header_is_told_from_a_row(lines, columns):
    assert dialect(*lines).columns == columns


def test_the_named_column_says_whether_there_is_a_header():
    lines = ["good film,fine", "bad film,poor"]
    assert dialect(*lines).header
    assert not dialect(*lines, column="2").header
    assert dialect("It failed again today.,x", "Far away.,y", column="It failed again today.").header


def test_a_label_of_the_first_row_is_no_name_of_a_column():
    lines = ["2,It failed again today.", "1,Far away.", "2,So so."]  # the text is in column 2
    assert not dialect(*lines, column="2").header
    assert dialect("id,text", "1,one", "2,two", column="2").header  # so this is refused, with the names


def test_a_label_that_equals_the_number_of_the_column_keeps_the_text(tmp_path):
    for label in (1, 2):
        rows = [f'"{label}","first of all"', *(f'"{n % 2 + 1}","text number {n}"' for n in range(20))]
        Path("t.csv").write_text("\n".join(rows))
        for column in (None, "2"):
            assert texts("t.csv", text_column=column)[0] == "first of all"


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_the_line_that_tells_excel_the_separator_is_no_row(separator):
    rows = [f"sep={separator}", f"id{separator}Text", *(f"{n}{separator}text number {n}" for n in range(20))]
    Path("t.csv").write_text("\r\n".join(rows))
    assert texts("t.csv")[:2] == ["text number 0", "text number 1"]
    Path("t.csv").write_text("\n".join([*rows, f"21{separator}one{separator}two"]))
    with pytest.raises(ValueError, match="line 23: 3 cells under 2 column names"):
        texts("t.csv")


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        (["In short, the old, small pilot reads a chart.", *(f"Note {n}: far, away" for n in range(9))], "yes"),
        ([f"The pilot reads chart {n}, and the river is long." for n in range(9)], "yes"),
        (["Chapter one", *(f"The pilot, {'old, ' * n}reads." for n in range(5))], "maybe"),
        (["id,text", "1,one", "2,two, three"], "no"),
        (["1,To be, or not.", "2,That is it."], "no"),
        (["The pilot reads.", "The captain sleeps."], "no"),  # a column without a header: the same texts
    ],
)
def test_text_is_told_from_a_table(lines, plain):
    assert dialect(*lines).plain == plain


def texts(name: str, **options) -> list[str]:
    corpus = load_corpus(name, **options)
    return sorted([*corpus["train"]["text"], *corpus["validation"]["text"]])


def test_a_file_without_a_header_keeps_its_first_row():
    Path("a.csv").write_text("".join(f'{n},"{said}"\n' for n, said in enumerate(SAID)))
    assert texts("a.csv") == texts("a.csv", text_column="2") == sorted(SAID)
    facts = load_corpus("a.csv").facts
    assert (facts["text_column"]["name"], facts["files_without_header"]) == ("2", 1)


def test_text_that_is_called_csv_is_read_as_text():
    lines = [f"Far away, {n}, the {'old, ' * (n % 3)}pilot reads." for n in range(9)]
    Path("a.csv").write_text("\n".join(lines))
    assert texts("a.csv") == sorted(lines)
    assert load_corpus("a.csv").facts["tables_read_as_text"] == 1


def test_what_may_be_text_or_a_table_is_asked():
    lines = ["Chapter one", *(f"Far away, {n}, the {'old, ' * (n % 3)}pilot reads." for n in range(9))]
    Path("a.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"a.csv may be a table or plain text.*--sample_by line.*--text_column"):
        load_corpus("a.csv")
    assert texts("a.csv", sample_by="line") == sorted(lines)


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_quotation_marks_between_tabs_belong_to_the_text(ending):
    said = [*SAID]
    said[3], said[7] = f'"{said[3]}', f'{said[7]}"'
    said[9] = f'"{said[9]}"'
    lines = [f"{n}\t{text}\tx" for n, text in enumerate(said)]
    Path(f"a.{ending}").write_text("\n".join(["id\tsentence\tlocale", *lines]))
    assert texts(f"a.{ending}") == sorted(said)


@pytest.mark.parametrize(
    "rows",
    [
        ['"id"\t"said"', *(f'"{n}"\t"{said}"' for n, said in enumerate(SAID))],
        ["id\tsaid", *(f'{n}\t"He said ""no"". {said}"' for n, said in enumerate(SAID))],
        ["id\tsaid", *(f'{n}\t"{said}\nSo."' for n, said in enumerate(SAID))],
        ["id\tsaid", *(f'{n}\t"{said}\tSo."' for n, said in enumerate(SAID))],
    ],
    ids=["all", "doubled", "line breaks", "tabs"],
)
def test_quoting_between_tabs_is_evident(rows):
    Path("a.tsv").write_text("\n".join(rows))
    found = texts("a.tsv")
    assert len(found) == len(SAID)
    assert not any(text.startswith('"') or '""' in text for text in found)


def test_a_cell_that_contains_whole_rows_is_refused_with_its_line():
    said = [*SAID]
    said[3], said[7] = f'"{said[3]}', f'{said[7]}"'
    Path("a.csv").write_text("\n".join(["id,text", *(f"{n},{text}" for n, text in enumerate(said))]))
    with pytest.raises(
        ValueError, match=r"a.csv, line 5: a cell that begins .* goes on to line 9, but line 6 is a row"
    ):
        load_corpus("a.csv")


def test_it_is_also_noticed_without_a_column_of_numbers():
    rows = [f"The {said},{said}" for said in SAID]
    rows[3], rows[7] = rows[3].replace(",", ',"'), f'{rows[7]}"'
    Path("a.csv").write_text("\n".join(["title,sentence", *rows]))
    with pytest.raises(ValueError, match=r"a.csv, line 5: a cell that begins .* but line 6 is a row"):
        load_corpus("a.csv")


def test_quoting_that_begins_late_between_tabs_is_noticed():
    rows = [f"{n}\t{SAID[n % 12]}" for n in range(900)]
    rows[700] = f'700\t"{SAID[0]}\nSo."'
    Path("a.tsv").write_text("\n".join(["id\tsaid", *rows]))
    with pytest.raises(
        ValueError, match=r"a.tsv, line 702: a cell begins with a quotation mark, and the next line is no"
    ):
        load_corpus("a.tsv")


def test_blank_lines_may_precede_the_header():
    Path("a.csv").write_text("\n\nid,text\n1,one\n\n2,two\n")
    assert texts("a.csv") == ["one", "two"]


def test_a_cell_with_lines_and_commas_is_no_error():
    Path("a.csv").write_text(
        "id,text\n" + "".join(f'{n},"{said}\nYes, {n}\n\n3 of them"\n' for n, said in enumerate(SAID))
    )
    assert texts("a.csv") == sorted(f"{said}\nYes, {n}\n\n3 of them" for n, said in enumerate(SAID))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('id,text\n1,"two\nlines"\n2,"a "word" in it"\n', r"line 4: "),
        ('id,text\n1,one\n2,"two\nlines "and" more"\n3,three\n', r"line 4, in the row that begins on line 3: "),
        ('id,text\n1,one\n2,"two\n3,three\n', r"line 3: unexpected end"),
        ("id\ttext\n1\tone\n2\ttwo\tthree\n", r"line 3: 3 cells under 2 column names"),
        ("1,one\n2,two\n3,three,four\n", r"line 3: 3 cells in a table of 2 columns without a header"),
    ],
)
def test_the_line_that_is_wrong_is_named(content, says):
    name = "a.tsv" if "\t" in content else "a.csv"
    Path(name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}, {says}"):
        load_corpus(name)


def test_semicolons_and_bars_separate():
    Path("a.csv").write_text("id;text\n" + "".join(f'{n};"Far, away; {said}"\n' for n, said in enumerate(SAID)))
    assert texts("a.csv") == sorted(f"Far, away; {said}" for said in SAID)
    Path("b.csv").write_text("".join(f'LJ{n:03d}-1|"Far, {said}\n' for n, said in enumerate(SAID)))
    assert texts("b.csv") == sorted(f'"Far, {said}' for said in SAID)
