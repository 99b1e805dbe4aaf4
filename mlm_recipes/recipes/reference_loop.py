"""The tutorial's training loop by hand, in plain torch: the baseline for MLMTrainer.

The steps are in the tutorial's order; docs/tutorial.md walks through them. The code is plain, not fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

Encodings = dict[str, torch.Tensor]


def encode(paragraphs: Sequence[str], tokenizer: Any, max_length: int = 512) -> Encodings:
    """Tokenize all paragraphs at once, each cut or padded to `max_length`, and clone the labels.

    Returns `input_ids`, `attention_mask` and `labels`, each `(paragraphs, max_length)`.
    """
    inputs = tokenizer(
        list(paragraphs), return_tensors="pt", max_length=max_length, truncation=True, padding="max_length"
    )
    input_ids, attention_mask = inputs["input_ids"], inputs["attention_mask"]
    labels = input_ids.detach().clone()  # every position is a label, including padding
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def mask(inputs: Encodings, tokenizer: Any, mlm_probability: float = 0.15) -> Encodings:
    """Replace each token except CLS, SEP and PAD with the mask token, with probability `mlm_probability`, in place.

    The masks are drawn once, from torch's generator, and are used in all epochs.
    """
    input_ids = inputs["input_ids"]
    rand = torch.rand(input_ids.shape)  # (paragraphs, max_length)
    mask_arr = (rand < mlm_probability) * (input_ids != tokenizer.cls_token_id)
    mask_arr = mask_arr * (input_ids != tokenizer.sep_token_id) * (input_ids != tokenizer.pad_token_id)

    selection = []  # row by row: where the mask is true
    for i in range(input_ids.shape[0]):
        selection.append(torch.flatten(mask_arr[i].nonzero()).tolist())
    for i in range(input_ids.shape[0]):
        input_ids[i, selection[i]] = tokenizer.mask_token_id  # 103 in BERT's vocabulary
    return inputs


class ParagraphDataset(torch.utils.data.Dataset[Encodings]):
    """The encodings as a data set: row `i` of each tensor."""

    def __init__(self, encodings: Encodings) -> None:
        self.encodings = encodings

    def __getitem__(self, index: int) -> Encodings:
        return {key: tensor[index] for key, tensor in self.encodings.items()}

    def __len__(self) -> int:
        return len(self.encodings["input_ids"])


def train_loop(
    model: Any,
    dataset: torch.utils.data.Dataset[Encodings],
    *,
    epochs: int = 2,
    batch_size: int = 16,
    learning_rate: float = 1e-5,
    weight_decay: float = 0.01,
    shuffle: bool = True,
    show: bool | None = None,
) -> list[float]:
    """Train `model` in place and return the loss of each step, in nats.

    `show` draws a progress bar; by default if there is a terminal. Without a bar, each epoch prints one line.
    """
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=shuffle)
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    model.to(device)
    model.train()
    optim = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)

    losses: list[float] = []
    for epoch in range(epochs):
        loop = tqdm(loader, leave=True, disable=None if show is None else not show)
        for batch in loop:
            optim.zero_grad()
            input_ids = batch["input_ids"].to(device)  # (batch, max_length)
            attention_mask = batch["attention_mask"].to(device)
            labels = batch["labels"].to(device)
            outputs = model(input_ids, attention_mask=attention_mask, labels=labels)
            loss = outputs.loss
            loss.backward()
            optim.step()
            losses.append(loss.item())
            loop.set_description(f"Epoch {epoch}")
            loop.set_postfix(loss=losses[-1])
        if loop.disable:
            print(f"Epoch {epoch}: {len(loader)} steps, loss={losses[-1]:.4f}", flush=True)
    return losses
