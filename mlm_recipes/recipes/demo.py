"""The playground: a local page where a run's model fills in sentences, before and after training."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from .. import metrics_file
from ..data.tokenizer import load_tokenizer
from ..evaluation.fill_mask import CHARACTER, fill_mask
from ..metrics_file import FilledPrompt
from ..model.loading import load_model
from .starting_model import starting_model

MASK = "[MASK]"
WORD = re.compile(rf"{re.escape(MASK)}|{CHARACTER}|[^\W_]+(?:['\u2019-][^\W_]+)*")

#: The most words that can be clicked; a longer text can still be typed.
MOST_WORDS = 200

STYLE = """
.gradio-container { max-width: 60rem !important; margin: 0 auto !important; }
#about, #answers, #examples { padding: 0; }
#fill { color: #000; }
#about h1 { font-size: 1.4rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
#about p { color: var(--body-text-color); margin: .2rem 0; overflow-wrap: anywhere; }
#words label { padding: .3rem .6rem; cursor: pointer; }
#words label:has(:checked) { background: var(--primary-500); border-color: var(--primary-500); color: #000; }
#words label:has(:focus-visible) { outline: 2px solid currentColor; outline-offset: 2px; }
#words input { position: absolute; opacity: 0; }
#words label span { margin: 0; }
#answers .both { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem 2.5rem; }
:is(#answers, #examples) h2 { font-size: 1.1rem; font-weight: 600; margin: 0 0 .3rem; }
#answers h3 { font-size: 1rem; font-weight: 400; margin: 0; }
#answers table { border-collapse: collapse; width: 100%; table-layout: fixed; margin: 0; }
#answers :is(table, tr, th, td) { border: 0; background: none; }
#answers :is(th, td) { padding: .2rem .5rem .2rem 0; vertical-align: middle; }
#answers th { text-align: left; }
#answers th { width: 38%; font-weight: 400; overflow-wrap: anywhere; }
#answers tr td:last-child { width: 4rem; padding-right: 0; text-align: right; font-variant-numeric: tabular-nums; }
#answers .bar { display: block; height: .8rem; min-width: 1px; border-radius: 2px; background: var(--primary-500); }
#answers .answer th { font-weight: 700; }
#answers .trouble { border-left: 4px solid #dc2626; padding: .3rem .75rem; overflow-wrap: anywhere; }
.prompt { justify-content: flex-start !important; text-align: left !important; white-space: normal !important; }
"""


class LoadedModel(NamedTuple):
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Playground:
    """A run's model before and after training, each with its tokenizer, and example prompts.

    `examples` are sentences, each with the index of one word: `words_of(sentence)[place]` is masked first.
    """

    name: str
    about: str
    before: LoadedModel
    after: LoadedModel
    examples: list[tuple[str, int]]

    @classmethod
    def open(cls, run: str | Path) -> Playground:
        """Load both models of a run folder.

        Raises: FileNotFoundError if it is not a finished run; ValueError for a model that cannot be loaded.
        """
        folder = Path(run)
        metrics = metrics_file.read(folder, "demo")
        tokenizer = load_tokenizer(folder)
        before = starting_model(folder, tokenizer)
        random = ", random weights" if before.random else ""
        return cls(
            name=str(run),
            about=f"Before: {before.name}{random}. After: trained on {metrics['corpus']['name']}. Held-out loss "
            f"{metrics['before']['loss']:.3f} before, {metrics['after']['loss']:.3f} after.",
            before=LoadedModel(before.model, before.tokenizer),
            after=LoadedModel(load_model(folder, tokenizer), tokenizer),
            examples=[_example(entry, tokenizer.mask_token) for entry in metrics["before"]["fill_mask"]],
        )

    def fill(self, sentence: str, chosen: Collection[int], top_k: int = 5) -> str:
        """Return the model's answers before and after training, side by side, as HTML; or why there are none.

        `chosen` are the indices of the masked words (`words_of`).
        """
        text = mask_words(sentence, chosen)
        if MASK not in text.replace(self.after.tokenizer.mask_token, MASK):
            return _trouble(f"No word is masked. Type {MASK} in place of a word, or click a word.")
        try:
            (before,), (after,) = (
                fill_mask(model, tokenizer, [text], top_k) for model, tokenizer in (self.before, self.after)
            )
        except ValueError as error:
            return _trouble(str(error))
        words = words_of(sentence)
        answers = [words[place] for place in sorted(chosen)] if len(set(chosen)) == len(before) else [""] * len(before)
        longest = max(probability for masks in (before, after) for guesses in masks for _, probability in guesses)
        columns = _column("Before", before, answers, longest) + _column("After", after, answers, longest)
        legend = "<p>\u2713 the original word</p>" if "\u2713" in columns else ""
        return f'<div class="both">{columns}</div>{legend}'


def words_of(sentence: str) -> list[str]:
    """Return the words that can be masked, in order; in scripts without spaces, the single characters.

    >>> words_of("The soul's [MASK], it is good.")
    ['The', "soul's", '[MASK]', 'it', 'is', 'good']
    """
    return WORD.findall(sentence)


def mask_words(sentence: str, chosen: Collection[int]) -> str:
    """Return a sentence in which [MASK] replaces the words with the indices `chosen`.

    >>> mask_words("Be content, then.", [1])
    'Be [MASK], then.'
    """
    places = iter(range(len(sentence)))
    return WORD.sub(lambda word: MASK if next(places) in chosen else word.group(), sentence)


def serve(run: str | Path, port: int | None = None) -> None:
    """Serve a run's playground at 127.0.0.1, until it is interrupted.

    Args:
        run: a finished run's folder.
        port: by default the first free one from 7860.

    Raises: ValueError if gradio is not installed; OSError if no port is free; otherwise as `Playground.open`.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(
            "demo: the playground needs gradio, which is not installed here. Accepted: this library with its extra. "
            "Run pip install 'mlm-recipes[demo]', or in a checkout: make demo RUN=runs/meditations."
        )
    playground = Playground.open(run)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    import gradio

    page = build(playground)
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        # System fonts: gradio would download its own.
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
    )
    print(f"{playground.name} before and after: {address}  (Ctrl-C stops it)", flush=True)
    page.block_thread()


