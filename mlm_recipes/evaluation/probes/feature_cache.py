"""Keeps the features of texts on disk, by the model's weights: those of the same start are needed by each run."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers

from ...masking.random_keys import Floats

#: Part of each key, so that features computed by an earlier version of this code are not used.
_VERSION = 1


def features_key(model: Any, rows: Sequence[Sequence[int]], dtype: str) -> str:
    """Return a key of what features depend on: all weights, the model's config, the texts' tokens, and the precision.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size))
    >>> before = features_key(model, [[1, 2]], "float32")
    >>> _ = model.bert.embeddings.word_embeddings.weight.data[7].add_(1)
    >>> before == features_key(model, [[1, 2]], "float32")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    about = [_VERSION, torch.__version__, transformers.__version__, dtype, str(next(model.parameters()).device.type)]
    digest.update(repr([*about, type(model).__name__, model.config._attn_implementation]).encode())
    digest.update(repr(sorted(model.config.to_dict().items())).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for row in rows:
        digest.update(np.asarray(row, dtype="<i8").tobytes() + b"|")
    return digest.hexdigest()


def kept(key: str) -> Floats | None:
    """Return the features with this key, or None if there are none."""
    try:
        return np.load(_place(key), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # none, or damaged
        return None


def keep(key: str, features: Floats) -> None:
    """Keep features under a key; a full or a read-only disk is no error."""
    place = _place(key)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=place.parent, suffix=".npy")
        with os.fdopen(handle, "wb") as file:
            np.save(file, features)
        os.replace(aside, place)
    except OSError:
        return


def _place(key: str) -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "mlm_recipes" / "features" / f"{key}.npy"
