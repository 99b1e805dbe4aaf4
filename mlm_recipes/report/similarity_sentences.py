"""What changed on a run's pairs and searches, in one sentence each; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

from ..inspection_file import ExpectedInterval, InspectedPairs, InspectedSearch
from ..metrics_file import Measure, Metrics, ModelAlone, PairProbe, PairsAlone, SearchAlone, SearchProbe
from .wording import count

_VERSIONS: tuple[Literal["as_is"], Literal["whitened"]] = ("as_is", "whitened")


def similarity_sentences(metrics: Metrics) -> Iterator[str]:
    """Yield a sentence for each of a run's `probe_pairs` and `probe_search`, and one if they were trained on.

    >>> same = dict(before=0.41, after=0.412, low=-0.01, high=0.015, verdict="no measurable change")
    >>> more = dict(before=0.58, after=0.61, low=0.012, high=0.049, verdict="better")
    >>> pairs = dict(name="sts", kind="score", pairs=500, as_is={"spearman": same}, whitened={"spearman": more})
    >>> print(*similarity_sentences({"probe_pairs": [pairs | {"leakage": {"exact": 0, "near": 0}}]}))
    Ranking the 500 pairs of sts by similarity: Spearman no measurable change, 0.410 -> 0.412 (-0.010 to +0.015); \
whitened 0.580 -> 0.610, +0.012 to +0.049.
    """
    for pairs in metrics.get("probe_pairs", []):
        yield _of_pairs(pairs) + _trained_on(pairs)
    for search in metrics.get("probe_search", []):
        yield _of_search(search) + _trained_on(search)


def sentences_alone(found: ModelAlone) -> Iterator[str]:
    """Yield the same for a model that is only measured.

    >>> pairs = dict(name="sts", kind="score", pairs=500, as_is={"spearman": 0.41}, whitened={"spearman": 0.58})
    >>> print(*sentences_alone({"probe_pairs": [pairs]}))
    Ranking the 500 pairs of sts by similarity: Spearman 0.410; whitened 0.580.
    """
    for pairs in found.get("probe_pairs", []):
        name = "average_precision" if pairs["kind"] == "match" else "spearman"
        as_is, whitened = (cast("dict[str, float]", pairs[version])[name] for version in ("as_is", "whitened"))
        yield f"{_ranking(pairs)}{as_is:.3f}; whitened {whitened:.3f}."
    for search in found.get("probe_search", []):
        plain, white = search["as_is"], search["whitened"]
        yield (
            f"{_finding(search)}nDCG@10 {plain['ndcg_at_10']:.3f}, whitened {white['ndcg_at_10']:.3f}; "
            f"recall@10 {plain['recall_at_10']:.3f}, whitened {white['recall_at_10']:.3f}."
        )


def inspected_pairs(found: InspectedPairs) -> str:
    """Return what is in a file of pairs, and what it could show of a run, before there is one."""
    what = "pairs that match or not" if found["kind"] == "match" else "pairs with scores"
    said = f"Pairs {found['name']}: {found['pairs']:,} {what}, of {count(found['distinct_texts'], 'text')}. "
    said += _could_show(found, found["pairs"], "Spearman's correlation", "pairs")
    if found["distinct_texts"] < 2 * found["pairs"]:
        said += " Some pairs share a text, for which the interval is made wider: it may then take more."
    return said + _trained_on(found)


def inspected_search(found: InspectedSearch) -> str:
    """Return what is in a set of queries, and what it could show of a run, before there is one."""
    said = (
        f"Search {found['name']}: {found['queries']:,} queries, {count(found['documents'], 'document')}, "
        f"{found['relevant']:,} relevant. "
    )
    return said + _could_show(found, found["queries"], "nDCG@10", "queries") + _trained_on(found)


def _could_show(found: ExpectedInterval, units: int, measure: str, name: str) -> str:
    said = (
        f"A change of {measure} by 0.02 would be measured in {found['power']:.0%} of runs, if each of the {name} "
        f"contributes to it with a standard deviation of {found['spread']:g}: the 95% interval reaches "
        f"{found['half_width']:.3f} to each side"
    )
    if units >= found["needed"]:
        return f"{said}. There are enough {name}."
    return f"{said}. It takes {found['needed']:,} {name} to measure it in 80%."


def _ranking(found: PairProbe | PairsAlone) -> str:
    number, name = f"{found['pairs']:,}", found["name"]
    if found["kind"] == "match":
        return f"Telling which of the {number} pairs of {name} match: average precision "
    return f"Ranking the {number} pairs of {name} by similarity: Spearman "


def _finding(found: SearchProbe | SearchAlone) -> str:
    where = f"the {count(found['documents'], 'document')} of {found['name']}"
    return f"Finding what answers {found['queries']:,} queries in {where}: "


def _of_pairs(found: PairProbe) -> str:
    as_is, whitened = (found[version].get("average_precision", found[version]["spearman"]) for version in _VERSIONS)
    return f"{_ranking(found)}{_change(as_is)}; whitened {_change(whitened)}."


def _of_search(found: SearchProbe) -> str:
    as_is, whitened = found["as_is"], found["whitened"]
    return (
        f"{_finding(found)}nDCG@10 {_change(as_is['ndcg_at_10'])}, whitened {_change(whitened['ndcg_at_10'])}; "
        f"recall@10 {_change(as_is['recall_at_10'])}, whitened {_change(whitened['recall_at_10'])}."
    )


def _change(found: Measure) -> str:
    """Return a measure before and after, and the 95% interval of its change."""
    ends, interval = f"{found['before']:.3f} -> {found['after']:.3f}", f"{found['low']:+.3f} to {found['high']:+.3f}"
    if found["verdict"] == "no measurable change":
        return f"no measurable change, {ends} ({interval})"
    return f"{ends}, {interval}"


def _trained_on(found: PairProbe | SearchProbe | InspectedPairs | InspectedSearch) -> str:
    number = (found["leakage"]["exact"] or 0) + (found["leakage"]["near"] or 0)
    if not number:
        return ""
    return (
        f" {count(number, 'text')} of {found['name']} {'is' if number == 1 else 'are'} in the training text, or nearly."
    )
