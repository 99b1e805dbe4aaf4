"""Adds words to a run's tokenizer and model (`add_tokens`), and trains only their rows at first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...data.added_words import AddedWords, add_words, ids_alone
from ...data.tokenizer import own_tokenizer
from ...model.embeddings import embedding_rows
from ...model.fit import require_fit
from ...model.token_rows import add_token_rows, token_rows
from ...report.wording import count

logger = logging.getLogger(__name__)

#: The attribute of a model object that names the words that it got rows for, by id. A copy has it too.
_ADDED = "_added_by_mlm_recipes"


def extend(model: Any, tokenizer: Any, words: Sequence[str] | None, own: Any = None) -> AddedWords:
    """Return the tokenizer with more words, and give the model a row for each new one; the given tokenizer stays.

    Words that are tokens already are left out, so doing it twice is doing it once; a model object keeps the rows that
    it got for a word, also if it comes with the tokenizer of before. So does a model whose `own` tokenizer, which is
    not the given one, has a word: its rows are those of the word there.

    Raises: ValueError as `add_words`, and for a model object whose row is another new word's.
    """
    if not words:
        return AddedWords(tokenizer, {}, [])
    added = add_words(tokenizer, words)
    if added.pieces:
        learned = {} if own is None else _learned_rows(model, added.tokenizer, words, own)
        added = replace(added, kept=tuple(index for index in added.pieces if index in learned))
        rows = _without_unknown(added, tokenizer) | {index: [learned[index]] for index in added.kept}
        add_token_rows(model, {index: rows[index] for index in _without_row(model, added)})
        require_fit(model, added.tokenizer)
    return added


def extend_loaded(config: Any, model: Any, tokenizer: Any, name: str | Path) -> AddedWords:
    """Extend a model that was loaded by its name, as the config says, with the words that its own tokenizer has."""
    if not config.add_tokens:
        return extend(model, tokenizer, None)
    vocabulary = config.vocabulary()
    how = {each: vocabulary[each] for each in ("from_scratch", "revision", "trust_remote_code")}
    return extend(model, tokenizer, config.add_tokens, own_tokenizer(name, tokenizer, **how))


def announcement(added: AddedWords, freeze: str = "none") -> str | None:
    """Return how many words were added, and how many were tokens already; None if none were given.

    `freeze` is the config's: each part of a model that it can name has the embeddings, and the new rows with them.
    """
    if not added.pieces and not added.known:
        return None
    some = ", ".join(added.known[:3]) + (", ..." if len(added.known) > 3 else "")
    if not added.pieces:
        return f"No word is a new token: the vocabulary has all words of add_tokens ({some})."
    said = f"{len(added.pieces):,} words are new tokens; their rows start as the mean of their pieces' rows."
    if len(added.pieces) == 1:
        said = "1 word is a new token; its rows start as the mean of its pieces' rows."
    if added.kept:
        known, which = len(added.kept), "its rows" if len(added.pieces) == 1 else "their rows"
        if known < len(added.pieces):
            which = f"the rows of {known:,} of them"
        said = f"{said.partition(';')[0]}; {which} stay as they are, since the model's own tokenizer has "
        said += f"{'it' if known == 1 else 'them'}."
        if known < len(added.pieces):
            said += " Other new rows start as the mean of their pieces' rows."
    if freeze != "none":
        said += f" The embeddings' rows stay so, since freeze {freeze!r} freezes them."
    if added.known:
        said += f" {len(added.known):,} of add_tokens are tokens already ({some})."
    return said


def _learned_rows(model: Any, tokenizer: Any, words: Sequence[str], own: Any) -> dict[int, int]:
    """Return, for the id of each word that is a token of both tokenizers, its id in the model's own."""
    rows = embedding_rows(model)
    both = zip(ids_alone(tokenizer, words), ids_alone(own, words), strict=True)
    return {new[0]: old[0] for new, old in both if len(new) == len(old) == 1 and own.unk_token_id != old[0] < rows}


