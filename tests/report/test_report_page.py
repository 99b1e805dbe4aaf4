"""report.html: its content, that it loads nothing, and that it is accessible."""

from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest
from example_metrics import HOSTILE, Page, full, metrics

from mlm_recipes.report import report_page, run_report


@pytest.fixture(scope="module")
def drawn():
    return report_page.page(full())


@pytest.mark.parametrize(
    "said",
    [
        "The held-out loss fell by 1.50 nats per token (95% interval 1.20 to 1.80)",
        "loss (nats) 3.000 2.500 -0.500 -0.60 to -0.40 6.000",
        "top-5 accuracy 50.0% 51.0% no measurable change -1.0 to +3.0",
        "in the text: soul, 12.5% before, 50.0% after",
        "cut off 1,234 tokens, the ends of 3 paragraphs longer than 512 tokens",
        "split 7 paragraphs longer than 512 tokens",
        "padding 10,000 tokens, 10.0% of what training computed",
        "lines of Project Gutenberg's header and footer 40",
        "Looked for and not found: blank lines; near duplicates.",
        "speed 2.5 steps per second, 2,250 tokens per second",
        "share of the machine's limit 25%: 40 of the 160 GFLOP/s that a matrix product reaches, bfloat16",
        "peak memory 3.2 GB (resident memory of the main process)",
        "mlm-recipes train --corpus '<b>.txt'",
        "fingerprint of the text 0000000000",
        "licence CC0-1.0",
        "8.000 4.000 -4.000 8",
    ],
)
def test_the_page_shows(drawn, said):
    assert said in Page(drawn).text()


def test_the_page_shows_a_masked_share_that_changed(drawn):
    assert "Masked tokens" not in drawn
    history = [{"step": n, "loss": 3.0, "learning_rate": 1e-3, "mlm_probability": 0.3 / n} for n in (1, 2)]
    assert "training masked: 30.0% at step 1, 15.0% at step 2" in Page(report_page.page(full(history=history))).text()


def test_the_page_is_reproducible(drawn):
    assert report_page.page(full()) == drawn


def test_the_page_loads_nothing_and_runs_nothing(drawn):
    outside = Page(drawn)
    assert not outside.all("script", "link", "img", "iframe", "object", "image", "base", "form")
    for element in outside.elements:
        for name, value in element.items():
            assert not name.startswith("on"), element
            if name in ("href", "src", "xlink:href", "action", "data"):
                assert re.fullmatch(r"#[\w.-]+", value), element
    assert not re.search(r"@import|https?:|//[a-z]", drawn)
    assert all(re.fullmatch(r"#[\w.-]+", target) for target in re.findall(r"url\((.*?)\)", drawn))


def test_the_page_is_small(drawn):
    assert len(drawn.encode()) < 200_000
    steps = 100_000
    long = full(
        history=[{"step": n, "loss": 4 + n % 7, "learning_rate": 1e-3} for n in range(1, steps + 1)],
        evaluations=[{"step": n, "loss": 3.0 + n % 5, "accuracy": 0.3} for n in range(100, steps, 100)],
        steps=steps,
    )
    assert len(report_page.page(long).encode()) < 500_000


