from __future__ import annotations

import copy

import pytest
import yaml
from example_metrics import full, measure

from mlm_recipes.report.last_screen import summary
from mlm_recipes.report.model_card import card
from mlm_recipes.report.report_page import page
from mlm_recipes.report.similarity_sentences import (
    inspected_pairs,
    inspected_search,
    sentences_alone,
    similarity_sentences,
)

SAME, BETTER = measure(0.41, 0.415, -0.01, 0.02, "no measurable change"), measure(0.5, 0.6, 0.05, 0.15)
WORSE = measure(0.6, 0.5, -0.15, -0.05, "worse")
PAIRS = {"name": "sts", "kind": "score", "pairs": 1200, "leakage": {"exact": 0, "near": 0}}
PAIRS |= {"as_is": {"spearman": SAME}, "whitened": {"spearman": BETTER}}
SEARCH = {"name": "faq", "queries": 100, "documents": 2000, "leakage": {"exact": None, "near": None}}
SEARCH |= {
    "as_is": {"ndcg_at_10": SAME, "recall_at_10": WORSE},
    "whitened": {"ndcg_at_10": BETTER, "recall_at_10": SAME},
}


def test_an_interval_with_zero_in_it_is_no_measurable_change():
    (said,) = similarity_sentences({"probe_search": [SEARCH]})
    assert said == (
        "Finding what answers 100 queries in the 2,000 documents of faq: "
        "nDCG@10 no measurable change, 0.410 -> 0.415 (-0.010 to +0.020), whitened 0.500 -> 0.600, +0.050 to +0.150; "
        "recall@10 0.600 -> 0.500, -0.150 to -0.050, whitened no measurable change, 0.410 -> 0.415 (-0.010 to +0.020)."
    )


def test_of_pairs_that_match_the_average_precision_is_told():
    pairs = copy.deepcopy(PAIRS) | {"kind": "match"}
    pairs["as_is"]["average_precision"], pairs["whitened"]["average_precision"] = BETTER, WORSE
    (said,) = similarity_sentences({"probe_pairs": [pairs]})
    assert said == (
        "Telling which of the 1,200 pairs of sts match: average precision 0.500 -> 0.600, +0.050 to +0.150; whitened "
        "0.600 -> 0.500, -0.150 to -0.050."
    )


@pytest.mark.parametrize(
    ("exact", "near", "said"),
    [
        (0, 0, ""),
        (None, None, ""),
        (1, 0, " 1 text of sts is in the training text, or nearly."),
        (3, 4, " 7 texts of sts are in the training text, or nearly."),
    ],
)
def test_what_was_trained_on_is_told(exact, near, said):
    (found,) = similarity_sentences({"probe_pairs": [PAIRS | {"leakage": {"exact": exact, "near": near}}]})
    assert found.endswith(f"+0.150.{said}")


def test_every_page_has_the_sentences():
    metrics = full() | {"probe_pairs": [PAIRS], "probe_search": [SEARCH]}
    for drawn in (summary(metrics), page(metrics), card(metrics)):
        said = " ".join(drawn.split())
        assert "Ranking the 1,200 pairs of sts by similarity: Spearman no measurable change, 0.410" in said
        assert "queries in the 2,000 documents of faq" in said


def test_the_model_index_has_their_figures_under_the_hub_s_names():
    matching = copy.deepcopy(PAIRS) | {"name": "qqp", "kind": "match"}
    for version in ("as_is", "whitened"):
        matching[version]["average_precision"] = BETTER
    written = card(full() | {"probe_pairs": [PAIRS, matching], "probe_search": [SEARCH]})
    _, metadata, _ = written.split("---\n", 2)
    (index,) = yaml.safe_load(metadata)["model-index"]
    found = {each["dataset"]["name"]: each for each in index["results"]}
    assert [found[name]["task"]["type"] for name in ("sts", "qqp", "faq")] == [
        "sentence-similarity", "sentence-similarity", "text-retrieval",
    ]  # fmt: skip
    assert "STS" in found["sts"]["task"]["name"]
    assert [(each["type"], each["name"], each["value"]) for each in found["sts"]["metrics"]] == [
        ("cosine_spearman", "Spearman", 0.415),
        ("cosine_spearman", "Spearman, whitened", 0.6),
    ]
    assert [each["type"] for each in found["qqp"]["metrics"]][:2] == ["cosine_spearman", "cosine_ap"]
    assert [each["type"] for each in found["faq"]["metrics"]] == ["ndcg_at_10", "recall_at_10"] * 2
    assert found["faq"]["dataset"]["split"] == "test"


def test_what_they_could_show_is_told_before_a_run():
    expected = {"spread": 0.3, "half_width": 0.021, "power": 0.46, "needed": 1766, "leakage": {"exact": 1, "near": 0}}
    pairs = {"name": "sts", "kind": "score", "pairs": 800, "distinct_texts": 1600} | expected
    assert inspected_pairs(pairs) == (
        "Pairs sts: 800 pairs with scores, of 1,600 texts. A change of Spearman's correlation by 0.02 would be "
        "measured in 46% of runs, if each of the pairs contributes to it with a standard deviation of 0.3: the 95% "
        "interval reaches 0.021 to each side. It takes 1,766 pairs to measure it in 80%. 1 text of sts is in the "
        "training text, or nearly."
    )
    assert "Some pairs share a text, for which the interval is made wider" in inspected_pairs(
        pairs | {"distinct_texts": 900}
    )
    search = {"name": "faq", "queries": 2000, "documents": 20, "relevant": 2100} | expected
    said = inspected_search(search)
    assert said.startswith("Search faq: 2,000 queries, 20 documents, 2,100 relevant. A change of nDCG@10 by 0.02")
    assert "There are enough queries." in said


def test_a_run_without_them_says_nothing():
    assert [*similarity_sentences(full()), *sentences_alone({})] == []


def test_one_model_has_no_change():
    alone = {
        "probe_pairs": [
            {"name": "qqp", "kind": "match", "pairs": 90, "as_is": {"spearman": 0.1, "average_precision": 0.4}}
        ],
        "probe_search": [{"name": "faq", "queries": 10, "documents": 20}],
    }
    alone["probe_pairs"][0]["whitened"] = {"spearman": 0.2, "average_precision": 0.5}
    alone["probe_search"][0] |= {name: {"ndcg_at_10": 0.3, "recall_at_10": 0.6} for name in ("as_is", "whitened")}
    assert [*sentences_alone(alone)] == [
        "Telling which of the 90 pairs of qqp match: average precision 0.400; whitened 0.500.",
        "Finding what answers 10 queries in the 20 documents of faq: nDCG@10 0.300, whitened 0.300; recall@10 0.600, "
        "whitened 0.600.",
    ]
