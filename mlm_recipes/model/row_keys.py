"""Keys for random numbers that belong to a row's tokens: the same for a row in every batch, layout and process."""

from __future__ import annotations

from typing import Any

import torch

from ..masking.batch_layout import is_joined, lengths_of


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


# SplitMix64's constants, as `mlm_recipes.masking.random_keys` has them for numpy.
GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def mix_(x: torch.Tensor) -> torch.Tensor:
    """Replace each number of `x`, int64, by SplitMix64's output for it, in place, and return it.

    >>> mix_(torch.tensor([1])).tolist()
    [6238072747940578789]
    """
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        x.bitwise_xor_((x >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)  # int64 shifts its sign in
    return x.bitwise_xor_((x >> 31).bitwise_and_(2**33 - 1))


def token_keys(batch: dict[str, Any]) -> torch.Tensor:
    """Return a key for each token, int64, of the shape of `input_ids`: a function of its row's tokens and its place.

    Raises: ValueError for a batch without input_ids.

    >>> from mlm_recipes.masking.batch_layout import joined_row
    >>> padded = {"input_ids": torch.tensor([[7, 8], [9, 0]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    >>> joined = joined_row(torch.tensor([2, 1])) | {"input_ids": torch.tensor([[7, 8, 9]])}
    >>> keys = token_keys(padded)
    >>> torch.equal(token_keys(joined)[0], torch.stack([keys[0, 0], keys[0, 1], keys[1, 0]]))
    True
    """
    if batch.get("input_ids") is None:
        raise ValueError(
            f"dropout_by_example: the model was called with {', '.join(batch) or 'no names'}. Accepted: input_ids by "
            "name, since a row's noise is a function of its tokens. Leave dropout_by_example out."
        )
    ids = batch["input_ids"]
    if is_joined(batch):
        lengths = lengths_of(batch)
        ends = lengths.cumsum(0)
        place = torch.arange(ids.shape[1], device=ids.device)
        row = torch.bucketize(place, ends, right=True)
        place = (place - (ends - lengths)[row] + 1) * GAMMA
        hashed = mix_(ids[0] + place)
        sums = hashed.new_zeros(len(lengths)).index_add_(0, row, hashed)
        return mix_(sums[row] + place).unsqueeze(0)
    mask = batch.get("attention_mask")
    real = torch.ones_like(ids) if mask is None else mask.to(ids.dtype)
    place = real.cumsum(-1) * GAMMA
    hashed = mix_(ids + place).mul_(real)
    return mix_(hashed.sum(-1, keepdim=True) + place)


def by_head(keys: torch.Tensor, heads: int) -> torch.Tensor:
    """Return other keys for each head of attention, shape `(heads, *keys.shape)`."""
    head = torch.arange(1, heads + 1, device=keys.device).view(-1, *[1] * keys.ndim)
    return mix_(keys + head * GAMMA)


class RowKeys:
    """The keys of the batch that passes through a model, which all of its layers share.

    The calls within a forward pass get numbers from torch's generator on the CPU: a layer that is computed again, by
    gradient checkpointing, gets the same one, since checkpointing restores the generator.
    """

    def __init__(self) -> None:
        self._tokens: torch.Tensor | None = None

    def begin(self, model: torch.nn.Module, args: Any, batch: dict[str, Any]) -> None:
        """Take the keys of a batch, as a pre-hook of the model; in training mode, number the calls from here."""
        if model.training:
            torch.default_generator.manual_seed(torch.initial_seed())
            self._tokens = token_keys(batch)

    def next(self) -> torch.Tensor:
        """Return the tokens' keys for the next call, int64, of the shape of `input_ids`."""
        assert self._tokens is not None, "a layer was called without its model"
        return mix_(self._tokens + torch.randint(2**62, ()).item())

    def of_shape(self, shape: torch.Size) -> torch.Tensor:
        """Return keys for the next call, of the shape `shape[:-1]`.

        A table, such as DeBERTa's of relative positions, belongs to no row: its keys are a function of the call.

        Raises: ValueError for another shape than that of hidden states, of attention probabilities or of a table.
        """
        keys = self.next()
        if shape[:-1] == keys.shape:
            return keys
        if len(shape) == 2:
            call = torch.randint(2**62, ()).item()
            return mix_(torch.arange(1, shape[0] + 1, device=keys.device) * GAMMA + call)
        if len(shape) == 4 and (shape[0], shape[2]) == keys.shape:
            return by_head(keys, shape[1]).transpose(0, 1)
        raise ValueError(
            f"dropout_by_example: received noise of shape {tuple(shape)} for tokens of shape {tuple(keys.shape)}. "
            "Accepted: hidden states, attention probabilities or a table. Leave dropout_by_example out."
        )
