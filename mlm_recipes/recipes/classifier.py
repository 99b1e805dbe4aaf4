"""Fine-tunes an encoder for classification, by transformers' own Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ..finetune_file import FinetuneSettings
from ..masking.random_keys import Ints
from ..model.load_report import without_load_report
from ..sources.escaping import first_line


@dataclass(frozen=True)
class Encoder:
    """A masked-language model that was written to a folder, and its tokenizer."""

    name: str
    folder: Path
    tokenizer: Any

    @classmethod
    def keep(cls, name: str, model: Any, tokenizer: Any, folder: Path) -> Encoder:
        """Write a model to a folder, from which each fine-tuning loads it again."""
        model.save_pretrained(folder)
        return cls(name, folder, tokenizer)

    def classifier(self, kinds: int) -> Any:
        """Return the encoder with a new classification head, drawn from torch's generator.

        Raises: ValueError for an architecture that transformers has no classifier for, and if a weight of the encoder
        would be new as well.
        """
        try:
            with without_load_report():
                model, found = AutoModelForSequenceClassification.from_pretrained(
                    self.folder, num_labels=kinds, dtype=torch.float32, output_loading_info=True
                )
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"finetune: {self.name!r} cannot be fine-tuned for classification ({first_line(error)}). Accepted: an "
                "architecture for which transformers has a sequence classifier. Use a probe instead: train --probe."
            ) from error
        encoder = f"{model.base_model_prefix}."
        # The pooler between encoder and head belongs to the head: a masked-language model has none.
        lost = [key for key in found["missing_keys"] if key.startswith(encoder) and "pooler" not in key]
        if lost:
            raise ValueError(
                f"finetune: the classifier of {self.name!r} has weights that its masked-language model lacks "
                f"({', '.join(sorted(lost)[:3])}). Accepted: an encoder whose weights are all there. Use a probe "
                "instead: train --probe."
            )
        return model


@dataclass(frozen=True)
class Task:
    """Texts and the numbers of their labels, 0 to `kinds - 1`: some to train on, and others to measure."""

    texts: list[str]
    labels: Ints
    held: list[str]
    kinds: int


def answers(encoder: Encoder, task: Task, settings: FinetuneSettings, seed: int) -> Ints:
    """Fine-tune all weights of an encoder with a new head, and return its answers to the held texts, shape `(held,)`.

    The seed decides on the head's weights, the order of the texts, and dropout: two encoders of one shape get the same.
    The loop, the optimizer (AdamW) and the schedule (linear, after a warm-up) are those of transformers' Trainer.
    """
    with tempfile.TemporaryDirectory() as unused:  # Trainer always creates its output_dir
        args = TrainingArguments(
            output_dir=unused,
            seed=seed,
            max_steps=settings["steps"],
            per_device_train_batch_size=settings["batch_size"],
            per_device_eval_batch_size=64,
            learning_rate=settings["learning_rate"],
            warmup_steps=settings["warmup_steps"],
            weight_decay=settings["weight_decay"],
            bf16=settings["precision"] == "bf16",
            use_cpu=not torch.accelerator.is_available(),
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        if args.n_gpu > 1:
            args._n_gpu = 1  # DataParallel would multiply the batch by the number of GPUs
        set_seed(seed)  # for the head
        trainer = Trainer(
            model=encoder.classifier(task.kinds),
            args=args,
            train_dataset=_rows(encoder, task.texts, settings["max_length"], task.labels),
            data_collator=DataCollatorWithPadding(encoder.tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        found = trainer.predict(_rows(encoder, task.held, settings["max_length"])).predictions
    logits: Any = found[0] if isinstance(found, tuple) else found  # some models return more than logits
    return np.asarray(logits).argmax(axis=-1).astype(np.int64)


class _rows(torch.utils.data.Dataset[dict[str, Any]]):  # noqa: N801
    """The token ids of texts, and their labels if they are trained on."""

    def __init__(self, encoder: Encoder, texts: Sequence[str], max_length: int, labels: Ints | None = None) -> None:
        tokenized = encoder.tokenizer([*texts], truncation=True, max_length=max_length, verbose=False)
        self.columns = {name: tokenized[name] for name in ("input_ids", "attention_mask") if name in tokenized}
        if labels is not None:
            self.columns["labels"] = labels.tolist()

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[index] for name, column in self.columns.items()}
