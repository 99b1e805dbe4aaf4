"""What metrics.json may hold, for the tests of what is drawn from it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = "<script>alert('x')</script> & [bold]"


def metrics(**train):
    def measure(loss, accuracy, guesses):
        prompt = {"prompt": f"{HOSTILE} [MASK] of man.", "answer": "soul", "top": [[g, 0.1] for g in guesses]}
        return {"loss": loss, "accuracy": accuracy, "perplexity": 2.0, "masked_tokens": 500, "fill_mask": [prompt]}

    return {
        "corpus": {
            "name": HOSTILE, "source": "bundled", "paragraphs": 10, "words": 1234, "blank_lines_dropped": 0,
            "max_length": 512, "cut_off_tokens": 0, "cut_off_paragraphs": 0, "train": 8, "validation": 2,
            "fingerprint": "0" * 64,
            "word_frequencies": {"loss": 6.0, "accuracy": 0.05},
        },
        "before": measure(8.0, 0.0, ["a", "b", HOSTILE]),
        "after": measure(6.5, 0.05, ["the", ",", "of"]),
        "gain": {"loss": 1.5, "low": 1.2, "high": 1.8, "paragraphs": 20},
        "train": {
            "recipe": "train",
            "model": "mini", "random_weights": True, "parameters": 1, "steps": 2, "epochs": 1.0, "seconds": 3.0,
            "processes": 1, "history": [{"step": step, "loss": loss} for step, loss in ((1, 8.1), (2, 6.2))],
        } | train,
        "versions": {"python": "3.11"},
    }  # fmt: skip


def measure(before, after, low, high, verdict="better"):
    return {
        "before": before, "after": after, "change": after - before, "low": low, "high": high, "verdict": verdict,
    }  # fmt: skip


def with_change(**held_out):
    """Metrics as a run leaves them today."""
    values = metrics(random_weights=False, head_initialised=[])
    measures = {
        "loss": measure(3.0, 2.5, -0.6, -0.4),
        "perplexity": measure(20.0, 12.0, -9.0, -6.5),
        "accuracy": measure(0.3, 0.34, 0.02, 0.06),
        "top5_accuracy": measure(0.5, 0.51, -0.01, 0.03, "no measurable change"),
        "pseudo_perplexity": measure(15.0, 10.0, -6.0, -4.0),
    }
    sample = {"draws": 5, "masked_tokens": 500, "distinct_tokens": 300, "paragraphs": 20, "unit": "paragraphs"}
    values["change"] = {"held_out": {"text": "notes", "measures": measures} | sample | held_out}
    return values


def full(**train):
    """Metrics with all that a run may leave."""
    values = with_change()
    forgotten = {"text": "plain", "masked_tokens": 625, "fingerprint": "b" * 64}
    values["change"]["general"] = forgotten | {"measures": {"loss": measure(2.0, 2.1, 0.05, 0.15, "worse")}}
    accuracy = measure(0.2, 0.3, 0.05, 0.15)
    part = {"masked_tokens": 90, "distinct_tokens": 60, "paragraphs": 20}
    unsure = part | {"measures": {"loss": measure(5.0, 4.9, -0.3, 0.1, "no measurable change"), "accuracy": accuracy}}
    values["bands"] = [
        {"name": name, "from": low, "to": high} | part | {"measures": {"loss": accuracy, "accuracy": accuracy}}
        for name, low, high in (("unseen", 0, 0), ("1-9", 1, 9), ("1,000 and more", 1000, None))
    ]
    values["pieces"] = [{"name": "first"} | unsure, {"name": "continuation"} | unsure]
    word = {"word": HOSTILE, "places": 8, "masked_tokens": 10, "paragraphs": 7}
    words = [word | measure(8.0, 4.0, None, None, "too few paragraphs")]
    values["words"] = {"at_least": 5, "compared": 61, "gained": words, "lost": words}
    values["corpus"] |= {
        "licence": "CC0-1.0", "rows": 516, "split_paragraphs": 7, "cut_off_paragraphs": 3, "cut_off_tokens": 1234,
        "duplicates": 2, "near_duplicates": 0, "gutenberg_lines_dropped": 40, "general": "plain",
    }  # fmt: skip
    values["train"] |= {
        "command": "mlm-recipes train --corpus '<b>.txt'", "steps": 100, "resumed": [],
        "history": [{"step": n, "loss": 4 - n / 100, "learning_rate": (100 - n) / 1e5} for n in range(1, 101)],
        "evaluations": [{"step": n, "loss": 3 - n / 200, "accuracy": 0.3, "perplexity": 9.0} for n in (25, 50, 100)],
        "tokens": {"real": 90_000, "padding": 10_000}, "steps_per_second": 2.5, "tokens_per_second": 2250.0,
        "peak_memory": {"bytes": 3_171_409_920, "of": "process"}, "evaluation_seconds": 44.6, "prompts_compared": 100,
        "machine_limit": {"flops_per_second": 40e9, "matrix_flops_per_second": 160e9, "dtype": "bfloat16"},
    } | train  # fmt: skip
    for when, p in (("before", 0.125), ("after", 0.5)):
        values[when]["fill_mask"] = [
            {"prompt": "The [MASK] of man.", "answer": "soul", "chosen": "fell most", "probability": p,
             "top": [["soul", p], ["mind", 0.1], [HOSTILE, 0.05], ["x", 0.01], ["y", 0.01]]},
            {"prompt": "My [MASK].", "answer": None, "chosen": "yours", "probability": None, "top": [["own", p]]},
        ]  # fmt: skip
    return values


VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, each with its attributes, its ancestors' tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.handle_data(" " if tag == "span" else "")
        element = {"tag": tag, "text": "", "in": [each["tag"] for each in self.open]} | dict(attributes)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        self.handle_data(" " if tag in ("td", "th", "caption", "p") or tag.startswith("h") else "")
        assert self.open.pop()["tag"] == tag, tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def text(self):
        return " ".join(self.all("main")[0]["text"].split())
