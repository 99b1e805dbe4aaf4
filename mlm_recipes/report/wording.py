"""Turns the numbers of a run into plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from ..metrics_file import BestModel, CorpusFacts, LoggedStep, Measure, MeasureName, Metrics, MixedIn, StoppedEarly
from .against_frequencies import knew_nothing, still_worse, worse_by
from .single_masks import at_single_masks
from .unknown_words import qualification, unknown_text

#: The measures' names as people write them.
SPELLED: dict[MeasureName, str] = {
    "loss": "loss",
    "perplexity": "perplexity",
    "pseudo_perplexity": "pseudo-perplexity",
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
    "loss_per_word": "loss per word",
    "loss_per_character": "loss per character",
}

#: With fewer distinct masked tokens than this, the figures are a hint and not a result.
FEW = 200


def count(number: int, thing: str) -> str:
    """Return a number with its noun, in the plural if needed.

    >>> count(1, "step"), count(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def about(seconds: float) -> str:
    """Return an estimated time in words, rounded.

    >>> [about(seconds) for seconds in (0.4, 8.2, 43, 61, 200, 5_400, 200_000)]
    ['a second', '8 seconds', '45 seconds', 'a minute', '3 minutes', '1.5 hours', '2.3 days']
    """
    if seconds < 55:
        seconds = max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))
        return "a second" if seconds == 1 else f"{seconds} seconds"
    for unit, name in ((60, "minute"), (3600, "hour"), (86_400, "day")):
        number = seconds / unit
        if name == "day" or number < {"minute": 55, "hour": 23}[name]:
            break
    shown = f"{number:.0f}" if name == "minute" else f"{number:.2g}"
    return {"minute": "a minute", "hour": "an hour", "day": "a day"}[name] if shown == "1" else f"{shown} {name}s"