def _without_unknown(added: AddedWords, before: Any) -> dict[int, list[int]]:
    """Return each word's known pieces; a word without any starts as the mean of the whole vocabulary."""
    unknown = before.unk_token_id
    known = {index: [piece for piece in pieces if piece != unknown] for index, pieces in added.pieces.items()}
    every = sorted(before.get_vocab().values()) if not all(known.values()) else []
    return {index: pieces or every for index, pieces in known.items()}


def _without_row(model: Any, added: AddedWords) -> list[int]:
    """Return the ids of the new words that the model has no row for yet, and note that it has one from now on."""
    words = dict(zip(added.pieces, added.tokenizer.convert_ids_to_tokens([*added.pieces]), strict=True))
    there = vars(model).setdefault(_ADDED, {})
    for index, word in words.items():
        if there.get(index, word) != word:
            raise ValueError(
                f"add_tokens: received a model object whose row {index} is that of {there[index]!r}, with a tokenizer "
                f"that would get {word!r} there. Accepted: the tokenizer with the words that the model has. Pass "
                "processing_class=trainer.processing_class of the trainer that added them, or load the model again."
            )
    missing = [index for index in words if index not in there]
    there.update(words)
    return missing


class NewTokensFirst(TrainerCallback):
    """Train only the rows of some tokens during the first steps; all other weights stay the same, bit for bit.

    Their gradients are removed before they are clipped, so an optimizer keeps no state of them either. What it does to
    the other rows of the same matrices, such as weight decay, is undone after each step. When the phase ends, the
    optimizer forgets the state of these matrices, since the other rows only begin then.

    Args:
        model: the model that is trained.
        ids: the ids of the tokens.
        steps: the number of steps of the phase.
    """

    def __init__(self, model: Any, ids: Sequence[int], steps: int) -> None:
        self.model, self.ids, self.steps = model, [*ids], steps
        self._active = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember the rows that stay; a checkpoint of this phase has them unchanged."""
        self._active = state.global_step < self.steps
        if self._active:
            self._say(state.max_steps)
        self._weights = token_rows(self.model)
        self._others = [weight for weight in self.model.parameters() if all(weight is not row for row in self._weights)]
        self._new = torch.zeros(len(self._weights[0]), dtype=torch.bool, device=self._weights[0].device)
        self._new[self.ids] = True
        self._kept = [weight.detach().clone() for weight in self._weights] if self._active else []

    def _say(self, steps: int) -> None:
        rows = f"Only the rows of {count(len(self.ids), 'new token')} are trained in"
        if self.steps < steps:
            logger.info("%s the first %s.", rows, count(self.steps, "step").removeprefix("1 "))
        else:
            logger.warning(
                "train_new_tokens_first: received %d, and the run has %s. %s all of them. Lower it to train the other "
                "weights too.", self.steps, count(steps, "step"), rows
            )  # fmt: skip

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the phase after its last step."""
        if state.global_step == self.steps:  # also if the run was resumed here
            optimizer = kwargs["optimizer"]
            optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
            for weight in self._weights:
                optimizer.state.pop(weight, None)
        if state.global_step >= self.steps:
            self._active, self._kept = False, []

    @torch.no_grad()
    def remove_gradients(self) -> None:
        """Remove all gradients but those of the new rows; called after each micro-batch's backward pass."""
        if not self._active:
            return
        for weight in self._others:
            weight.grad = None
        for weight in self._weights:
            if weight.grad is not None:
                weight.grad[~self._new] = 0

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the other rows after the update."""
        for weight, kept in zip(self._weights, self._kept, strict=False):
            weight[~self._new] = kept[~self._new]


def new_tokens_first(model: Any, tokenizer: Any, words: Sequence[str], steps: int) -> NewTokensFirst:
    """Return the callback for those words of `add_tokens` that `extend` gave the model a row for.

    Raises: ValueError if there are none.
    """
    found = ids_alone(tokenizer, words)
    assert all(len(ids) == 1 for ids in found), "the tokenizer was not extended"
    new = {ids[0] for ids in found} & vars(model).get(_ADDED, {}).keys()
    if not new:
        raise ValueError(
            f"train_new_tokens_first: received {steps}, and no word of add_tokens is new: all are tokens of the model "
            "already. Accepted: a number of steps together with a new word. Leave it out to train all weights from the "
            "first step."
        )
    return NewTokensFirst(model, sorted(new), steps)
