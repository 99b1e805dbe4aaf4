"""Says so if a model has become better at rows with many masked tokens and worse at rows with one, or the reverse."""

from __future__ import annotations

from math import exp

from ..metrics_file import Metrics

#: By how much pseudo-perplexity may be above perplexity. It is usually below: the model sees all other tokens.
_FACTOR = 1.5


def at_single_masks(metrics: Metrics) -> str:
    """Return that the model needs several masks in a row, if it does, and what to do; or that it no longer does.

    A model that saw many masked tokens in every row of its training may come to rely on them, and then fails at a row
    with one, which is what people ask for (docs/LOG.md). Its loss does not show that, its pseudo-perplexity does.
    """
    after = metrics["after"]
    single, usual = after.get("pseudo_perplexity"), exp(after["loss"])
    measures = metrics["change"]["held_out"]["measures"] if "change" in metrics else None
    if single is None or measures is None or "pseudo_perplexity" not in measures:
        return ""
    verdicts = measures["loss"]["verdict"], measures["pseudo_perplexity"]["verdict"]
    before = measures["pseudo_perplexity"]["before"]
    if verdicts == ("worse", "better"):
        return (
            " But with one token masked at a time, the model got better: pseudo-perplexity fell from "
            f"{before:.1f} to {single:.1f}."
        )
    rose = verdicts == ("better", "worse")
    if not rose and single < _FACTOR * usual:
        return ""
    figures = f"rose from {before:.1f} to {single:.1f}" if rose else f"is {single:.1f}, and perplexity {usual:.1f}"
    return (
        f" With one token masked at a time, the model is worse than its loss suggests: pseudo-perplexity {figures}. It "
        "has come to rely on the other masks of a row. Train on with few masks at the end: --mlm_probability 0.15 "
        "--mlm_probability_schedule linear --mlm_probability_end 0.01."
    )
