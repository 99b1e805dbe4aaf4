"""Hostile strings in everything that people read: no browser, renderer or terminal interprets them."""

from __future__ import annotations

import copy
import json
import unicodedata
from html.parser import HTMLParser

import pytest
import yaml
from example_metrics import with_change
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlm_recipes import MLMConfig
from mlm_recipes.cli.screen import shown
from mlm_recipes.recipes import run_folder
from mlm_recipes.recipes.arguments import read_config
from mlm_recipes.recipes.inspection import inspect_corpus
from mlm_recipes.report import inspection_page, last_screen, run_report
from mlm_recipes.sources.escaping import in_all, markdown, one_line, terminal

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title></style></td></table><svg onload=alert(1)>",
    '" autofocus onfocus="alert(1)',
    "' onmouseover='alert(1)",
    "<!-- --><![CDATA[ ]]><?php ?>",
    "&lt;b&gt; &#60;i&#62; &amp;amp;",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "[x]: https://evil.example 'title'\n[x]",
    "https://evil.example/ www.evil.example someone@evil.example <https://evil.example>",
    "{{ 7*7 }} {{ self.__init__.__globals__ }}",
    "{% for x in range(9) %}9{% endfor %} {# gone #} ${7*7} #{7*7} <%= 7*7 %>",
    "license: evil\n---\nlicense: evil\n---\n# Owned",
    "!!python/object/apply:os.system ['true']",
    "*alias &anchor",
    "a: b: {c: [d",
    "| --- | cell | \\| cell",
    "`code` ``` ~~~ fence\n```\n~~~",
    "**bold** __bold__ *it* _it_ ~~gone~~ $x^2$ $$y$$ \\",
    "# heading\n- item\n1. item\n> quote\n---\n===",
    "1. a list of one",
    "- a list of one",
    "[bold red]rich[/bold red] [link=https://evil.example]x[/link] [/]",
    "\x1b[2J\x1b[31mred\x1b]8;;https://evil.example\x07link\x1b]8;;\x07\x1b]0;title\x07\x9b31m",
    "invoice\u202efdp.exe \u2066\u2067\u2068\u2069 \u202a\u202b\u202c\u202d \u061c\u200e\u200f",
    "50%\rError: all is lost\x08\x08\x7f\x0b\x0c\x85\u2028\u2029",
    "nul\x00 byte",
    "zero\u200bwidth\ufeff\u2060 and tags \U000e0041\U000e0042",
    "half \ud83d a \udcff character",
    "=cmd|' /C calc'!A0,\"a\",\t+1",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u0937",
    "Z\u0351\u036b\u0343" * 50,
    "../../etc/passwd; rm -rf ~ $(id) `id`",
    "x" * 5_000,
]
HARMLESS = "harmless"


def hostile_metrics(text):
    """A run's metrics with every string in them replaced."""
    values = with_change()
    values["train"] |= {
        "resumed": [{"step": 1, "changed": {"learning_rate": [text, text]}}],
        "head_initialised": [text],
    }
    values["change"]["general"] = values["change"]["held_out"]
    figures = {name: measure["after"] for name, measure in values["change"]["held_out"]["measures"].items()}
    for part in ("before", "after"):
        values[part] |= figures | {"general": figures | {"masked_tokens": 90}}
        values[part]["fill_mask"][0]["chosen"] = text
    values["corpus"] |= {"general": text, "licence": text}
    return in_values(values, text)


def in_values(values, text, but=()):
    if isinstance(values, dict):
        return {key: value if key in but else in_values(value, text, but) for key, value in values.items()}
    if isinstance(values, list):
        return [in_values(value, text, but) for value in values]
    return text if isinstance(values, str) else values


class Tags(HTMLParser):
    """A page as a browser parses it: its tags with attribute names, and the attribute values."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.values, self.text = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *(name for name, _ in attributes)))
        self.values += [(name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}",))

    def handle_comment(self, data):
        self.tags.append(("comment",))

    def handle_decl(self, data):
        self.tags.append(("decl",))

    unknown_decl = handle_pi = handle_decl

    def handle_data(self, data):
        self.text.append(data)


def blocks(page):
    """A Markdown page as a renderer parses it: its blocks and inline elements, without the words."""
    found = []
    for token in MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"]).parse(page):
        found.append(token.type)
        found += [(child.type, child.attrs and sorted(child.attrs)) for child in token.children or ()]
    words = [("text", None), ("text", {}), ("text", [])]
    return [kind for kind in found if kind not in words]


def visible(page):
    """Return the words that a renderer would show."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    return " ".join("".join(c.content for c in token.children) for token in tokens if token.type == "inline")


def assert_obeys_nothing(text):
    for character in text:
        assert unicodedata.category(character) not in ("Cc", "Cs") or character in "\n\t", repr(character)
        assert not 0x202A <= ord(character) <= 0x202E, repr(character)
        assert not 0x2066 <= ord(character) <= 0x2069, repr(character)


