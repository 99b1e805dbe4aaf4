from __future__ import annotations

from math import exp

import pytest
from example_metrics import measure, with_change

from mlm_recipes.report import last_screen, report_page, wording
from mlm_recipes.report.single_masks import at_single_masks


def run(loss, single):
    """A run with these measures: before, after, and the ends of the interval of the change."""
    values = with_change()
    measures = values["change"]["held_out"]["measures"]
    measures["loss"], measures["pseudo_perplexity"] = measure(*loss), measure(*single)
    for number, when in enumerate(("before", "after")):
        values[when] |= {"loss": loss[number], "pseudo_perplexity": single[number]}
    return values


FELL, ROSE, SAME = (-0.5, -0.1, "better"), (1.0, 9.0, "worse"), (-1.0, 1.0, "no measurable change")


@pytest.mark.parametrize(
    ("loss", "single", "says"),
    [
        ((3.04, 2.78, *FELL), (13.4, 26.5, *ROSE), "pseudo-perplexity rose from 13.4 to 26.5"),
        ((3.04, 2.78, *FELL), (13.4, 12.1, *FELL), None),
        ((3.04, 2.78, *FELL), (13.4, 14.0, *SAME), None),
        ((2.78, 3.04, *ROSE), (12.1, 13.4, *ROSE), None),  # worse by both
        ((2.78, 2.83, *ROSE), (26.5, 10.9, *FELL), "got better: pseudo-perplexity fell from 26.5 to 10.9."),
        ((9.0, 2.78, *FELL), (8000.0, 26.5, *FELL), f"pseudo-perplexity is 26.5, and perplexity {exp(2.78):.1f}."),
    ],
)
def test_a_model_that_needs_several_masks_in_a_row_is_told_so(loss, single, says):
    values = run(loss, single)
    said = at_single_masks(values)
    assert bool(said) == (says is not None)
    for text in (wording.note(values), last_screen.summary(values), report_page.page(values)):
        assert said.strip() in " ".join(text.split())
    if says:
        assert says in said
        assert said.endswith("--mlm_probability_end 0.01.") or "got better" in says


def test_a_run_from_random_weights_is_told_so_too():
    values = run((9.0, 2.78, *FELL), (8000.0, 26.5, *FELL))
    values["train"]["random_weights"] = True
    assert at_single_masks(values) in wording.note(values)


def test_a_file_without_pseudo_perplexity_has_nothing_to_tell():
    values = run((3.04, 2.78, *FELL), (13.4, 26.5, *ROSE))
    del values["change"]["held_out"]["measures"]["pseudo_perplexity"]
    assert at_single_masks(values) == ""
    del values["change"]
    assert at_single_masks(values) == ""
