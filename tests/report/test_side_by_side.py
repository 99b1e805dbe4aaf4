from __future__ import annotations

import json

import pytest
from example_metrics import HOSTILE, Page, full, measure, metrics

from mlm_recipes.cli import main
from mlm_recipes.recipes import run_folder
from mlm_recipes.report.side_by_side import compare_runs
from mlm_recipes.report.similarity_rows import other_texts


def run(folder, loss=2.5, values=None, recipe=None, fingerprint="a" * 64):
    """A finished run's folder, with this held-out loss after training."""
    folder.mkdir(parents=True)
    values = values or full()
    values["after"]["loss"] = loss
    if "change" in values:
        values["change"]["held_out"]["measures"]["loss"]["after"] = loss
        values["change"]["held_out"]["fingerprint"] = fingerprint
    run_folder.write_recipe(folder, {"seed": 1, "learning_rate": 1e-3} | (recipe or {}))
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.mark.parametrize("columns", [72, 110])
def test_runs_on_the_same_masked_tokens_are_compared(tmp_path, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    folders = [run(tmp_path / "first", 2.5), run(tmp_path / "second", 2.25, recipe={"learning_rate": 3e-4})]
    assert main(["compare", *map(str, folders), "--output", "side.html"]) == 0
    screen = capsys.readouterr().out
    assert max(map(len, screen.splitlines())) <= columns
    flat = " ".join(screen.split())
    assert "second has the lowest held-out loss: 2.250 nats, 0.250 below first" in flat
    assert "None is for the difference between two runs" in flat
    assert "Held-out text first second" in flat
    assert "loss (nats), after 2.500 2.250" in flat
    assert "Recipe values that differ first second learning_rate 0.001 0.0003" in flat
    assert "seed" not in flat
    page = Page((tmp_path / "side.html").read_text("utf-8"))
    assert "loss (nats), after 2.500 2.250" in page.text()
    assert all(each.get("scope") for each in page.all("th"))


def test_runs_on_different_masked_tokens_are_not_comparable(tmp_path, capsys):
    folders = [run(tmp_path / "first"), run(tmp_path / "second", 1.0, fingerprint="b" * 64)]
    assert main(["compare", *map(str, folders)]) == 1
    flat = " ".join(capsys.readouterr().out.split())
    assert "These runs cannot be compared with each other" in flat
    assert "which tokens are masked (first: aaaaaaaa, second: bbbbbbbb)" in flat
    assert "lowest" not in flat


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"corpus": {"fingerprint": "9" * 64}}, "text (first: 00000000, second: 99999999)"),
        ({"corpus": {"validation": 51}}, "held-out paragraphs (first: 2, second: 51)"),
        ({"corpus": {"max_length": 128}}, "maximum tokens per row (first: 512, second: 128)"),
        ({"after": {"masked_tokens": 1741}}, "masked tokens (first: 500, second: 1,741)"),
    ],
)
def test_the_verdict_lists_the_differences(tmp_path, change, says):
    values = full()
    for part, entries in change.items():
        values[part] |= entries
    other = run(tmp_path / "second", values=values, fingerprint="b", recipe={"max_length": 128})
    found = compare_runs([run(tmp_path / "first"), other])
    assert not found.comparable
    assert "max_length" not in found.verdict()  # what was measured says it already
    assert says in found.verdict()


def test_different_training_texts_with_the_same_masked_tokens_are_comparable(tmp_path):
    values = full()
    values["corpus"]["fingerprint"] = "9" * 64
    assert compare_runs([run(tmp_path / "first"), run(tmp_path / "second", values=values)]).comparable


@pytest.mark.parametrize(
    ("recipe", "comparable"),
    [({}, True), ({"learning_rate": 1.0}, True), ({"evaluation_seed": 3}, False), ({"model": "other"}, False)],
)
def test_runs_of_earlier_versions_are_compared_by_their_recipes(tmp_path, recipe, comparable):
    found = compare_runs(
        [run(tmp_path / "first", values=metrics()), run(tmp_path / "second", values=metrics(), recipe=recipe)]
    )
    assert found.comparable is comparable
    assert "loss (nats), after" in str(found)
    found.html()


