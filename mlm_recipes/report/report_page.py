"""report.html: one self-contained page, drawn from metrics.json; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypedDict

from ..metrics_file import CorpusFacts, MachineLimit, Metrics, Piece, Train, Word, Words
from ..probes_file import ProbeChange
from . import plots, probe_plot, probes
from .adapter import how_trained
from .before_after_table import NO_CHANGE, Row, in_order, row_of, rows
from .frozen_parts import frozen_parts, head_first, new_tokens_first
from .html import environment
from .processes import trained_by
from .similarity_sentences import similarity_sentences
from .text_read import how_read
from .wording import count, duration, headline, note, size, was_mixed

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
    "held_out_copies": "copies of held-out paragraphs, neither trained on nor measured",
    "held_out_not_measured": "held-out paragraphs beyond --max_eval_samples, not measured",
    "general_copies": "copies in the ordinary language, not measured",
    "general_not_measured": "paragraphs of ordinary language beyond --max_eval_samples, not measured",
}

#: What was found and kept.
_FOUND = {
    "duplicates": "duplicate paragraphs, kept",
    "near_duplicates": "near duplicates, kept",
    "near_duplicates_of_validation": "training paragraphs similar to a held-out one, kept",
}


def page(metrics: Metrics) -> str:
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
            more=" ".join([note(metrics)[len(said) :].strip(), *similarity_sentences(metrics)]).strip(),
            table=_groups(rows(metrics)),
            measured=_measured(metrics),
            has_interval="change" in metrics,
            figures=[plot for plot in _figures(metrics) if plot],
            only_ends=metrics["train"]["recipe"] == "train" and metrics["train"].get("evaluations") == [],
            pieces=[(part["name"], _groups(_breakdown(part))[0][1]) for part in metrics.get("pieces", [])],
            words=_words(metrics.get("words")),
            probes=[_probe(probe, number) for number, probe in enumerate(probes.probes_in(metrics), start=1)],
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


def _groups(found: list[Row]) -> list[tuple[Row, list[Row]]]:
    """Return each text's heading with its rows."""
    groups: list[tuple[Row, list[Row]]] = []
    for row in found:
        if row.kind == "text":
            groups.append((row, []))
        else:
            groups[-1][1].append(row)
    return groups


def _measured(metrics: Metrics) -> str:
    """Return how much text the table was measured on, and what its intervals are."""
    if "change" not in metrics:
        return "Before and after are measured on the same masked tokens."
    held_out = metrics["change"]["held_out"]
    unit = held_out["unit"]
    times = f", in {count(held_out['draws'], 'draw')} of the masks" if held_out["draws"] > 1 else ""
    distinct = "distinct " if "repeated_rows" in held_out else ""
    text = (
        f"Held out: {held_out['paragraphs']:,} {distinct}{unit}, in which "
        f"{count(held_out['distinct_tokens'], 'token')} were masked at least once{times}: "
        f"{held_out['masked_tokens']:,} predictions, the same before and after. "
        f"Intervals are 95% paired bootstraps over {unit}; if one includes zero, there is {NO_CHANGE}."
    )
    sample = held_out.get("pseudo_perplexity_sample")
    if sample and sample["share"] < 1:
        text += f" Pseudo-perplexity masks one token at a time, here a sample of {count(sample['tokens'], 'token')}."
    return text


def _figures(metrics: Metrics) -> Iterator[plots.Plot | None]:
    train = metrics["train"]
    yield plots.held_out_loss(_held_out_points(metrics))
    yield plots.training_loss(train["history"])
    yield plots.learning_rate(train["history"])
    yield plots.masked_share(train["history"])
    yield plots.accuracy_by_band(metrics.get("bands", []), *_bands(metrics))


def _held_out_points(metrics: Metrics) -> list[tuple[float, float]]:
    """Return the step and the held-out loss on the first draw of the masks: before, during and after training."""
    train = metrics["train"]
    ends = {
        step: state["first_draw"]["loss"] if "first_draw" in state else state["loss"]
        for step, state in ((0, metrics["before"]), (train["steps"], metrics["after"]))
    }
    between = {entry["step"]: entry["loss"] for entry in train.get("evaluations", [])}
    return sorted((between | ends).items())


def _breakdown(part: Piece) -> list[Row]:
    return [Row(part["name"], kind="text"), *(row_of(name, m) for name, m in in_order(part["measures"]))]