def drawn(folder, values):
    """Write and draw a run; return its page and its card."""
    folder.mkdir()
    run_folder.write_recipe(folder, {"corpus": "x"})
    run_folder.write_metrics(folder, values)
    run_report.write(folder)
    return [(folder / name).read_text("utf-8") for name in ("report.html", "README.md")]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    page, card = drawn(tmp_path_factory.mktemp("runs") / "harmless", hostile_metrics(HARMLESS))
    return Tags(page), card


@pytest.fixture(scope="module")
def inspected():
    return inspect_corpus(corpus="general-english", timing=False).facts


#: Each one draws every page.
ATTEMPTS = [pytest.param(text, marks=pytest.mark.slow if i % 5 else (), id=str(i)) for i, text in enumerate(HOSTILE)]


@pytest.mark.parametrize("text", ATTEMPTS)
def test_no_report_interprets_a_hostile_string(text, harmless, inspected, tmp_path, checkpoint):
    values = hostile_metrics(text)
    page, card = drawn(tmp_path / "run", values)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8")) == values

    # report.html: the tags of a harmless run, and no attribute that loads or runs anything
    tags = Tags(page)
    assert tags.tags == harmless[0].tags
    assert not [name for name, _ in tags.values if name.startswith("on") or name in ("srcdoc", "formaction")]
    assert not [value for name, value in tags.values if name in ("href", "src", "action", "style") and text in value]
    assert one_line(text) in "".join(tags.text)  # shown, not dropped
    assert_obeys_nothing(page)

    # README.md: the keys of a harmless run's metadata, and its blocks
    head, body = (side.split("---\n", 2)[1:] for side in (card, harmless[1]))
    assert yaml.safe_load(head[0]).keys() == yaml.safe_load(body[0]).keys()
    assert blocks(head[1]) == blocks(body[1])
    assert one_line(text) in visible(head[1])
    assert "://evil" not in head[1]
    assert "www.evil" not in head[1]
    assert_obeys_nothing(card)

    # the terminal: the last screens of train, evaluate and inspect
    evaluation = values["after"] | {"model": text, "random_weights": False, "head_initialised": [text]}
    evaluation |= {"draws": 1, "distinct_tokens": 9}
    for screen in (
        last_screen.summary(values, tmp_path / text[:50].replace("/", "|")),
        last_screen.summary({"corpus": values["corpus"], "evaluation": evaluation}),
        inspection_page.page(in_values(inspected, text, but=("run", "device"))),
        shown(text),
    ):
        assert_obeys_nothing(screen)

    # recipe.yaml: one value, the same when it is read again
    recipe = MLMConfig(corpus=text, model=text, use_cpu=True).to_recipe()
    run_folder.write_recipe(tmp_path, recipe)
    if "\ud83d" not in text:  # not a character at all; YAML has no way to write it
        assert yaml.safe_load((tmp_path / "recipe.yaml").read_text("utf-8")) == recipe


def test_ordinary_text_is_not_changed():
    assert (
        terminal("a\tb\n\U0001f469\u200d\U0001f467 caf\u00e9 \u05d0")
        == "a\tb\n\U0001f469\u200d\U0001f467 caf\u00e9 \u05d0"
    )
    assert markdown("2 steps in 3 s (95% interval 0.51 to 0.70), -1.5; 'x'.") == (
        "2 steps in 3 s (95% interval 0.51 to 0.70), -1.5; 'x'."
    )


#: Each one draws every page.
ATTEMPTS = [pytest.param(text, marks=pytest.mark.slow if i % 5 else (), id=str(i)) for i, text in enumerate(HOSTILE)]


@pytest.mark.parametrize("text", ATTEMPTS)
def test_markdown_shows_a_hostile_string_as_it_is(text):
    shown_as_it_is(text)


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\\`*_[]()<>|#~$!&-+=1.:\n\t\x1b"))))
def test_markdown_shows_any_text_as_it_is(text):
    shown_as_it_is(text)


def shown_as_it_is(text):
    shown = one_line(text)
    for before, after in (("", ""), ("# ", ""), ("a ", " b"), ("| ", " |\n|---|\n")):
        whole = blocks(f"{before}{markdown(text)}{after}\n")
        assert not [kind for kind in whole if isinstance(kind, tuple)], whole
        plain = blocks(f"{before}{'x' if shown else ''}{after}\n")
        assert whole == plain
    if shown:
        assert visible(markdown(text)) == shown


def test_in_all_escapes_strings_and_leaves_other_values():
    values = {"a": ["x", 1, None, True, ("y",)], "x": {"b": 1.5}}
    before = copy.deepcopy(values)
    assert in_all(values, str.upper) == {"A": ["X", 1, None, True, ("Y",)], "X": {"B": 1.5}}
    assert values == before


def test_a_recipe_holds_data_only(tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"corpus: !!python/object/apply:pathlib.Path.touch [{tmp_path}/canary]\n")
    with pytest.raises(ValueError, match=r"recipe.yaml, line 1: not YAML \(could not determine a constructor"):
        read_config(tmp_path)
    assert not (tmp_path / "canary").exists()