def test_the_page_is_accessible_by_keyboard_and_screen_reader(drawn):
    read = Page(drawn)
    assert read.all("html")[0]["lang"] == "en"
    assert read.all("title")[0]["text"].strip()
    levels = [int(each["tag"][1]) for each in read.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = Counter(each["id"] for each in read.elements if "id" in each)
    assert set(ids.values()) == {1}
    for each in read.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert each.get(name, next(iter(ids))) in ids, each
    assert all(each.get("scope") in ("row", "col", "rowgroup") for each in read.all("th"))
    assert len(read.all("caption")) == len(read.all("table")) > 10
    scrolling = [each for each in read.elements if each.get("class") == "wide"]
    assert len(scrolling) > 5
    for each in scrolling:
        assert (each["tabindex"], each["role"]) == ("0", "region")
        assert each["aria-labelledby"]


def test_each_plot_has_a_title_a_description_and_its_numbers_as_a_table(drawn):
    read = Page(drawn)
    plots = read.all("svg")
    assert len(plots) == 4
    for plot in plots:
        assert plot["role"] == "img"
        title = [each for each in read.all("title") if each.get("id") == plot["aria-labelledby"]]
        assert title[0]["text"]
        described = [each for each in read.elements if each.get("id") == plot["aria-describedby"]]
        assert len(described[0]["text"]) > 40
    assert len(read.all("details")) == 4
    assert all("table" in {each["tag"] for each in read.elements if "details" in each["in"]} for _ in plots)


def test_the_page_is_well_formed_with_any_content(drawn):
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
    Page(drawn)


@pytest.mark.parametrize(
    "values",
    [
        metrics(),
        metrics(history=[]),
        metrics(recipe="reference", tokens=None, history=[{"step": n, "loss": 4.0} for n in (1, 2, 3)]),
        full(evaluations=[], resumed=[{"step": 3, "changed": {}}], skipped_steps=[4], out_of_memory={"parts": 2}),
        full(head_initialised=["cls.bias"], peak_memory=None, steps_per_second=None, tokens_per_second=None),
    ],
    ids=["old", "no history", "reference", "eventful", "nothing known"],
)
def test_sections_that_were_not_measured_are_left_out(values):
    drawn = report_page.page(values)
    read = Page(drawn)
    assert "None," not in read.text()
    assert "null" not in read.text()
    for each in read.all("table", "h2", "h3", "section", "div", "figure", "p"):
        assert each["text"].strip(), each
    heads = [n for n, each in enumerate(read.elements) if each["tag"] == "h2"]
    for here, there in zip(heads, [*heads[1:], len(read.elements)], strict=True):
        assert there > here + 2, read.elements[here]


def test_a_stream_has_a_page():
    values = full()
    for name in ("paragraphs", "words", "train", "fingerprint"):
        del values["corpus"][name]
    values["corpus"] |= {"streamed": True, "cut_off_tokens": None, "cut_off_paragraphs": None, "split_paragraphs": None}
    text = Page(report_page.page(values)).text()
    assert "size unknown: read as a stream" in text
    assert "not counted: the text was read as a stream" in text
    assert "tokens cut off" not in text


def test_few_masked_tokens_are_a_warning_in_the_table():
    values = full()
    values["change"]["held_out"]["distinct_tokens"] = 199
    (warning,) = [each for each in Page(report_page.page(values)).all("th") if each.get("class") == "warning"]
    assert warning["text"].strip() == "only 199 masked tokens: a hint, not a result"
    assert "tbody" in warning["in"]


def test_without_evaluations_during_training_the_page_says_how_to_get_a_curve():
    text = report_page.page(full(evaluations=[]))
    assert "held-out-loss" not in text
    assert "--eval_strategy steps" in text
    assert "--eval_strategy steps" not in report_page.page(full())


def luminance(colour):
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio"""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_formula_matches_wcag():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_colours_have_enough_contrast_in_light_and_dark_mode(drawn):
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*--[^}]*)", drawn)
    )
    assert light.keys() == dark.keys()
    for mode in (light, dark):
        for ground in (mode["paper"], mode["panel"]):
            assert contrast(mode["ink"], ground) >= 7
            for text in ("muted", "link", "warning"):
                assert contrast(mode[text], ground) >= 4.5, text
            for line in ("before", "after"):
                assert contrast(mode[line], ground) >= 3, line
    assert "@media screen and (prefers-color-scheme: dark)" in drawn  # paper is never dark


def test_plots_use_only_the_pages_colours(drawn):
    for svg in re.findall(r"<svg.*?</svg>", drawn, flags=re.DOTALL):
        assert "currentColor" in svg
        assert not re.findall(r"#[0-9a-fA-F]{6}\b(?!\")", svg)


def test_the_command_line_redraws_the_page(tmp_path):
    from mlm_recipes.cli import main
    from mlm_recipes.recipes import run_folder

    run_folder.write_recipe(tmp_path, {"seed": 1})
    run_folder.write_metrics(tmp_path, full())
    run_report.write(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in run_report.FILES}
    for name in run_report.FILES:
        (tmp_path / name).unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in run_report.FILES} == first


def test_text_in_a_plot_is_not_markup():
    values = full()
    values["bands"][0]["name"] = HOSTILE + " $x^2$"
    drawn = report_page.page(values)
    assert "<script" not in drawn
    svg = drawn[drawn.rindex("<svg") : drawn.rindex("</svg>")]
    assert "&lt;script&gt;" in svg
    assert "$x^2$" in svg