def _bands(metrics: Metrics) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the accuracy of each band as a table."""
    header = ("occurrences in training", "distinct tokens", "before", "after", "change", "95% interval")
    found: list[tuple[str, ...]] = []
    for band in metrics.get("bands", []):
        row = row_of("accuracy", band["measures"]["accuracy"])
        found.append((band["name"], f"{band['distinct_tokens']:,}", row.before, row.after, row.change, row.interval))
    return header, found


class _ShownWords(TypedDict):
    """What the template shows about the words: lists with a title, and each word's measure and places."""

    compared: int
    at_least: int
    lists: list[tuple[str, list[tuple[str, Row, str]]]]


def _words(words: Words | None) -> _ShownWords | None:
    """Return the words that gained and lost most as text; None if nothing was compared."""
    if not words or not (words["gained"] or words["lost"]):
        return None

    def texts(entries: list[Word]) -> list[tuple[str, Row, str]]:
        found = [(entry, row_of("loss", entry)) for entry in entries]
        return [
            (entry["word"], row if entry["low"] is not None else replace(row, interval=""), f"{entry['places']:,}")
            for entry, row in found
        ]

    lists = [("Gained most", texts(words["gained"])), ("Lost most", texts(words["lost"]))]
    return {
        "compared": words["compared"],
        "at_least": words["at_least"],
        "lists": [found for found in lists if found[1]],
    }


class _ShownProbe(TypedDict):
    """What the template shows about a probe."""

    name: str
    sentence: str
    remarks: list[str]
    rows: list[tuple[str, ...]]
    facts: list[Fact]
    plot: plots.Plot | None


def _probe(probe: ProbeChange, number: int) -> _ShownProbe:
    return {
        "name": probe["name"],
        "sentence": probes.result(probe),
        "remarks": list(probes.remarks(probe)),
        "rows": probes.rows(probe),
        "facts": list(probes.details(probe)),
        "plot": probe_plot.learning_curve(probe, f"probe-curve-{number}"),
    }


class _ShownPrompt(TypedDict):
    """What the template shows about a prompt: in each row the token before and after, and whether it is the answer."""

    prompt: str
    answer: str | None
    chosen: str
    probability: str | None
    rows: list[tuple[tuple[str, str, bool], ...]]


def _prompts(metrics: Metrics) -> Iterator[_ShownPrompt]:
    """Yield each prompt with its top tokens before and after, row by row, and the probability of the answer."""
    for old, new in zip(metrics["before"]["fill_mask"], metrics["after"]["fill_mask"], strict=True):
        answer = old.get("answer")
        likely = old.get("probability"), new.get("probability")
        cells = [[(token, f"{p:.1%}", token == answer) for token, p in entry["top"]] for entry in (old, new)]
        yield {
            "prompt": old["prompt"],
            "answer": answer,
            "chosen": old.get("chosen", ""),
            "probability": None if None in likely else "{:.1%} before, {:.1%} after".format(*likely),
            "rows": list(zip(*cells, strict=True)),
        }


def _corpus(corpus: CorpusFacts) -> Iterator[Fact]:
    yield "name", corpus["name"]
    yield "source", corpus["source"]
    if "licence" in corpus:
        yield "licence", corpus["licence"]
    if "streamed" in corpus:
        yield "size", "unknown: read as a stream"
    else:
        yield "size", f"{count(corpus['paragraphs'], 'paragraph')}, {count(corpus['words'], 'word')}"
        yield "trained on", count(corpus["train"], "paragraph")
    if "prepared" in corpus:
        made = corpus["prepared"]
        yield "prepared", f"{count(made['shards'], 'shard')}, {count(made['tokens'], 'token')}, of {made['text']}"
    for sentence in how_read(corpus):
        yield "how it was read", sentence
    other = f" of {corpus['validation_corpus']['name']}" if "validation_corpus" in corpus else ""
    yield "held out", count(corpus["validation"], "paragraph") + other
    rows = "" if corpus.get("rows") is None else f"{corpus['rows']:,}, "
    yield "rows", f"{rows}of at most {count(corpus['max_length'], 'token')}"
    if "general" in corpus:
        yield "ordinary language", corpus["general"]
    for text in corpus.get("mixed", []):
        yield "mixed in", f"{text['name']} ({text['source']}), {count(text['paragraphs'], 'paragraph')}"