def duration(seconds: float) -> str:
    """Return a measured time in suitable units.

    >>> duration(3.25), duration(275), duration(86_000)
    ('3.2 s', '4 min 35 s', '23 h 53 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(number: float) -> str:
    """Return a number of bytes in a suitable unit.

    >>> size(3_171_409_920), size(64_000_000)
    ('3.2 GB', '64 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def how_long(steps: int, seconds_per_step: float) -> str:
    """Return a sentence that says how long a run takes.

    >>> how_long(92, 0.65)
    '92 steps take about a minute on this machine (0.65 s each).'
    """
    take = "takes" if steps == 1 else "take"
    time = about(steps * seconds_per_step)
    return f"{count(steps, 'step')} {take} about {time} on this machine ({seconds_per_step:.2g} s each)."


def masked_shares(history: Sequence[LoggedStep]) -> str:
    """Return a sentence that says how the share of masked tokens changed, or nothing if it did not.

    >>> masked_shares([dict(step=1, mlm_probability=0.3), dict(step=60, mlm_probability=0.15)])
    'Training masked 30.0% of the tokens at step 1 and 15.0% at step 60.'
    >>> masked_shares([dict(step=1, loss=2.0)])
    ''
    """
    found = [(entry["step"], entry["mlm_probability"]) for entry in history if "mlm_probability" in entry]
    if not found:
        return ""
    (first, begins), (last, ends) = found[0], found[-1]
    return f"Training masked {begins:.1%} of the tokens at step {first:,} and {ends:.1%} at step {last:,}."


def stopped_early(found: StoppedEarly) -> str:
    """Return a sentence that says why a run was stopped early.

    >>> print(stopped_early(dict(step=6, of=40, metric="loss", best=4.7612, best_step=2, evaluations_since=2)))
    Stopped early after step 6 of 40: in 2 evaluations the loss has not improved enough; the best, 4.761, was \
after step 2.
    """
    return (
        f"Stopped early after step {found['step']:,} of {found['of']:,}: in "
        f"{count(found['evaluations_since'], 'evaluation')} the {found['metric']} has not improved enough; the best, "
        f"{found['best']:.4g}, was after step {found['best_step']:,}."
    )


def kept_model(best: BestModel, steps: int) -> str:
    """Return a sentence that says whether the run's model is the best one or the last.

    >>> kept_model(dict(metric="loss", value=4.7612, step=2, loaded=True), steps=6)
    'The model is that of step 2, the best by its loss (4.761).'
    >>> kept_model(dict(metric="loss", value=4.7612, step=2, loaded=False), steps=6)
    'The model is that of the last step; by its loss, that of step 2 was the best (4.761).'
    """
    if best["loaded"]:
        return f"The model is that of step {best['step']:,}, the best by its {best['metric']} ({best['value']:.4g})."
    last = f"The model is that of the last step; by its {best['metric']}, that"
    return f"{last} of step {best['step']:,} was the best ({best['value']:.4g})." if best["step"] != steps else ""


def was_mixed(mixed: list[MixedIn]) -> Iterator[str]:
    """Yield a sentence for each text that was mixed in.

    >>> list(was_mixed([{"name": "notes", "rows": 180, "tokens": 8100, "share": 0.0998, "times_read": 6.0}]))
    ['Mixed in: notes, 180 rows with 8,100 tokens, 10.0% of all, each row 6.0 times.']
    """
    for text in mixed:
        size = f"{count(text['rows'], 'row')} with {count(text['tokens'], 'token')}, {text['share']:.1%} of all"
        yield f"Mixed in: {text['name']}, {size}, each row {text['times_read']:.1f} times."


def measured_tokens(metrics: Metrics) -> int:
    """Return how many held-out tokens were masked at least once; for an older run, in its only draw."""
    change = metrics.get("change")
    return int(change["held_out"]["distinct_tokens"] if change else metrics["after"]["masked_tokens"])


def note(metrics: Metrics) -> str:
    """Return what the numbers show, in plain words."""
    corpus, train, loss = metrics["corpus"], metrics["train"], metrics["after"]["loss"]
    resumed = train.get("resumed")
    steps = count(train["steps"], "step")
    if resumed:
        since = resumed[-1]["step"]
        steps += f", resumed after step {since}; the {train['steps'] - since} since then"
    where = f"{headline(metrics)} {steps} in {train['seconds']:,.0f} s."
    for each in resumed or []:
        if each["changed"]:
            what = ", ".join(f"{name} from {old} to {new}" for name, (old, new) in each["changed"].items())
            where += f" Changed after step {each['step']}: {what}; recipe.yaml has the latest values."
    if "stopped_early" in train:
        where += f" {stopped_early(train['stopped_early'])}"
    if "stopped_by_callback" in train:
        stop = train["stopped_by_callback"]
        where += f" A callback stopped it after step {stop['step']:,} of {stop['of']:,}."
    if "best_model" in train:
        where += f" {kept_model(train['best_model'], train['steps'])}".rstrip()
    where += "".join(f" {sentence}" for sentence in was_mixed(train.get("mixed", [])))
    if measured_tokens(metrics) < FEW:
        where += " There are few masked tokens: treat the numbers as a hint, not a result."
    unknown = unknown_text(corpus.get("unknown"))
    where += f" {unknown}" if unknown else ""
    if not train["random_weights"]:
        return where + still_worse(metrics) + at_single_masks(metrics) + _forgotten(metrics)
    words = corpus["word_frequencies"]["loss"]
    where += " This model started from random weights"
    if loss < words - 0.3:
        return f"{where}; word frequencies alone give a loss of {words:.2f}.{at_single_masks(metrics)}"
    learned = (
        f"From {_size(corpus)} such a model learns little more than how often each word occurs"
        if not worse_by(loss, corpus)
        else "So far it has not learned even how often each word occurs"
    )
    return (
        f"{where}. {learned}: word frequencies alone give a loss of {words:.2f}, and this model's is {loss:.2f}. To "
        "start from a model that already knows the language, adapt a pretrained one: the built-in `mini`, or "
        "MODEL=google-bert/bert-base-uncased"
    )


def _size(corpus: CorpusFacts) -> str:
    """Return how much text there is, if known: the end of a stream may not have been reached."""
    return "so little text" if "streamed" in corpus else f"{corpus['words']:,} words"


def headline(metrics: Metrics) -> str:
    """Return one sentence: the gain, how much text it was measured on, and how certain it is.

    >>> measured = {"corpus": {"validation": 51}, "train": {}, "after": {"masked_tokens": 741}}
    >>> print(headline(measured | {"gain": {"loss": 0.614, "low": 0.508, "high": 0.702, "paragraphs": 51}}))
    The held-out loss fell by 0.61 nats per token (95% interval 0.51 to 0.70) on 741 masked tokens of 51 paragraphs, \
the same before and after.
    """
    qualified = qualification(metrics["corpus"].get("unknown"))
    return qualified + _fresh_head(metrics["train"].get("head_initialised") or []) + _gained(metrics)


def _fresh_head(missing: list[str]) -> str:
    """Warn that the model had no trained head, so that training the head is not mistaken for adaptation."""
    if not missing:
        return ""
    return (
        f"This model came without a trained masked-language-modelling head: {count(len(missing), 'weight')} started "
        "from random values. The figures before training do not show what it knew, and much of the gain is the head's. "
    )


def _gained(metrics: Metrics) -> str:
    gain, masked = metrics["gain"], metrics["after"]["masked_tokens"]
    interval = f"95% interval {gain['low']:.2f} to {gain['high']:.2f}"
    packed = "rows" in gain
    unit, examples = ("row", gain["rows"]) if packed else ("paragraph", gain["paragraphs"])
    draws = metrics["change"]["held_out"]["draws"] if "change" in metrics else 1
    times = f", masked {draws} times" if draws > 1 else ""
    where = f"on {count(masked, 'masked token')} of {count(examples, unit)}{times}, the same before and after."
    if examples < 10:
        return (
            f"The held-out loss changed by {-gain['loss']:+.2f} nats per token {where} These are too few for an "
            "interval."
        )
    advice = "Try a lower --learning_rate, fewer steps, or more text."
    if gain["low"] > 0:
        return f"The held-out loss fell by {gain['loss']:.2f} nats per token ({interval}) {where}"
    if gain["high"] < 0:
        interval = f"95% interval {-gain['high']:.2f} to {-gain['low']:.2f}"
        return (
            f"The held-out loss rose by {-gain['loss']:.2f} nats per token ({interval}) {where} What the model "
            f"learned does not help on held-out text. {advice}"
        )
    return (
        f"No measurable change: the held-out loss fell by {gain['loss']:.2f} nats per token, but the {interval} "
        f"includes zero, {where} {advice}"
    )


def _forgotten(metrics: Metrics) -> str:
    """Return how the loss on ordinary language changed, if it was measured."""
    if "general" not in metrics["after"]:
        return ""
    before, after = metrics["before"]["general"], metrics["after"]["general"]
    rose, gained = after["loss"] - before["loss"], metrics["gain"]["loss"]
    text = f"{metrics['corpus']['general']} ({count(after['masked_tokens'], 'masked token')})"
    if knew_nothing(metrics):
        return (
            f" Whether anything was forgotten cannot be measured: on {text} the model was no better than word "
            f"frequencies before training. Its loss was {before['loss']:.2f} nats, and is now {after['loss']:.2f}."
        )
    measures = metrics["change"]["general"]["measures"] if "change" in metrics else None
    if measures and measures["loss"]["verdict"] == "no measurable change":
        interval = f"the 95% interval {measures['loss']['low']:.2f} to {measures['loss']['high']:.2f} includes zero"
        figures = cast("dict[MeasureName, Measure]", measures)  # a TypedDict's items are objects to mypy
        worse = [SPELLED[name] for name, measure in figures.items() if measure["verdict"] == "worse"]
        if worse:
            return (
                f" On {text} the loss did not change measurably ({rose:+.2f} nats; {interval}), but "
                f"{' and '.join(worse)} got worse, as the table shows."
            )
        return f" Nothing measurable was forgotten: on {text} the loss changed by {rose:+.2f} nats, and {interval}."
    if rose <= 0:
        return f" Nothing was forgotten: on {text} the loss fell by {-rose:.2f} nats."
    if rose < gained / 4:
        return f" Little was forgotten: on {text} the loss rose by {rose:.2f} nats, less than a quarter of the gain."
    return (
        f" Something was forgotten: on {text} the loss rose by {rose:.2f} nats, {before['loss']:.2f} to "
        f"{after['loss']:.2f}. {_against_forgetting(metrics)}"
    )


def _against_forgetting(metrics: Metrics) -> str:
    """Return what forgets less: mixing, where it is possible, which costs little (benchmarks/forgetting.py)."""
    corpus, less = metrics["corpus"], "a lower --learning_rate or fewer steps forget less, and learn less"
    if "streamed" in corpus or "prepared" in corpus:
        return f"{less[0].upper()}{less[1:]}."
    if "mixed" in corpus:
        return f"A larger share in --mix forgets less; {less}."
    return f"With --mix general=0.1 a run forgets less, and learns nearly as much; {less}."
