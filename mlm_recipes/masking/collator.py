"""`DataCollatorForMaskedLM`: turns rows of token ids into a masked batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .batch_layout import IGNORE_INDEX, joined_row
from .policies import choose_uniform, replace_chosen, special_token_ids
from .random_keys import EVALUATION_EPOCH, Bools, Ints, Keys, sequence_keys

#: The share of the tokens that evaluation masks, independent of how training masks.
EVALUATION_SHARE = 0.15


@dataclass
class DataCollatorForMaskedLM:
    """Pad a batch and mask some of its tokens; it can replace transformers' DataCollatorForLanguageModeling.

    Args:
        tokenizer: defines the special tokens, such as [CLS], [SEP] and [PAD], which are never chosen.
        mlm_probability: the probability with which each other token is chosen, in (0, 1].
        mask_replace_prob: the probability with which a chosen token becomes the mask token (id 103 in BERT's
            vocabulary). The default, 1, is the tutorial's rule; 0.8 with `random_replace_prob=0.1` is BERT's 80/10/10.
        random_replace_prob: the probability with which it becomes a token drawn uniformly from the vocabulary without
            its special tokens; otherwise it is unchanged.
        padding: the length that rows are padded to: `longest` (the batch's longest row) or `max_length`.
        max_length: the length for `max_length` padding (by default the tokenizer's `model_max_length`), and the limit
            for `pad_to_multiple_of`.
        pad_to_multiple_of: round the padded length up to a multiple of this.
        padding_free: join the sequences in one row instead of padding them; for a model that
            `mlm_recipes.model.padding_free.use_padding_free` has prepared. The masks are the same.
        position_ids_start: the number of the first position in a joined row,
            `mlm_recipes.model.positions.first_position(model)`.
        loss_on: `masked`: only chosen tokens have a label, all others -100. `all`: every position has one, including
            padding, as in the tutorial, which clones the labels.
        static_masks: use the masks of `epoch` in every epoch, instead of those of each row's own epoch.
        seed, epoch: select the masks, which are a function of seed, epoch and `example_id`.
        at_least_one: mask one token of every sequence, even if none was chosen at random.

    A row may be a list, tuple, array or tensor of ids, or a mapping with `input_ids` and optionally
    `special_tokens_mask`, `attention_mask`, `token_type_ids`, `example_id` and `epoch`; other keys are ignored.
    MLMTrainer's rows have the last two. For rows without an epoch, as in your own training loop, it is drawn from
    torch's generator for each batch. A row that is None represents no example: a process gets it if a different process
    has one example more.

    Returns `input_ids`, `attention_mask`, `labels` and, if the rows have them, `token_type_ids`, each int64 of shape
    `(batch, seq_len)`. With `padding_free` the shape is `(1, tokens)`, and instead of `attention_mask` there are
    `position_ids` and the arguments of transformers' flash attention: `cu_seq_lens_q`, `cu_seq_lens_k` (int32, shape
    `(batch + 1,)`), `max_length_q` and `max_length_k` (int). If all rows are None, the batch is one row of one token
    without a label.

    Raises: ValueError for a tokenizer without mask token or a value that is out of range; when called, for rows without
    an `example_id` if masks are static.

    >>> from mlm_recipes import train_tokenizer
    >>> tokenizer = train_tokenizer(["to be or not to be"] * 2, vocab_size=200)
    >>> collate = DataCollatorForMaskedLM(tokenizer, static_masks=True, seed=1)
    >>> batch = collate([{"input_ids": [101, 110, 111, 112, 113, 102], "example_id": 0},
    ...                  {"input_ids": [101, 114, 115, 102], "example_id": 1}])
    >>> batch["input_ids"].tolist()
    [[101, 110, 111, 112, 103, 102], [101, 103, 103, 102, 0, 0]]
    >>> batch["labels"].tolist()
    [[-100, -100, -100, -100, 113, -100], [-100, 114, 115, -100, -100, -100]]
    >>> batch["attention_mask"].tolist()
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    >>> joined = replace(collate, padding_free=True)([{"input_ids": [101, 110, 102], "example_id": 0},
    ...                                               {"input_ids": [101, 114, 115, 102], "example_id": 1}])
    >>> joined["input_ids"].tolist(), joined["cu_seq_lens_q"].tolist()
    ([[101, 110, 102, 101, 103, 103, 102]], [0, 3, 7])
    """

    tokenizer: PreTrainedTokenizerBase
    mlm_probability: float = 0.15
    mask_replace_prob: float = 1.0
    random_replace_prob: float = 0.0
    padding: str = "longest"
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    padding_free: bool = False
    position_ids_start: int = 0
    loss_on: str = "masked"
    static_masks: bool = False
    seed: int = 0
    epoch: int = 0
    at_least_one: bool = False

    def __post_init__(self) -> None:
        check_masking(
            self.mlm_probability, self.mask_replace_prob, self.random_replace_prob, self.padding, self.loss_on
        )
        if self.tokenizer.mask_token_id is None:
            raise ValueError(
                "tokenizer: received one without a mask token. Accepted: the tokenizer of an encoder made for masked "
                "language modelling. Choose another, or give it a mask_token."
            )
        if self.tokenizer.pad_token_id is None:
            raise ValueError(
                "tokenizer: received one without a padding token. Accepted: a tokenizer with a pad_token. "
                "Set it, for example: tokenizer.pad_token = tokenizer.eos_token."
            )
        if self.padding == "max_length" and self.max_length is None:
            if self.tokenizer.model_max_length > 2**20:  # transformers' placeholder for "not known"
                raise ValueError(
                    "max_length: received None with padding='max_length', and the tokenizer has no length either. "
                    "Accepted: a number of tokens. Pass max_length=512, or padding='longest'."
                )
            self.max_length = self.tokenizer.model_max_length
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ValueError(
                f"pad_to_multiple_of: received {self.pad_to_multiple_of}. Accepted: 1 or more, or None. Try 8."
            )
        self._special_ids = special_token_ids(self.tokenizer)
        vocabulary = np.array(sorted(self.tokenizer.get_vocab().values()), dtype=np.int64)
        self._ordinary_ids = np.setdiff1d(vocabulary, self._special_ids)

    def frozen(self, seed: int, draw: int = 0) -> DataCollatorForMaskedLM:
        """Return the collator for evaluation: masks that no training epoch uses, and the loss on masked tokens only.

        The masks are a function of `seed`, the number of the `draw` and the example's id: the same before and after
        training, for any batch size. Draw 0 is used for evaluations during training; each further draw masks
        different tokens of the same text.

        15% of the tokens are masked, and the mask token replaces all of them, independent of the training masks, so
        that runs with different masking can be compared. Each example has at least one masked token, so that a short
        text can be measured too.
        """
        return replace(
            self,
            static_masks=True,
            seed=seed,
            epoch=EVALUATION_EPOCH + draw,
            mlm_probability=EVALUATION_SHARE,
            mask_replace_prob=1.0,
            random_replace_prob=0.0,
            loss_on="masked",
            at_least_one=True,
        )

    def __call__(self, examples: Sequence[Any], return_tensors: str = "pt") -> dict[str, Any]:
        """Return one batch; `return_tensors` must be "pt"."""
        if return_tensors != "pt":
            raise ValueError(f"return_tensors: received {return_tensors!r}. Accepted: 'pt'. Convert the result.")
        # A batch without examples gets a row of one special token, so that the model has an input but no label. Not a
        # mask: ESM divides by the share of tokens that are none.
        nothing = {"input_ids": [self._visible_id()], "example_id": 0, "epoch": 0}
        found = [row for row in examples if row is not None]
        rows = [row if isinstance(row, Mapping) else {"input_ids": row} for row in found or [nothing]]
        ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in rows]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)  # (batch,)
        flat = np.concatenate(ids)  # (tokens,), without padding until _pad

        maskable = ~np.isin(flat, self._special_ids)
        maskable &= ~_column(rows, "special_tokens_mask", default=0).astype(np.bool_)
        keys = self._keys(rows)
        chosen = choose_uniform(maskable, keys, lengths, self.mlm_probability, self.at_least_one)
        masked = replace_chosen(
            flat,
            chosen,
            keys,
            lengths,
            mask_token_id=int(self.tokenizer.mask_token_id),
            ordinary_token_ids=self._ordinary_ids,
            mask_replace_prob=self.mask_replace_prob,
            random_replace_prob=self.random_replace_prob,
        )

        pad = int(self.tokenizer.pad_token_id)
        attended = _column(rows, "attention_mask", default=1)
        if pad not in (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id):
            attended &= flat != pad  # for rows that are already padded but have no attention mask
        labels = flat if self.loss_on == "all" and found else np.where(chosen, flat, IGNORE_INDEX)
        types = None
        if any("token_type_ids" in row for row in rows):
            types = _column(rows, "token_type_ids", default=0)
        if self.padding_free:
            return self._join(lengths, attended.astype(np.bool_), masked, labels, types)
        real = self._layout(lengths)
        batch = {
            "input_ids": _pad(masked, real, pad),
            "attention_mask": _pad(attended, real, 0),
            "labels": _pad(labels, real, pad if self.loss_on == "all" and found else IGNORE_INDEX),
        }
        if types is not None:
            batch["token_type_ids"] = _pad(types, real, self.tokenizer.pad_token_type_id)
        return batch

    def _visible_id(self) -> int:
        names = ("cls", "sep", "bos", "eos", "unk", "mask")
        found = (getattr(self.tokenizer, f"{name}_token_id", None) for name in names)
        return next(int(each) for each in found if each not in (None, self.tokenizer.pad_token_id))

    def _join(self, lengths: Ints, real: Bools, masked: Ints, labels: Ints, types: Ints | None) -> dict[str, Any]:
        """Return the batch as one row, without the tokens that are only padding."""
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        lengths = np.bincount(sequence[real], minlength=len(lengths))
        columns = {"input_ids": masked, "labels": labels} | ({} if types is None else {"token_type_ids": types})
        rows = {name: torch.from_numpy(column[real]).unsqueeze(0) for name, column in columns.items()}
        return rows | joined_row(torch.from_numpy(lengths), self.position_ids_start)

    def _keys(self, rows: list[Mapping[str, Any]]) -> Keys:
        if not self.static_masks and any("epoch" not in row for row in rows):
            # The key depends on the id, because a run's processes may draw the same number for different examples.
            ids = [int(row.get("example_id", index)) for index, row in enumerate(rows)]
            return sequence_keys(int(torch.randint(2**63 - 1, ())), 0, ids)
        if any("example_id" not in row for row in rows):
            raise ValueError(
                f"{'static_masks' if self.static_masks else 'epoch'}: received rows without an example_id, which "
                "selects their masks. Accepted: mappings with input_ids and example_id. Load them with load_corpus, or "
                "add a column of row numbers."
            )
        epochs = self.epoch if self.static_masks else [int(row["epoch"]) for row in rows]
        return sequence_keys(self.seed, epochs, [int(row["example_id"]) for row in rows])

    def _layout(self, lengths: Ints) -> Bools:
        """Return which positions contain tokens instead of padding, shape `(batch, seq_len)`."""
        longest = int(lengths.max())
        width = longest
        if self.padding == "max_length":
            assert self.max_length is not None
            width = self.max_length
            if longest > width:
                raise ValueError(
                    f"max_length: received {width} and a row of {longest} tokens. Accepted: rows no longer than "
                    "max_length. Truncate when tokenizing: tokenize(rows, tokenizer, max_length)."
                )
        if self.pad_to_multiple_of is not None:
            width = -(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of
            if self.max_length is not None:
                width = max(longest, min(width, self.max_length))  # the model may have no more positions
        real = np.arange(width) < lengths[:, None]
        return real[:, ::-1] if self.tokenizer.padding_side == "left" else real


def check_masking(
    mlm_probability: float, mask_replace_prob: float, random_replace_prob: float, padding: str, loss_on: str
) -> None:
    """Raise ValueError for the first value that is out of range.

    >>> check_masking(0.15, 0.8, 0.1, "longest", "masked")
    >>> check_masking(0, 0.8, 0.1, "longest", "masked")
    Traceback (most recent call last):
    ...
    ValueError: mlm_probability: received 0. Accepted: above 0, at most 1. BERT's value is 0.15.
    """
    if not 0 < mlm_probability <= 1:
        raise ValueError(
            f"mlm_probability: received {mlm_probability}. Accepted: above 0, at most 1. BERT's value is 0.15."
        )
    for name, value in (("mask_replace_prob", mask_replace_prob), ("random_replace_prob", random_replace_prob)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: received {value}. Accepted: 0 to 1. BERT's values are 0.8 and 0.1.")
    if mask_replace_prob + random_replace_prob > 1 + 1e-9:
        raise ValueError(
            f"random_replace_prob: received {random_replace_prob} with mask_replace_prob {mask_replace_prob}. "
            f"Accepted: together at most 1. Lower mask_replace_prob to {1 - random_replace_prob:g} or less."
        )
    if padding not in ("longest", "max_length"):
        raise ValueError(f"padding: received {padding!r}. Accepted: 'longest' or 'max_length'. The first wastes less.")
    if loss_on not in ("masked", "all"):
        raise ValueError(f"loss_on: received {loss_on!r}. Accepted: 'masked' (BERT's) or 'all' (the tutorial's).")


def _column(rows: list[Mapping[str, Any]], name: str, default: int) -> Ints:
    lengths = (len(row["input_ids"]) for row in rows)
    values = (row[name] if name in row else np.full(n, default) for row, n in zip(rows, lengths, strict=True))
    return np.concatenate([np.asarray(value, dtype=np.int64) for value in values])


def _pad(flat: Ints, real: Bools, value: int) -> torch.Tensor:
    padded = np.full(real.shape, value, dtype=np.int64)
    padded[real] = flat
    return torch.from_numpy(padded)
