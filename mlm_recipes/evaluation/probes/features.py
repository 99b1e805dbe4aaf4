"""The features of a frozen encoder: each text's mean vector of some of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from ...masking.batch_layout import is_joined, joined_row, lengths_of, without_mask
from ...masking.random_keys import Floats
from ...model.evaluation_mode import evaluation_mode
from ...model.joined_attention import NAME
from ...model.positions import first_position
from ...model.sample_rows import pad_id, padded
from ...model.sparse_prediction import only_at
from ...probes_file import Layers
from ..forward_passes import with_bar

#: The ways to make a text's vector, in the order of the features.
LAYERS: tuple[Layers, ...] = ("last layer", "upper half", "all layers")

#: The most tokens in a batch, on a CPU and on any other device: all layers of them are in memory.
_TOKENS, _TOKENS_ON_DEVICE = 2_048, 16_384


@torch.no_grad()
def layer_means(
    model: Any,
    rows: Sequence[Sequence[int]],
    tokenizer: Any,
    sparse: bool = False,
    process: int = 0,
    processes: int = 1,
    bar: bool = True,
) -> tuple[list[int], Floats]:
    """Return the vectors of this process's share of `rows`: its indices, and float32 of shape `(3, rows, hidden)`.

    Args:
        model: a masked-language model; it keeps its mode (training or evaluation).
        rows: token ids of texts, with special tokens.
        tokenizer: the model's.
        sparse: compute the head at one position only, since its logits are not needed.
        process, processes: the index of this process, and the number of all. Each makes the same number of forward
            passes, since a model that is sharded over the processes needs all of them.
        bar: show a progress bar on a terminal.

    A text's vector is the mean over all its tokens: of the last layer, of the mean of the upper half of the layers, or
    of the mean of all layers and the embeddings (`LAYERS`). Which layers serve best depends on model and task (Liu et
    al. 2019, arXiv:1903.08855; Reimers & Gurevych 2019, arXiv:1908.10084, for the mean over the tokens).

    Batches have texts of similar length, joined without padding if the model's attention takes that.

    Raises: ValueError for a model that does not return a vector for each token.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    >>> indices, vectors = layer_means(BertForMaskedLM(BertConfig(vocab_size=50, **size)), [[7, 8, 9], [7]], None)
    >>> indices, vectors.shape
    ([1, 0], (3, 2, 8))
    """
    device = next(model.parameters()).device
    joined, first, pad = model.config._attn_implementation == NAME, first_position(model), pad_id(model, tokenizer)
    batches = _batches([len(row) for row in rows], _TOKENS if device.type == "cpu" else _TOKENS_ON_DEVICE)
    passes = -(-len(batches) // processes)
    mine = [batches[i] if i < len(batches) else [] for i in range(process, passes * processes, processes)]
    found: list[Floats] = []
    indices: list[int] = []
    with evaluation_mode(model):
        for batch in with_bar(mine, "Reading the probe's texts", "batch", bar):
            ids = [torch.tensor(rows[index]) for index in batch or batches[0][:1]]
            inputs = joined_row(torch.tensor([len(row) for row in ids]), first) | {"input_ids": torch.cat(ids)[None]}
            inputs = inputs if joined else padded(ids, pad)
            there = {name: value.to(device) if torch.is_tensor(value) else value for name, value in inputs.items()}
            vectors = _means(model, there, sparse)
            if batch:
                indices += batch
                found.append(vectors.float().cpu().numpy())
    hidden = found[0].shape[-1] if found else 0
    return indices, np.concatenate(found, axis=1) if found else np.empty((len(LAYERS), 0, hidden), np.float32)


def _batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return the rows' indices in batches of at most so many tokens, padding included, rows of similar length together.

    >>> _batches([3, 9, 4, 2], tokens=9)
    [[3, 0], [2], [1]]
    """
    batches: list[list[int]] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if batches and (len(batches[-1]) + 1) * lengths[index] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _means(model: Any, batch: dict[str, Any], sparse: bool) -> torch.Tensor:
    """Return the means of a batch's texts, shape `(3, texts, hidden)`."""
    one = torch.zeros(1, dtype=torch.int64, device=batch["input_ids"].device)
    with only_at(model, one) if sparse else nullcontext():
        output = model(**without_mask(batch), output_hidden_states=True)
    shape = batch["input_ids"].shape
    states: Any = getattr(output, "hidden_states", None) or ()
    # Some models have embeddings of another width than their layers.
    kept = [state for state in states if state.shape == states[-1].shape and state.shape[:2] == shape]
    if not kept:
        raise ValueError(
            f"probe: {type(model).__name__} does not return a vector of each token (output_hidden_states). Accepted: "
            "an encoder of transformers that does, such as BERT, RoBERTa or ModernBERT. Leave probe out."
        )
    layers = kept[1:] or kept
    # Each sum is made in a fixed order, so that it depends on nothing but the batch.
    ways = [kept[-1], torch.stack(layers[len(layers) // 2 :]).float().mean(0), torch.stack(kept).float().mean(0)]
    lengths = lengths_of(batch)
    if is_joined(batch):
        parts = [way[0].float().split(lengths.tolist()) for way in ways]
        return torch.stack([torch.stack([part.mean(0) for part in way]) for way in parts])
    real = batch["attention_mask"][..., None].float()
    return torch.stack([(way.float() * real).sum(1) / lengths[:, None] for way in ways])
