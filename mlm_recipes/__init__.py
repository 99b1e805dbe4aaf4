"""Masked-language-model training for the Hugging Face stack: recipes, a Trainer, and proof that it helped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported when first asked for (PEP 562): torch takes seconds, and `mlm-recipes --help` should not.
_HOME = {
    "DataCollatorForMaskedLM": "masking.collator",
    "MLMConfig": "training.config",
    "MLMTrainer": "training.trainer",
    "RunResult": "recipes.result",
    "TextStream": "data.streams",
    "evaluate": "recipes.evaluate",
    "fill": "recipes.evaluate",
    "inspect_corpus": "recipes.inspection",
    "load_corpus": "data.corpus",
    "load_model": "model.loading",
    "load_tokenizer": "data.tokenizer",
    "mix_rows": "data.mixed_rows",
    "prepare_corpus": "recipes.prepare_corpus",
    "reference": "recipes.reference",
    "tokenize": "data.rows",
    "train": "recipes.train",
    "train_tokenizer": "data.tokenizer",
    "verify": "recipes.verification",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from .data.corpus import load_corpus as load_corpus
    from .data.mixed_rows import mix_rows as mix_rows
    from .data.rows import tokenize as tokenize
    from .data.streams import TextStream as TextStream
    from .data.tokenizer import load_tokenizer as load_tokenizer
    from .data.tokenizer import train_tokenizer as train_tokenizer
    from .masking.collator import DataCollatorForMaskedLM as DataCollatorForMaskedLM
    from .model.loading import load_model as load_model
    from .recipes.evaluate import evaluate as evaluate
    from .recipes.evaluate import fill as fill
    from .recipes.inspection import inspect_corpus as inspect_corpus
    from .recipes.prepare_corpus import prepare_corpus as prepare_corpus
    from .recipes.reference import reference as reference
    from .recipes.result import RunResult as RunResult
    from .recipes.train import train as train
    from .recipes.verification import verify as verify
    from .training.config import MLMConfig as MLMConfig
    from .training.trainer import MLMTrainer as MLMTrainer


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
