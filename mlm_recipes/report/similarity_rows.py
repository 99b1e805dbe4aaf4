"""The pairs and searches of runs side by side, and whether probes of one name are the same; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from ..metrics_file import Measure, Metrics

#: The encoder as it is, and whitened.
VERSIONS: tuple[tuple[Literal["as_is", "whitened"], str], ...] = (("as_is", ""), ("whitened", ", whitened"))

#: The measures of pairs and searches, by their names in metrics.json.
MEASURES = {
    "spearman": "Spearman",
    "average_precision": "average precision",
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "recall@10",
}

#: Where metrics.json has what is measured besides the text's own tokens.
_LISTS: tuple[Literal["probes", "probe_pairs", "probe_search"], ...] = ("probes", "probe_pairs", "probe_search")


def measured(found: Any) -> Iterator[tuple[str, str, Measure]]:
    """Yield each measure of an entry of `probe_pairs` or `probe_search`: its name there, in words, and its values.

    >>> same = dict(before=0.41, after=0.412, low=-0.01, high=0.015, verdict="no measurable change")
    >>> [said for _, said, _ in measured({"as_is": {"spearman": same}, "whitened": {"spearman": same}})]
    ['Spearman', 'Spearman, whitened']
    """
    for version, how in VERSIONS:
        for name, values in cast("dict[str, Measure]", found[version]).items():
            yield name, MEASURES[name] + how, values


def compared(metrics: Metrics) -> Iterator[tuple[str, str]]:
    """Yield the rows of `compare`: a label and a cell for each."""
    for pairs in metrics.get("probe_pairs", []):
        yield f"{pairs['name']}, pairs", f"{pairs['pairs']:,}"
        yield from _rows(pairs)
    for search in metrics.get("probe_search", []):
        yield f"{search['name']}, queries", f"{search['queries']:,}"
        yield f"{search['name']}, documents", f"{search['documents']:,}"
        yield from _rows(search)


def other_texts(runs: Sequence[tuple[str, Metrics]]) -> str:
    """Return a sentence about probes of these runs that have the same name, but other texts; empty if there are none.

    >>> other_texts([("one", {"probes": [dict(name="mine", fingerprint="a")]}), ("two", {"probes": []})])
    ''
    """
    known: dict[tuple[str, str], dict[str, str]] = {}
    for run, metrics in runs:
        for kind in _LISTS:
            for probe in cast("Sequence[Any]", metrics.get(kind, [])):
                if "fingerprint" in probe:  # which a run of an earlier version does not have
                    known.setdefault((kind, probe["name"]), {})[run] = probe["fingerprint"]
    differing = [name for (_, name), prints in known.items() if len(set(prints.values())) > 1]
    if not differing:
        return ""
    return (
        f"Not all runs measured the same texts as {' and '.join(dict.fromkeys(differing))}: there, read each column on "
        "its own."
    )


def _rows(found: Any) -> Iterator[tuple[str, str]]:
    for _, said, values in measured(found):
        what = f"{found['name']}, {said}"
        yield f"{what}, before", f"{values['before']:.3f}"
        yield f"{what}, after", f"{values['after']:.3f}"
        nothing = values["verdict"] == "no measurable change"
        yield f"{what}, change", values["verdict"] if nothing else f"{values['change']:+.3f}"
        yield f"{what}, 95% interval", f"{values['low']:+.3f} to {values['high']:+.3f}"
