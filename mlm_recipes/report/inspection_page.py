"""The page of an inspection: tables and sentences, 72 to 110 columns wide; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..inspection_file import InspectionFacts, Layout, Timing
from ..metrics_file import TEXT_COLUMN
from ..sources.escaping import in_all, one_line, shell
from . import probes, similarity_sentences, terminal, wording
from .text_read import how_read

#: The widest bar of the histogram, in characters.
_BAR = 24

#: Counts that the page shows in a row of their own; every other count of the corpus is listed by its name.
_SHOWN = {"paragraphs", "words", "train", "validation", "duplicates", "dropped_as_duplicate_of_validation"} | {
    "near_duplicates",
    "near_duplicates_of_validation",
    "held_out_copies",
    *("files_without_text", "files_without_header", "tables_read_as_text"),
}

#: Facts that `how_read` says.
_SAID = {"text_column", "characters", "splits"}

#: Values that the recommended command sets, besides the corpus.
_FLAGS = ("model", "max_length", "per_device_train_batch_size", "num_train_epochs")

#: How a batch may be laid out.
_LAYOUTS: dict[Layout, str] = {
    "max_length": "with every row padded to {max_length} tokens",
    "longest": "to the longest row in a batch of {per_device_train_batch_size}, in random order",
    "padding_free": "padding-free",
}


#: What some counts say in words; the others say it by their names.
_COUNTED = {
    f"files read by {unit}": f"files, one paragraph per {said}"
    for unit, said in (("line", "line"), ("paragraph", "block of lines"), ("document", "file"))
}


def page(facts: InspectionFacts) -> str:
    """Return the whole page, from the facts of an inspection."""
    facts = in_all(facts, one_line)
    corpus, model, recipe = facts["corpus"], facts["model"]["name"], facts["recipe"]["name"]
    licence = f", {corpus['licence']}" if "licence" in corpus else ""
    parts = [
        terminal.wrapped(f"{corpus['name']} ({corpus['source']}{licence}) for {model} with the recipe {recipe}"),
        *map(terminal.wrapped, how_read(corpus)),
        terminal.table([("text", "", ""), *_text(facts)], right=range(1, 2)),
        terminal.table([("length", "paragraphs", "of all tokens"), *_histogram(facts)], right=range(2, 3)),
        terminal.wrapped(_longest(facts)),
        terminal.table([("vocabulary", "", ""), *_vocabulary(facts)], right=range(1, 2)),
    ]
    fragmented = facts["words"]["most_fragmented"]
    if fragmented:
        rows = [(found["word"], f"{found['count']:,}", " ".join(found["pieces"])) for found in fragmented]
        parts.append(terminal.table([("word in pieces", "times", ""), *rows], right=range(1, 2)))
    parts += [
        terminal.table([("training rows", "", ""), *_rows(facts)], right=range(1, 2)),
        terminal.table([("model", "", ""), *_model(facts)], right=range(1, 2)),
    ]
    if facts["time"]:
        parts.append(terminal.table([("time on this machine", "", ""), *_time(facts["time"])], right=range(1, 2)))
    for probe in facts.get("probes", []):
        said = [*probes.about_the_texts(probe, probe.get("selecting", 0)), probes.inspected(probe)]
        parts.append(terminal.wrapped(" ".join(said)))
    parts += [terminal.wrapped(similarity_sentences.inspected_pairs(pairs)) for pairs in facts.get("probe_pairs", [])]
    parts += [
        terminal.wrapped(similarity_sentences.inspected_search(search)) for search in facts.get("probe_search", [])
    ]
    parts.append(_advice(facts))
    return "\n".join(line.rstrip() for line in "\n\n".join(parts).splitlines())


def _text(facts: InspectionFacts) -> Iterator[tuple[str, str, str]]:
    corpus, lengths = facts["corpus"], facts["lengths"]
    yield (
        "paragraphs",
        f"{corpus['paragraphs']:,}",
        f"{corpus['train']:,} for training, {corpus['validation']:,} held out",
    )
    yield "words", f"{corpus['words']:,}", ""
    ends = lengths["tokens_with_special"] - lengths["tokens"]
    yield "tokens", f"{lengths['tokens']:,}", f"plus {ends:,} special tokens at the ends of paragraphs"
    duplicates = facts["duplicates"]
    yield "duplicates", f"{duplicates['exact']:,}", "paragraphs equal to another except for case and white space"
    yield (
        "near duplicates",
        f"{duplicates['near']:,}",
        "paragraphs like an earlier one; --deduplicate near drops them",
    )
    leaked = duplicates["dropped_as_duplicate_of_validation"]
    yield "also held out", f"{leaked:,}", "copies of held-out paragraphs; dropped from training"
    copies = facts["corpus"].get("held_out_copies", 0)
    yield "copies held out", f"{copies:,}", "copies of held-out paragraphs; not measured again"
    near = duplicates["near_duplicates_of_validation"]
    yield "nearly held out", f"{near:,}", "training paragraphs similar to a held-out one; --deduplicate near drops them"
    for name, number in _counts(corpus):
        yield "while reading", f"{number:,}", _COUNTED.get(name, name)


def _counts(facts: Mapping[str, object], within: str = "") -> Iterator[tuple[str, int]]:
    """Yield every nonzero count of what was dropped, joined, cut or replaced, with its name in words."""
    for name, value in facts.items():
        if name in _SAID or name.startswith(TEXT_COLUMN):
            continue
        if isinstance(value, dict):
            yield from _counts(value, f"{name}: ".replace("_", " "))
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0 and name not in _SHOWN:
            yield f"{within}{name.replace('_', ' ')}", value


def _histogram(facts: InspectionFacts) -> Iterator[tuple[str, str, str]]:
    buckets, tokens = facts["lengths"]["histogram"], facts["lengths"]["tokens_with_special"]
    most = max(bucket["paragraphs"] for bucket in buckets)
    figures = max(len(f"{bucket['to']:,}") for bucket in buckets)
    counts = max(len(f"{bucket['paragraphs']:,}") for bucket in buckets)
    for bucket in buckets:
        number = bucket["paragraphs"]
        bar = "\u2588" * round(_BAR * number / most) or ("\u258f" if number else "")
        yield (
            f"{bucket['from']:>{figures},} to {bucket['to']:>{figures},}",
            f"{number:>{counts},} {bar:{_BAR}}",
            f"{bucket['tokens'] / tokens:.1%}",
        )


def _longest(facts: InspectionFacts) -> str:
    lengths = facts["lengths"]
    return (
        "Lengths are in tokens, including the special ones at both ends. Half of the paragraphs have "
        f"{lengths['median']:,.0f} or fewer; the longest has {lengths['longest']:,}: "
        f"\u201c{lengths['longest_begins']} \u2026\u201d"
    )


def _vocabulary(facts: InspectionFacts) -> Iterator[tuple[str, str, str]]:
    words, unknown = facts["words"], facts["unknown"]
    sample = f" (a sample of {words['counted']:,})" if words["sample"] else ""
    yield "pieces per word", f"{words['pieces_per_word']['ratio']:.2f}", f"1 if the vocabulary has the word{sample}"
    yield "words in pieces", f"{words['broken']['ratio']:.1%}", f"split into two or more{sample}"
    most = ", ".join(f"{found['word']} ({found['count']:,})" for found in words["most_unknown"][:5])
    which = f"{unknown['sum']:,} of {unknown['count']:,}{': ' if most else ''}{most}"
    yield "unknown tokens", f"{unknown['ratio']:.2%}", which
    yield "unknown characters", f"{facts['lost']['characters']:.2%}", "one unknown token may be a long word"


def _rows(facts: InspectionFacts) -> Iterator[tuple[str, str, str]]:
    recipe, rows, longer, cut = facts["recipe"], facts["rows"], facts["longer_than_max_length"], facts["cut_off"]
    masking = facts["masking"]
    if recipe["packing"]:
        what = f"of {recipe['max_length']:,} tokens, packed end to end"
    else:
        what = f"of at most {recipe['max_length']:,} tokens"
    yield "rows", f"{rows['train']:,}", f"{what}; {rows['train_tokens']:,} tokens in all"
    if not longer["paragraphs"]:
        beyond = "paragraphs of the text: nothing is cut off"
    else:
        lost = f"{cut['tokens']['sum']:,} are cut off, {cut['tokens']['ratio']:.1%} of all"
        if not cut["tokens"]["sum"]:
            lost = "they continue in the next row" if recipe["packing"] else "they are split at the ends of sentences"
        beyond = f"paragraphs of the text, by {wording.count(longer['tokens'], 'token')}; {lost}"
    yield "longer than that", f"{longer['paragraphs']:,}", beyond
    for name, how in _LAYOUTS.items():
        share = facts["padding"][name]["ratio"]
        here = "; used in this run" if name == facts["padding"]["run"] else ""
        yield "padding", f"{share:.1%}", how.format(**recipe) + here
    nothing = masking["rows_without_a_mask"]
    policy = masking["masking_policy"]
    together = policy not in ("token", "informative")
    when, how = ("of the first epoch" if together else "per epoch"), ("" if policy == "token" else f" by {policy}")
    where = f"at mlm_probability {masking['mlm_probability']:g}"
    if "schedule" in masking:
        where = f"on average over the run, with this share of the tokens masked: {masking['schedule']}"
    expected = f"{nothing['sum']:,.1f} rows {when} have no masked token, {where}{how}"
    yield "rows unmasked", f"{nothing['ratio']:.1%}", expected
    yield "under 3 maskable", f"{masking['rows_below_three_maskable']['sum']:,}", "rows too short to learn from"
    if masking["held_out_masked_tokens"] is not None:
        yield (
            "held-out masks",
            f"{masking['held_out_masked_tokens']:,}",
            "tokens per draw; every evaluation uses the same",
        )


def _model(facts: InspectionFacts) -> Iterator[tuple[str, str, str]]:
    model = facts["model"]
    if model["parameters"] is not None:
        start = "random weights" if model["random_weights"] else "its trained weights"
        missing = len(model["missing_weights"])
        head = f"; {wording.count(missing, 'weight')} missing" if missing else ""
        yield "parameters", f"{model['parameters'] / 1e6:.1f}M", f"starts from {start}{head}"
        yield "vocabulary", f"{model['vocabulary']:,}", f"tokens; the model has {model['embeddings']:,} embeddings"
        longest = "any" if model["max_positions"] is None else f"{model['max_positions']:,}"
        yield "positions", longest, "the longest row that the model takes"
    else:
        yield "vocabulary", f"{model['vocabulary']:,}", "tokens"
    yield "mask token", model["mask_token"] or "none", ""


def _time(time: Timing) -> Iterator[tuple[str, str, str]]:
    device = f"cpu, {wording.count(time['threads'], 'thread')}" if time["device"] == "cpu" else time["device"]
    parts = f" in {time['micro_batches']} parts" if time["micro_batches"] > 1 else ""
    rows = f"about {time['batch_tokens']:,} tokens" if "batch_tokens" in time else f"{time['batch']}"
    batch = f"batches of {rows}{parts}, {time['precision']}, {device}"
    yield "a step", f"{time['seconds_per_step']:.2f} s", f"the median of {len(time['steps_timed'])}; {batch}"
    yield "an epoch", wording.about(time["seconds_an_epoch"]), wording.count(time["steps_an_epoch"], "step")
    yield "the recipe", wording.about(time["seconds_of_the_run"]), wording.count(time["steps_of_the_run"], "step")


def _advice(facts: InspectionFacts) -> str:
    parts = [terminal.wrapped(f"Cannot train: {problem}") for problem in facts["problems"]]
    parts += [terminal.wrapped(f"Warning: {warning}") for warning in facts["warnings"]]
    if facts["problems"]:
        return "\n\n".join(parts)
    advised, within = facts["recommended"], facts["recommended"]["tokens_within_max_length"]["ratio"]
    if advised["packed"]:
        length = f"its rows of {advised['max_length']:,} are packed"
    else:
        length = f"max_length {advised['max_length']:,} covers {within:.1%} of the tokens"
    parts.append(terminal.wrapped(f"Recommended: {advised['recipe']}: {advised['why']}; {length}."))
    recipe = facts["recipe"]
    flags: Mapping[str, object] = advised
    values = {"corpus": recipe["corpus"]} | recipe["reading"] | advised["vocabulary"]
    values |= {name: flags[name] for name in _FLAGS if name in flags}
    parts.append(_command(f"{terminal.command()} train {advised['recipe']}", values))
    return "\n\n".join(parts)


def _command(start: str, values: dict[str, object]) -> str:
    r"""Return a command, split over as many lines as it needs, as one shell command.

    >>> print(_command("mlm-recipes train", {"corpus": "a long name " * 5, "max_length": 128}))
    mlm-recipes train \
        --corpus 'a long name a long name a long name a long name a long name ' \
        --max_length 128
    """
    lines = [start]
    for name, value in values.items():
        flag = f"--{name} {shell(*map(str, value if isinstance(value, list | tuple) else [value]))}"
        if len(lines[-1]) + len(flag) < 70:
            lines[-1] += f" {flag}"
        else:
            lines.append(f"    {flag}")
    return " \\\n".join(lines)
