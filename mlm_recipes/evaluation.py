"""What a model makes of masked tokens: loss, accuracy, perplexity; and what word frequencies alone would."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from .padding_free import without_mask
from .progress import with_bar
from .sparse_prediction import only_at


class MaskedLM(evaluate.Metric):
    """Loss, accuracy and perplexity over masked tokens, from one row of sums per example.

    Each row has `nats` (the cross-entropy summed over the example's masked tokens), `correct` (how many of them were
    the model's first choice) and `masked_tokens`. All rows are summed before anything is divided: a mean of batch
    means would depend on the batch size. Needs no download.

    >>> metric = MaskedLM(keep_in_memory=True)
    >>> metric.compute(nats=[2.0, 4.0], correct=[1, 0], masked_tokens=[1, 3])
    {'loss': 1.5, 'accuracy': 0.25, 'perplexity': 4.4816890703380645, 'masked_tokens': 4}
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Masked-language-model loss (nats), top-1 accuracy and perplexity.",
            citation="Devlin et al. 2019, https://aclanthology.org/N19-1423",
            inputs_description="One row of sums per example.",
            features=datasets.Features(
                {
                    "nats": datasets.Value("float64"),
                    "correct": datasets.Value("int64"),
                    "masked_tokens": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, nats: Any, correct: Any, masked_tokens: Any) -> dict[str, float]:
        count = int(np.sum(masked_tokens))
        if count == 0:
            raise ValueError(
                "evaluation: none of the held-out tokens is masked, so there is nothing to measure. Accepted: held-out "
                "text with at least one masked token. Give more text, or raise validation_fraction or mlm_probability."
            )
        loss = float(np.sum(nats)) / count
        return {
            "loss": loss,
            "accuracy": int(np.sum(correct)) / count,
            "perplexity": math.exp(min(loss, 700.0)),  # beyond that a float overflows
            "masked_tokens": count,
        }


@torch.no_grad()
def masked_logits(model: Any, batch: dict[str, Any], sparse: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits at a batch's masked tokens, float32, shape `(masked, vocab)`, and the true tokens, `(masked,)`.

    With `sparse` the head computes the masked positions only. The batch may be padded or padding-free.
    """
    labels = batch["labels"]
    masked = labels != -100  # (batch, seq_len), or (1, tokens)
    inputs = without_mask({name: value for name, value in batch.items() if name != "labels"})
    if sparse:
        with only_at(model, masked):
            logits = model(**inputs).logits[0]
    else:
        logits = model(**inputs).logits[masked]
    return logits.float(), labels[masked]


def example_sums(model: Any, batch: dict[str, Any], sparse: bool = False) -> torch.Tensor:
    """Return nats, correct first choices and masked tokens of each example, float32, shape `(batch, 3)`.

    The arguments are those of `masked_logits`.
    """
    labels = batch["labels"]
    masked = labels != -100
    logits, targets = masked_logits(model, batch, sparse)
    nats = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    # Back in their places and summed along each row: in float32, since MPS has no other, and in a fixed order.
    per_token = nats.new_zeros(3, *labels.shape)  # (3, batch, seq_len)
    per_token[0, masked], per_token[1, masked] = nats, (logits.argmax(-1) == targets).float()
    per_token[2, masked] = 1
    if "cu_seq_lens_q" in batch:
        lengths = batch["cu_seq_lens_q"].diff().tolist()
        return torch.stack([example.sum(-1) for example in per_token[:, 0].split(lengths, dim=-1)])
    return per_token.sum(-1).T


def masked_lm_metrics(
    model: Any,
    batches: Iterable[dict[str, Any]],
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    sparse: bool = False,
) -> dict[str, float]:
    """Evaluate `model` on collated `batches`: loss, accuracy, perplexity, masked_tokens.

    `gather` joins the rows of all processes; by default there is one. `sparse` is as for `example_sums`. The model is
    left in the mode it was in.
    """
    return compute(all_example_sums(model, batches, gather, sparse))


def all_example_sums(
    model: Any,
    batches: Iterable[dict[str, Any]],
    gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
    sparse: bool = False,
) -> np.ndarray:
    """Return `example_sums` of all `batches`, in order: float64, shape `(examples, 3)`.

    The arguments are those of `masked_lm_metrics`.
    """
    was_training = model.training
    model.eval()
    batches = with_bar(batches, "Evaluating", "batch")
    try:
        sums = [(gather or (lambda rows: rows))(example_sums(model, batch, sparse)).cpu() for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(sums).double().numpy()


def compute(sums: Any) -> dict[str, float]:
    """Return the metrics of rows of sums, shape `(examples, 3)`: nats, correct, masked tokens."""
    nats, correct, masked_tokens = sums.T
    return MaskedLM(keep_in_memory=True).compute(
        nats=nats, correct=correct.astype(np.int64), masked_tokens=masked_tokens.astype(np.int64)
    )


def token_counts(train_ids: Iterable[Any], vocab_size: int) -> np.ndarray:
    """Count how often the training text has each token, int64, shape `(vocab_size,)`; `train_ids` come in any pieces.

    >>> token_counts([[5, 5], [6]], vocab_size=8).tolist()
    [0, 0, 0, 0, 0, 2, 1, 0]
    """
    counts = np.zeros(vocab_size, dtype=np.int64)
    for ids in train_ids:
        counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=vocab_size)
    return counts


def word_frequency_metrics(
    counts: np.ndarray, labels: Iterable[torch.Tensor], special_ids: Iterable[int]
) -> dict[str, float]:
    """Return what token frequencies alone would score on `labels`: the level that any real learning must pass.

    `counts` are those of the training text (`token_counts`), to which one is added for each token (Laplace); special
    tokens are left out, since no label is one. The accuracy is that of always saying the commonest token.

    >>> counts = token_counts([[5, 5, 6]], vocab_size=8)
    >>> word_frequency_metrics(counts, [torch.tensor([5, -100])], special_ids=[0])["accuracy"]
    1.0
    """
    counts = counts + 1
    counts[list(special_ids)] = 0
    with np.errstate(divide="ignore"):  # log(0): a special token, never a label
        surprise = -np.log(counts / counts.sum())
    seen = np.concatenate([batch[batch != -100].numpy() for batch in labels])
    return compute(np.stack([surprise[seen], seen == counts.argmax(), np.ones_like(seen)], axis=1).astype(np.float64))