def _lost(metrics: Metrics) -> Iterator[Fact]:
    """Yield what was cut off, split, padded, skipped or repaired."""
    corpus, tokens = metrics["corpus"], metrics["train"].get("tokens")
    longest = f"longer than {count(corpus['max_length'], 'token')}"
    cut_off, cut_off_tokens = corpus.get("cut_off_paragraphs"), corpus.get("cut_off_tokens")
    if cut_off and cut_off_tokens:
        yield "cut off", f"{count(cut_off_tokens, 'token')}, the ends of {count(cut_off, 'paragraph')} {longest}"
    split = corpus.get("split_paragraphs")
    if split:
        yield "split", f"{count(split, 'paragraph')} {longest}; no token is lost"
    if "streamed" in corpus:
        yield "cut off or split", "not counted: the text was read as a stream"
    if tokens:
        share = tokens["padding"] / max(1, tokens["real"] + tokens["padding"])
        padding = f"{count(tokens['padding'], 'token')}, {share:.1%} of what training computed"
        yield "padding", padding if tokens["padding"] else "none in training"
    counts: Mapping[str, object] = corpus
    for key, what in (_LOST | _FOUND).items():
        if counts.get(key):
            yield what, f"{counts[key]:,}"
    repeated = metrics["change"]["held_out"].get("repeated_rows") if "change" in metrics else 0
    if repeated:
        yield "held-out rows that equal another one to the model, not measured", f"{repeated:,}"
    unknown = corpus.get("unknown")
    if unknown is not None:
        number = f"{count(unknown['unknown_tokens'], 'token')} of {unknown['tokens']:,}"
        yield "unknown to the vocabulary", f"{number}, with {unknown['characters']:.1%} of the characters"


def _nothing(corpus: CorpusFacts) -> list[str]:
    """Return what was looked for and not found."""
    counts: Mapping[str, object] = corpus
    looked_for = {"cut_off_paragraphs": "tokens cut off"} | _LOST | _FOUND
    return [what.removesuffix(", kept") for key, what in looked_for.items() if counts.get(key) == 0]


def _run(train: Train) -> Iterator[Fact]:
    start = "random weights" if train["random_weights"] else "its trained weights"
    yield "model", f"{train['model']}, {count(train['parameters'], 'parameter')}, from {start}"
    if (trained := how_trained(train)) is not None:
        yield "trained", trained
    if train.get("head_initialised"):
        yield "weights missing from the checkpoint", ", ".join(train["head_initialised"])
    yield "training", f"{count(train['steps'], 'step')}, {train['epochs']:.3g} epochs, {duration(train['seconds'])}"
    if "frozen" in train:
        yield "frozen parts", frozen_parts(train["frozen"])
    if train.get("head_warmup_steps"):
        yield "head first", head_first(train["head_warmup_steps"])
    if train.get("train_new_tokens_first"):
        yield "new tokens first", new_tokens_first(train["train_new_tokens_first"])
    for each in train.get("resumed") or []:
        yield "resumed", f"after step {each['step']:,}"
    for sentence in was_mixed(train.get("mixed", [])):
        yield "mixed in", sentence.removeprefix("Mixed in: ").removesuffix(".")
    if train.get("skipped_steps"):
        steps = train["skipped_steps"]
        yield "steps skipped", f"{len(steps):,}, whose loss or gradient was not finite: " + ", ".join(map(str, steps))
    if train.get("out_of_memory"):
        yield "out of memory", "; ".join(f"{key} {value}" for key, value in train["out_of_memory"].items())
    if train["processes"] > 1:
        yield "processes", trained_by(train["processes"], train.get("balance"))
    steps_per_second, tokens_per_second = train.get("steps_per_second"), train.get("tokens_per_second")
    speed = []
    if steps_per_second:
        speed.append(f"{steps_per_second:.3g} steps per second")
    if tokens_per_second:
        speed.append(f"{count(round(tokens_per_second), 'token')} per second")
    if speed:
        yield "speed", ", ".join(speed)
    limit, memory = train.get("machine_limit"), train.get("peak_memory")
    if limit:
        yield "share of the machine's limit", _limit(limit)
    if memory:
        of = {"process": "resident memory of the main process", "gpu": "on the GPU"}[memory["of"]]
        yield "peak memory", f"{size(memory['bytes'])} ({of})"
    if train.get("evaluation_seconds") is not None:
        yield "evaluation", f"{duration(train['evaluation_seconds'])}, before and after together"


def _limit(limit: MachineLimit) -> str:
    used, most = limit["flops_per_second"] / 1e9, limit["matrix_flops_per_second"] / 1e9
    return f"{used / most:.0%}: {used:,.0f} of the {most:,.0f} GFLOP/s that a matrix product reaches, {limit['dtype']}"
