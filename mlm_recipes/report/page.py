"""report.html: one self-contained page, drawn from metrics.json; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import plots
from .before_after_table import NO_CHANGE, Row, in_order, row_of, rows
from .wording import count, headline, note

#: A fact: its label, and its value as text.
Fact = tuple[str, str]

#: What may be lost or repaired when a text is read and cut into rows: the key in `corpus`, and its label.
_LOST = {
    "blank_lines_dropped": "blank lines",
    "gutenberg_lines_dropped": "lines of Project Gutenberg's header and footer",
    "rows_without_text": "table rows without text",
    "undecodable_replaced": "characters that could not be decoded, replaced",
    "very_long_cut": "very long paragraphs cut while reading",
    "files_left_out": "files skipped",
    "duplicates_dropped": "duplicates dropped",
    "dropped_as_duplicate_of_validation": "training paragraphs that are also held out, dropped",
}

#: What was found and kept.
_FOUND = {
    "duplicates": "duplicate paragraphs, kept",
    "near_duplicates": "near duplicates, kept",
    "near_duplicates_of_validation": "training paragraphs similar to a held-out one, kept",
}


def page(metrics: dict[str, Any]) -> str:
    """Return report.html of a run; what an older run did not measure is left out.

    `metrics` is as in docs/metrics.md. The strings in it are shown literally, whatever they contain.
    """
    said = headline(metrics)
    return (
        environment()
        .get_template("report.html")
        .render(
            title=f"{metrics['train']['model']} on {metrics['corpus']['name']}",
            headline=said,
            more=note(metrics)[len(said) :].strip(),
            table=_groups(rows(metrics)),
            measured=_measured(metrics),
            has_interval="change" in metrics,
            figures=[plot for plot in _figures(metrics) if plot],
            only_ends=metrics["train"]["recipe"] == "train" and metrics["train"].get("evaluations") == [],
            pieces=[(part["name"], _groups(_breakdown(part))[0][1]) for part in metrics.get("pieces", [])],
            words=_words(metrics.get("words")),
            prompts=list(_prompts(metrics)),
            corpus=list(_corpus(metrics["corpus"])),
            lost=list(_lost(metrics)),
            nothing=_nothing(metrics["corpus"]),
            run=list(_run(metrics["train"])),
            versions=metrics["versions"],
            fingerprint=metrics["corpus"].get("fingerprint"),
            command=metrics["train"].get("command"),
        )
    )


def environment() -> Environment:
    """Return the Jinja environment of the pages: every value is escaped for HTML, and an undefined name is an error."""
    return Environment(
        loader=PackageLoader("mlm_recipes.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def size(number: float) -> str:
    """Return a number of bytes in a suitable unit.

    >>> size(3_171_409_920), size(64_000_000)
    ('3.2 GB', '64 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Return a time in suitable units.

    >>> duration(3.25), duration(275), duration(86_000)
    ('3.2 s', '4 min 35 s', '23 h 53 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _groups(found: list[Row]) -> list[tuple[Row, list[Row]]]:
    """Return each text's heading with its rows."""
    groups: list[tuple[Row, list[Row]]] = []
    for row in found:
        if row.kind == "text":
            groups.append((row, []))
        else:
            groups[-1][1].append(row)
    return groups


def _measured(metrics: dict[str, Any]) -> str:
    """Return how much text the table was measured on, and what its intervals are."""
    if "change" not in metrics:
        return "Before and after are measured on the same masked tokens."
    held_out = metrics["change"]["held_out"]
    unit = held_out["unit"]
    times = f", in {count(held_out['draws'], 'draw')} of the masks" if held_out["draws"] > 1 else ""
    text = (
        f"Held out: {held_out['paragraphs']:,} {unit}, in which {count(held_out['distinct_tokens'], 'token')} were "
        f"masked at least once{times}: {held_out['masked_tokens']:,} predictions, the same before and after. "
        f"Intervals are 95% paired bootstraps over {unit}; if one includes zero, there is {NO_CHANGE}."
    )
    sample = held_out.get("pseudo_perplexity_sample")
    if sample and sample["share"] < 1:
        text += f" Pseudo-perplexity masks one token at a time, here a sample of {count(sample['tokens'], 'token')}."
    return text


def _figures(metrics: dict[str, Any]) -> Iterator[plots.Plot | None]:
    train = metrics["train"]
    yield plots.held_out_loss(_held_out_points(metrics))
    yield plots.training_loss(train["history"])
    yield plots.learning_rate(train["history"])
    yield plots.accuracy_by_band(metrics.get("bands", []), *_bands(metrics))


def _held_out_points(metrics: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the step and the held-out loss on the first draw of the masks: before, during and after training."""
    train = metrics["train"]
    ends = {
        step: metrics[when].get("first_draw", metrics[when])["loss"]
        for step, when in ((0, "before"), (train["steps"], "after"))
    }
    between = {entry["step"]: entry["loss"] for entry in train.get("evaluations", [])}
    return sorted((between | ends).items())


def _breakdown(part: dict[str, Any]) -> list[Row]:
    return [Row(part["name"], kind="text"), *(row_of(name, m) for name, m in in_order(part["measures"]))]


def _bands(metrics: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the accuracy of each band as a table."""
    header = ("occurrences in training", "distinct tokens", "before", "after", "change", "95% interval")
    found: list[tuple[str, ...]] = []
    for band in metrics.get("bands", []):
        row = row_of("accuracy", band["measures"]["accuracy"])
        found.append((band["name"], f"{band['distinct_tokens']:,}", row.before, row.after, row.change, row.interval))
    return header, found


def _words(words: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the words that gained and lost most as text; None if nothing was compared."""
    if not words or not (words["gained"] or words["lost"]):
        return None

    def texts(entries: list[dict[str, Any]]) -> list[tuple[str, Row, str]]:
        found = [(entry, row_of("loss", entry)) for entry in entries]
        return [
            (entry["word"], row if entry["low"] is not None else replace(row, interval=""), f"{entry['places']:,}")
            for entry, row in found
        ]

    lists = [(title, texts(words[key])) for title, key in (("Gained most", "gained"), ("Lost most", "lost"))]
    return {
        "compared": words["compared"],
        "at_least": words["at_least"],
        "lists": [found for found in lists if found[1]],
    }


def _prompts(metrics: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each prompt with its top tokens before and after, row by row, and the probability of the answer."""
    for old, new in zip(metrics["before"]["fill_mask"], metrics["after"]["fill_mask"], strict=True):
        answer = old.get("answer")
        likely = [entry.get("probability") for entry in (old, new)]
        cells = [[(token, f"{p:.1%}", token == answer) for token, p in entry["top"]] for entry in (old, new)]
        yield {
            "prompt": old["prompt"],
            "answer": answer,
            "chosen": old.get("chosen", ""),
            "probability": None if None in likely else "{:.1%} before, {:.1%} after".format(*likely),
            "rows": list(zip(*cells, strict=True)),
        }


def _corpus(corpus: dict[str, Any]) -> Iterator[Fact]:
    yield "name", corpus["name"]
    yield "source", corpus["source"]
    if corpus.get("licence"):
        yield "licence", corpus["licence"]
    if corpus.get("streamed"):
        yield "size", "unknown: read as a stream"
    else:
        yield "size", f"{count(corpus['paragraphs'], 'paragraph')}, {count(corpus['words'], 'word')}"
        yield "trained on", count(corpus["train"], "paragraph")
    other = corpus.get("validation_corpus", {}).get("name")
    yield "held out", count(corpus["validation"], "paragraph") + (f" of {other}" if other else "")
    rows = "" if corpus.get("rows") is None else f"{corpus['rows']:,}, "
    yield "rows", f"{rows}of at most {count(corpus['max_length'], 'token')}"
    if corpus.get("general"):
        yield "ordinary language", corpus["general"]


def _lost(metrics: dict[str, Any]) -> Iterator[Fact]:
    """Yield what was cut off, split, padded, skipped or repaired."""
    corpus, tokens = metrics["corpus"], metrics["train"].get("tokens")
    longest = f"longer than {count(corpus['max_length'], 'token')}"
    if corpus.get("cut_off_paragraphs"):
        lost = count(corpus["cut_off_tokens"], "token")
        yield "cut off", f"{lost}, the ends of {count(corpus['cut_off_paragraphs'], 'paragraph')} {longest}"
    if corpus.get("split_paragraphs"):
        yield "split", f"{count(corpus['split_paragraphs'], 'paragraph')} {longest}; no token is lost"
    if corpus.get("streamed"):
        yield "cut off or split", "not counted: the text was read as a stream"
    if tokens:
        share = tokens["padding"] / max(1, tokens["real"] + tokens["padding"])
        padding = f"{count(tokens['padding'], 'token')}, {share:.1%} of what training computed"
        yield "padding", padding if tokens["padding"] else "none in training"
    for key, what in (_LOST | _FOUND).items():
        if corpus.get(key):
            yield what, f"{corpus[key]:,}"


def _nothing(corpus: dict[str, Any]) -> list[str]:
    """Return what was looked for and not found."""
    found = [] if corpus.get("cut_off_paragraphs", 1) != 0 else ["tokens cut off"]
    return found + [what.removesuffix(", kept") for key, what in (_LOST | _FOUND).items() if corpus.get(key, 1) == 0]


def _run(train: dict[str, Any]) -> Iterator[Fact]:
    start = "random weights" if train["random_weights"] else "its trained weights"
    yield "model", f"{train['model']}, {count(train['parameters'], 'parameter')}, from {start}"
    if train.get("head_initialised"):
        yield "weights missing from the checkpoint", ", ".join(train["head_initialised"])
    yield "training", f"{count(train['steps'], 'step')}, {train['epochs']:.3g} epochs, {duration(train['seconds'])}"
    for each in train.get("resumed") or []:
        yield "resumed", f"after step {each['step']:,}"
    if train.get("skipped_steps"):
        steps = train["skipped_steps"]
        yield "steps skipped", f"{len(steps):,}, whose loss or gradient was not finite: " + ", ".join(map(str, steps))
    if train.get("out_of_memory"):
        yield "out of memory", "; ".join(f"{key} {value}" for key, value in train["out_of_memory"].items())
    if train["processes"] > 1:
        yield "processes", f"{train['processes']}"
    speed = []
    if train.get("steps_per_second"):
        speed.append(f"{train['steps_per_second']:.3g} steps per second")
    if train.get("tokens_per_second"):
        speed.append(f"{count(round(train['tokens_per_second']), 'token')} per second")
    if speed:
        yield "speed", ", ".join(speed)
    if train.get("machine_limit"):
        yield "share of the machine's limit", _limit(train["machine_limit"])
    if train.get("peak_memory"):
        of = {"process": "resident memory of the main process", "gpu": "on the GPU"}[train["peak_memory"]["of"]]
        yield "peak memory", f"{size(train['peak_memory']['bytes'])} ({of})"
    if train.get("evaluation_seconds") is not None:
        yield "evaluation", f"{duration(train['evaluation_seconds'])}, before and after together"


def _limit(limit: dict[str, Any]) -> str:
    used, most = (limit[name] / 1e9 for name in ("flops_per_second", "matrix_flops_per_second"))
    return f"{used / most:.0%}: {used:,.0f} of the {most:,.0f} GFLOP/s that a matrix product reaches, {limit['dtype']}"