def build(playground: Playground) -> Any:
    """Return the page as gradio's Blocks."""
    import gradio as gr

    def changed(text: str, sentence: str, chosen: list[int]) -> tuple[Any, Any]:
        if text == mask_words(sentence, chosen):
            return gr.skip(), gr.skip()  # not typed, but caused by a click
        return text, chips(text, masked_places(text))

    def clicked(sentence: str, chosen: list[int]) -> tuple[str, Any, str]:
        chosen = sorted({*chosen, *masked_places(sentence)})  # a typed [MASK] has no original word
        return mask_words(sentence, chosen), chips(sentence, chosen), playground.fill(sentence, chosen)

    def asked(text: str, sentence: str, chosen: list[int]) -> tuple[str, str, Any, str]:
        if text != mask_words(sentence, chosen):
            sentence, chosen = text, masked_places(text)
        return sentence, *clicked(sentence, chosen)

    def example(number: int) -> tuple[str, str, Any, str]:
        sentence, place = playground.examples[number]
        return sentence, *clicked(sentence, [place])

    def chips(sentence: str, chosen: Sequence[int]) -> Any:
        words = words_of(sentence)
        return gr.update(
            choices=[(word, place) for place, word in enumerate(words)],
            value=list(chosen),
            visible=0 < len(words) <= MOST_WORDS,
        )

    with gr.Blocks(title=f"{playground.name}: before and after", analytics_enabled=False) as page:
        gr.HTML(f"<h1>{escape(playground.name)}</h1><p>{escape(playground.about)}</p>", elem_id="about")
        sentence = gr.State("")  # the text of the box, with the masked words
        text = gr.Textbox(
            label=f"A sentence with {MASK}", lines=2, max_lines=6, elem_id="text", placeholder=f"The {MASK} of man."
        )
        words = gr.CheckboxGroup([], label="Click a word to mask it; click again to restore it", elem_id="words")
        button = gr.Button("Fill in", variant="primary", elem_id="fill")
        answers = gr.HTML(elem_id="answers")
        # Not a public endpoint; of several clicks during one answer, only the last counts.
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
        text.change(changed, [text, sentence, words], [sentence, words], **quiet)  # typed, pasted or spoken
        words.input(clicked, [sentence, words], [text, words, answers], **quiet)
        gr.on([button.click, text.submit], asked, [text, sentence, words], [sentence, text, words, answers], **quiet)
        if playground.examples:
            gr.HTML("<h2>From the held-out text</h2>", elem_id="examples")
            for number, (its_sentence, place) in enumerate(playground.examples):
                prompt = gr.Button(mask_words(its_sentence, [place]), size="sm", elem_classes="prompt")
                prompt.click(partial(example, number), None, [sentence, text, words, answers], **quiet)
            page.load(partial(example, 0), None, [sentence, text, words, answers], **quiet)
    return page


def masked_places(sentence: str) -> list[int]:
    """Return the indices of the masks among a sentence's words.

    >>> masked_places("The [MASK] of man.")
    [1]
    """
    return [place for place, word in enumerate(words_of(sentence)) if word == MASK]


def _example(entry: FilledPrompt, mask_token: str) -> tuple[str, int]:
    """Return a prompt with its answer filled in, and the index of that word; without an answer, the mask stays."""
    head, _, tail = entry["prompt"].replace(mask_token, MASK).partition(MASK)
    return f"{head}{entry['answer'] or MASK}{tail}", len(words_of(head))


def _column(title: str, masks: list[list[tuple[str, float]]], answers: Sequence[str], longest: float) -> str:
    parts = [f"<section><h2>{title}</h2>"]
    for number, (guesses, answer) in enumerate(zip(masks, answers, strict=True), start=1):
        if len(masks) > 1:
            parts.append(f"<h3>mask {number}</h3>")
        rows = "".join(_row(token, probability, longest, answer) for token, probability in guesses)
        parts.append(f"<table>{rows}</table>")
    return "".join([*parts, "</section>"])


def _row(token: str, probability: float, longest: float, answer: str) -> str:
    is_answer = answer != MASK and token.casefold() == answer.casefold()
    attribute, mark = (' class="answer"', " \u2713") if is_answer else ("", "")
    return (
        f'<tr{attribute}><th scope="row">{escape(token)}{mark}</th>'
        f'<td><span class="bar" style="width:{100 * probability / longest:.1f}%"></span></td>'
        f"<td>{probability:.1%}</td></tr>"
    )


def _trouble(message: str) -> str:
    return f'<p class="trouble" role="alert">{escape(message)}</p>'