def test_an_old_and_a_new_run_with_the_same_masks_are_not_comparable(tmp_path):
    found = compare_runs([run(tmp_path / "first", values=metrics()), run(tmp_path / "second")])
    assert "draws of the masks (first: 1, second: 5)" in found.verdict()


def test_seven_runs_fit_the_screen_and_equal_names_are_distinguished(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folders = [run(tmp_path / f"{n}" / "same") for n in range(7)]
    found = compare_runs(folders)
    assert len({one.name for one in found.runs}) == 7
    assert max(map(len, str(found).splitlines())) <= 80
    assert str(found).count("epochs") == 2


def test_fewer_than_two_runs_are_refused(tmp_path, capsys):
    assert main(["compare", str(run(tmp_path / "first"))]) == 2
    assert "received 1 run. Accepted: two or more" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "first"), "nothing"]) == 2
    assert "error: compare: 'nothing' has no metrics.json" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "first"), str(tmp_path / "first"), "--output", "metrics.json"]) == 2


def test_no_string_of_a_run_becomes_markup(tmp_path):
    plain, hostile = (
        compare_runs([run(tmp_path / name / "first", recipe={"corpus": said}), run(tmp_path / name / "second")])
        for name, said in (("plain", "x"), ("hostile", HOSTILE + "\x1b[2J"))
    )
    tags = [[each["tag"] for each in Page(found.html()).elements] for found in (plain, hostile)]
    assert tags[0] == tags[1]
    assert "\x1b" not in hostile.html() + str(hostile)
    assert "&lt;script&gt;" in hostile.html()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, False),
        ({"fingerprint": "c" * 64, "masked_tokens": 289}, True),
        ({"fingerprint": "c" * 64}, True),
        ({"text": "mine"}, True),
        (None, False),
    ],
)
def test_other_tokens_of_the_general_text_are_told(tmp_path, other, said):
    values = full()
    if other is None:
        del values["change"]["general"]
    else:
        values["change"]["general"] |= other
    found = compare_runs([run(tmp_path / "first"), run(tmp_path / "second", values=values)])
    assert ("What was forgotten was not measured on the same masked tokens" in found.verdict()) is said
    assert "All runs were measured on the same masked tokens. " in found.verdict()
    if other:
        tokens = values["change"]["general"]["masked_tokens"]
        assert ("masked tokens", "625", f"{tokens:,}") in dict(found.tables())["Ordinary language"]


def test_pairs_and_searches_are_beside_each_other(tmp_path):
    pairs = {"name": "sts", "kind": "score", "fingerprint": "a", "pairs": 1200}
    pairs |= {version: {"spearman": measure(0.41, 0.45, 0.01, 0.07)} for version in ("as_is", "whitened")}
    search = {"name": "faq", "fingerprint": "b", "queries": 100, "documents": 2000}
    search |= {"as_is": {"recall_at_10": measure(0.6, 0.5, -0.15, -0.05, "worse")}, "whitened": {}}
    search["as_is"]["ndcg_at_10"] = measure(0.5, 0.51, -0.02, 0.04, "no measurable change")
    both = full() | {"probe_pairs": [pairs], "probe_search": [search]}
    folders = [run(tmp_path / "first", values=both), run(tmp_path / "second", values=full())]
    found = compare_runs(folders)
    rows = dict(found.tables())["Pairs and searches"]
    assert ("sts, pairs", "1,200", "") in rows
    assert ("sts, Spearman, whitened, change", "+0.040", "") in rows
    assert ("faq, recall@10, 95% interval", "-0.150 to -0.050", "") in rows
    assert ("faq, recall@10, change", "-0.100", "") in rows
    assert ("faq, nDCG@10, change", "no measurable change", "") in rows
    assert "Not all runs" not in found.verdict()


@pytest.mark.parametrize("kind", ["probes", "probe_pairs", "probe_search"])
def test_other_texts_of_the_same_name_are_told(kind):
    def metrics_with(fingerprint):
        return {kind: [{"name": "mine", "fingerprint": fingerprint}, {"name": "old"}]}

    runs = [("first", metrics_with("a")), ("second", metrics_with("b")), ("third", {})]
    assert other_texts(runs).startswith("Not all runs measured the same texts as mine: there, read each column")
    assert other_texts(runs[::2]) == ""
