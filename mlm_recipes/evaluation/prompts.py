"""A run's fill-mask prompts: the user's own, or those from held-out text that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..data.line_file import read_lines
from ..metrics_file import Chosen, FilledPrompt, TokenProbability
from ..model.embeddings import embedding_rows
from .fill_mask import Prompt, answer_id, choose_prompts, likeliest, mask_probabilities

#: The most words of a paragraph that are compared, and the number of prompts of each kind that are shown.
PER_TEXT, SHOWN = 3, 2

_TOP_K = 5


@dataclass(frozen=True)
class Prompts:
    """A run's prompts; `own` if the user wrote them, without answers."""

    candidates: list[Prompt]
    own: bool = False

    @classmethod
    def read(cls, path: str | Path, mask_token: str) -> Prompts:
        """Read a text file with one sentence per line, each with one [MASK] or the tokenizer's `mask_token`.

        Raises: FileNotFoundError or ValueError.
        """
        contents = 'a text file with one sentence per line, such as "The [MASK] of man"'
        lines = read_lines(path, "prompts", contents, "Check the path, or leave --prompts out.")
        found = []
        for number, line in enumerate(lines, start=1):
            sentence = line.strip().replace("[MASK]", mask_token)
            masks = sentence.count(mask_token)
            if sentence and masks != 1:
                raise ValueError(
                    f"prompts: line {number} of {str(path)!r} has {masks or 'no'} [MASK]: {line.strip()[:80]!r}. "
                    'Accepted: exactly one per line. Put it where a word is to be filled in: "The [MASK] of man."'
                )
            if sentence:
                found.append(Prompt(sentence, ""))
        if not found:
            raise ValueError(
                f"prompts: {str(path)!r} has no prompts. Accepted: one sentence per line, each with one [MASK]. Write "
                "some, or leave --prompts out."
            )
        return cls(found, own=True)

    @classmethod
    def choose(cls, texts: Sequence[str], tokenizer: Any, seed: int, count: int, max_length: int) -> Prompts:
        """Mask `count` words of held-out text, each in a prompt of at most `max_length` tokens."""
        return cls(choose_prompts(texts, tokenizer, count, seed, PER_TEXT, max_length))

    def fill(self, model: Any, tokenizer: Any) -> list[Filled]:
        """Return a model's answers to all prompts."""
        top_k = min(_TOP_K, embedding_rows(model))
        texts = [prompt.text for prompt in self.candidates]
        every = zip(self.candidates, mask_probabilities(model, tokenizer, texts), strict=True)
        return [
            Filled(
                None if self.own else float(probabilities[0, answer_id(prompt, tokenizer)]),
                cast(list[TokenProbability], [list(pair) for pair in likeliest(probabilities[0], tokenizer, top_k)]),
            )
            for prompt, probabilities in every
        ]

    def shown(self, before: list[Filled] | None, after: list[Filled]) -> list[tuple[int, Chosen]]:
        """Choose the prompts to show: indices of candidates, and for each how it was chosen, as in metrics.json.

        The user's own are all shown. Of prompts from held-out text, those whose answers gained and lost most in
        probability are shown, and some that are independent of the change. With a single model, only the latter.
        """
        if self.own:
            return [(index, "yours") for index in range(len(self.candidates))]
        if before is None:
            return [(index, "at random") for index in range(len(self.candidates))][: 3 * SHOWN]
        rise = [(new.probability or 0.0) - (old.probability or 0.0) for old, new in zip(before, after, strict=True)]
        ranked = sorted(range(len(rise)), key=lambda index: -rise[index])
        found: list[tuple[int, Chosen]] = [(index, "rose most") for index in ranked[:SHOWN] if rise[index] > 0]
        found += [(index, "fell most") for index in ranked[::-1][:SHOWN] if rise[index] < 0]
        taken = {index for index, _ in found}
        others: list[tuple[int, Chosen]] = [(index, "at random") for index in range(len(rise)) if index not in taken]
        return found + others[: 3 * SHOWN - len(found)]

    def entries(self, filled: list[Filled], shown: list[tuple[int, Chosen]]) -> list[FilledPrompt]:
        """Return a model's answers to the prompts that are shown, as in metrics.json."""
        return [
            {
                "prompt": self.candidates[index].text,
                "answer": None if self.own else self.candidates[index].answer,
                "chosen": chosen,
                "probability": filled[index].probability,
                "top": filled[index].top,
            }
            for index, chosen in shown
        ]


@dataclass(frozen=True)
class Filled:
    """A model's answer to a prompt: the probability of the masked word, and the likeliest tokens."""

    probability: float | None
    top: list[TokenProbability]
