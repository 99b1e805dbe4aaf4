from __future__ import annotations

import json
import shutil
from pathlib import Path

import metrics_schema
import pytest

from mlm_recipes import MLMConfig, evaluate, inspect_corpus, prepare_corpus, reference, train
from mlm_recipes.cli import main
from mlm_recipes.recipes.similarity import ReadProbes, refuse_similarity
from mlm_recipes.report.side_by_side import compare_runs

VALUES = {
    "max_steps": 2, "per_device_train_batch_size": 4, "max_length": 32, "save_strategy": "no", "learning_rate": 1e-3,
    "general_corpus": "none", "eval_draws": 1, "pseudo_perplexity_tokens": 50, "prompts_compared": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory, short_text):
    """Files of pairs, and a search set: halves of paragraphs, the first four of which are trained on, too."""
    folder = tmp_path_factory.mktemp("measured")
    lines = short_text.read_text("utf-8").splitlines()
    halves = [(" ".join(line.split()[:8]), " ".join(line.split()[8:16])) for line in lines if len(line.split()) > 16]
    scored = [{"text1": one, "text2": other, "score": n} for n, (one, other) in enumerate(halves)]
    matching = [{"text1": one, "text2": halves[n // 2][1], "match": n % 2} for n, (one, _) in enumerate(halves)]
    files = {"scored.jsonl": scored, "matching.jsonl": matching, "faq/corpus.jsonl": [], "faq/queries.jsonl": []}
    for number, (one, other) in enumerate(halves):
        files["faq/queries.jsonl"].append({"_id": f"q{number}", "text": one})
        files["faq/corpus.jsonl"].append({"_id": f"d{number}", "text": lines[number] if number < 4 else other})
    (folder / "faq").mkdir()
    for name, rows in files.items():
        (folder / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    judged = [f"q{number}\td{number}\t1" for number in range(len(halves))]
    (folder / "faq/qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, short_text, checkpoint, measured):
    folder = tmp_path_factory.mktemp("similar") / "run"
    pairs = [str(measured / name) for name in ("scored.jsonl", "matching.jsonl")]
    return train(
        "adapt", model=str(checkpoint), corpus=str(short_text), output_dir=str(folder), probe_pairs=pairs,
        probe_search=str(measured / "faq"), **VALUES,
    )  # fmt: skip


@pytest.mark.slow
def test_what_is_measured_is_in_metrics_json(run):
    written = json.loads((run.output_dir / "metrics.json").read_text("utf-8"))
    metrics_schema.check(written)
    scored, matching = written["probe_pairs"]
    (faq,) = written["probe_search"]
    assert (scored["name"], scored["kind"]) == ("scored", "score")
    assert (matching["kind"], list(matching["whitened"])) == ("match", ["spearman", "average_precision"])
    assert faq["queries"] == faq["documents"] == faq["relevant"] == scored["pairs"]
    assert len({each["fingerprint"] for each in (scored, matching, faq)}) == 3
    assert 0 < faq["leakage"]["exact"] <= 4  # some may be held out
    assert scored["leakage"]["near"] > 10  # halves of paragraphs that are trained on
    trained = written["corpus"]["train"]
    assert trained - 4 <= scored["whitening"]["texts"] < trained  # not to what is measured
    for measure in (scored["as_is"]["spearman"], faq["whitened"]["ndcg_at_10"], matching["as_is"]["average_precision"]):
        assert measure["low"] <= measure["change"] <= measure["high"]
    assert scored["as_is"]["spearman"]["before"] != scored["as_is"]["spearman"]["after"]


@pytest.mark.slow
def test_each_has_its_sentence_on_the_last_screen_in_the_report_and_on_the_card(run):
    screen = " ".join(str(run).split())
    pages = [(run.output_dir / name).read_text("utf-8") for name in ("report.html", "README.md")]
    for said in ("pairs of scored by similarity: Spearman ", "pairs of matching match: average precision ", ": nDCG"):
        assert said in screen
        assert all(said in " ".join(page.split()) for page in pages)
    assert "of faq are in the training text, or nearly." in screen
    value = round(run.metrics["probe_search"][0]["whitened"]["recall_at_10"]["after"], 4)
    assert f"type: recall_at_10\n      value: {value}\n      name: recall@10, whitened" in pages[1]
    (rows,) = [rows for title, rows in compare_runs([run.output_dir] * 2).tables() if title == "Pairs and searches"]
    assert "matching, average precision, whitened, 95% interval" in [label for label, *_ in rows]


@pytest.mark.slow
def test_the_finished_run_is_measured_as_after_training(run):
    """evaluate reads the model that was saved, so the measurement after training was of that model."""
    found = evaluate(run.output_dir)
    metrics_schema.check(found.metrics, "EvaluationMetrics")
    (faq,), (again,) = run.metrics["probe_search"], found.metrics["evaluation"]["probe_search"]
    assert again["whitened"]["ndcg_at_10"] == pytest.approx(faq["whitened"]["ndcg_at_10"]["after"], abs=1e-6)
    scored, same = run.metrics["probe_pairs"][0], found.metrics["evaluation"]["probe_pairs"][0]
    assert same["as_is"]["spearman"] == pytest.approx(scored["as_is"]["spearman"]["after"], abs=1e-6)
    assert "Finding what answers" in " ".join(str(found).split())


@pytest.mark.slow
def test_measuring_changes_nothing_of_what_is_learned(run, short_text, checkpoint):
    plain = train("adapt", model=str(checkpoint), corpus=str(short_text), output_dir="plain", **VALUES)
    assert plain.metrics["after"]["loss"] == run.metrics["after"]["loss"]
    assert "probe_pairs" not in plain.metrics


@pytest.mark.slow
def test_added_words_are_measured_from_the_model_without_them(short_text, checkpoint, measured):
    """The encoder before training is the one that the user has, so it reads texts by its own vocabulary."""
    where = {"model": str(checkpoint), "corpus": str(short_text), "probe_search": str(measured / "faq")}
    plain = train("adapt", output_dir="plain", **where, **VALUES)
    words = train("adapt", output_dir="words", add_tokens=["grandfather", "philosopher"], **where, **VALUES)
    (one,), (other,) = plain.metrics["probe_search"], words.metrics["probe_search"]
    assert one["as_is"]["ndcg_at_10"]["before"] == pytest.approx(other["as_is"]["ndcg_at_10"]["before"], abs=1e-9)


@pytest.mark.slow
def test_a_stream_is_measured_too(short_text, checkpoint, measured):
    found = train(
        "adapt", model=str(checkpoint), corpus=str(short_text), output_dir="run", streaming=True,
        probe_search=str(measured / "faq"), **VALUES,
    )  # fmt: skip
    (faq,) = found.metrics["probe_search"]
    assert faq["leakage"] == {"exact": None, "near": None}
    assert faq["whitening"]["texts"] > 40


@pytest.mark.slow
def test_a_prepared_corpus_is_measured_too(short_text, checkpoint, measured):
    rows = {"max_length": 32, "validation_fraction": 0.1}
    prepare_corpus("adapt", model=str(checkpoint), corpus=str(short_text), out="shards", **rows)
    pairs = str(measured / "scored.jsonl")
    found = train(
        "adapt", model=str(checkpoint), corpus="shards", output_dir="run", probe_pairs=pairs,
        probe_search=str(measured / "faq"), **VALUES | {"max_length": None},
    )  # fmt: skip
    (faq,), (scored,) = found.metrics["probe_search"], found.metrics["probe_pairs"]
    assert faq["leakage"] == scored["leakage"] == {"exact": None, "near": None}
    assert faq["whitening"]["texts"] > 40
    again = evaluate("run").metrics["evaluation"]["probe_pairs"][0]
    assert again["whitened"]["spearman"] == pytest.approx(scored["whitened"]["spearman"]["after"], abs=1e-6)


def test_files_of_one_name_are_told_apart(measured, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(measured, tmp_path / folder)
    paths = [str(tmp_path / folder / "scored.jsonl") for folder in ("a", "b")]
    read = ReadProbes.of(MLMConfig(use_cpu=True, probe_pairs=paths, probe_search=[str(measured / "faq")]))
    assert [pairs.name for pairs in read.pairs] == ["scored", "scored (2)"]
    assert [search.name for search in read.searches] == ["faq"]


def test_a_wrong_file_ends_the_run_before_it_begins(short_text, capsys):
    assert main(["train", "--corpus", str(short_text), "--probe_pairs", "missing.csv", "--output_dir", "run"]) == 2
    assert "probe_pairs: there is no file 'missing.csv'" in capsys.readouterr().err
    assert not Path("run").exists()


def test_an_inspection_says_what_they_can_show(short_text, checkpoint, measured):
    found = inspect_corpus(
        "adapt", model=str(checkpoint), corpus=str(short_text), timing=False, max_length=32,
        probe_pairs=str(measured / "matching.jsonl"), probe_search=str(measured / "faq"),
    )  # fmt: skip
    (pairs,), (search,) = found.facts["probe_pairs"], found.facts["probe_search"]
    assert pairs["needed"] > pairs["pairs"] > pairs["distinct_texts"] / 2
    assert pairs["leakage"]["near"] > 10
    assert 0 < search["leakage"]["exact"] <= 4
    assert search["needed"] > search["queries"]
    said = " ".join(str(found).split())
    assert f"the 95% interval reaches {pairs['half_width']:.3f} to each side" in said
    assert f"It takes {search['needed']:,} queries" in said


def test_an_inspection_of_a_wrong_file_ends_at_once(short_text):
    with pytest.raises(ValueError, match=r"probe_search: 'missing' has no corpus\.jsonl"):
        inspect_corpus("adapt", model="missing", corpus=str(short_text), probe_search="missing")


def test_the_tutorial_s_loop_measures_none(short_text, measured):
    with pytest.raises(ValueError, match=r"probe_pairs: received .*since `reference` does not measure it"):
        reference("tutorial", model="mini", corpus=str(short_text), probe_pairs=str(measured / "scored.jsonl"))
    refuse_similarity(MLMConfig(use_cpu=True), "reference")
