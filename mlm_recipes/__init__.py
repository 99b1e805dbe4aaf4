"""Masked-language-model training for the Hugging Face stack: recipes, a Trainer, and proof that it helped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported when first asked for (PEP 562): torch takes seconds, and `mlm-recipes --help` should not.
_HOME = {
    "DataCollatorForMaskedLM": "collator",
    "MLMConfig": "config",
    "MLMTrainer": "trainer",
    "RunResult": "recipes",
    "TextStream": "streaming",
    "evaluate": "recipes",
    "fill": "recipes",
    "inspect_corpus": "inspection",
    "load_corpus": "corpus",
    "load_model": "model",
    "load_tokenizer": "tokenizer",
    "reference": "recipes",
    "tokenize": "dataset",
    "train": "recipes",
    "train_tokenizer": "tokenizer",
    "verify": "verification",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from .collator import DataCollatorForMaskedLM as DataCollatorForMaskedLM
    from .config import MLMConfig as MLMConfig
    from .corpus import load_corpus as load_corpus
    from .dataset import tokenize as tokenize
    from .inspection import inspect_corpus as inspect_corpus
    from .model import load_model as load_model
    from .recipes import RunResult as RunResult
    from .recipes import evaluate as evaluate
    from .recipes import fill as fill
    from .recipes import reference as reference
    from .recipes import train as train
    from .streaming import TextStream as TextStream
    from .tokenizer import load_tokenizer as load_tokenizer
    from .tokenizer import train_tokenizer as train_tokenizer
    from .trainer import MLMTrainer as MLMTrainer
    from .verification import verify as verify


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
