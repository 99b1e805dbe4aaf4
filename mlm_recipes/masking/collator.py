"""`DataCollatorForMaskedLM`: turns rows of token ids into a masked batch."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from .batch_layout import IGNORE_INDEX
from .collator_checks import (
    check_masking,
    check_policy,
    check_return_tensors,
    check_seed,
    check_tokenizer,
    check_upstreams,
    check_weights,
    policy_of,
    refuse_never_called,
    weights_for,
)
from .flat_columns import joined, padded, real_positions
from .flat_tokens import FlatTokens
from .kmers import ngram_of
from .loop_draws import LoopDraws, row_ids
from .policy_table import POLICIES
from .random_keys import EVALUATION_EPOCH, Bools, Ints, Keys, sequence_keys
from .replacement import replace_chosen
from .row_columns import (
    Row,
    as_rows,
    flat_ids,
    other_columns,
    own_labels,
    per_token,
    shares_of,
    stacked,
    token_column,
)
from .row_words import row_words
from .vocabulary import special_token_ids
from .word_boundaries import WordBoundaries, word_boundaries

#: The share of the tokens that evaluation masks, independent of how training masks.
EVALUATION_SHARE = 0.15


@dataclass
class DataCollatorForMaskedLM:
    """Pad a batch and mask some of its tokens; it can replace transformers' DataCollatorForLanguageModeling.

    Args:
        tokenizer: defines the special tokens, such as [CLS], [SEP] and [PAD], which are never chosen.
        mlm: must be True. This and `mlm_probability` to `return_tensors` are in the order of transformers 4.
        mlm_probability: the probability with which each other token is chosen, in (0, 1].
        mask_replace_prob: the probability with which a chosen token becomes the mask token (id 103 in BERT's
            vocabulary). The default, 1, is the tutorial's rule; 0.8 with `random_replace_prob=0.1` is BERT's 80/10/10,
            which is transformers' default.
        random_replace_prob: the probability with which it becomes a token drawn uniformly from the vocabulary without
            its special tokens; otherwise it is unchanged.
        pad_to_multiple_of: round the padded length up to a multiple of this.
        tf_experimental_compile: must be False.
        return_tensors: must be "pt".
        whole_word_mask: transformers' name for `masking_policy="whole_word"`.
        masking_policy: how tokens are chosen, a name in `mlm_recipes.masking.policy_table.POLICIES`; `token`, the
            default, chooses each by itself.
        token_weights: for `informative`: how much each id of the vocabulary attracts masks, a number above 0, shape
            `(ids,)`; see `mlm_recipes.masking.token_weights`.
        mask_ngram: the number of neighbours that the policy `ngram` masks together. By default the number of letters of
            the vocabulary's k-mers, and 3 if it has none.
        seed, epoch: select the masks, which are a function of seed, epoch and `example_id`. With None, the default,
            rows without an epoch get masks from torch's generator, and all others those of seed 0.
        padding: the length that rows are padded to: `longest` (the batch's longest row) or `max_length`.
        max_length: the length for `max_length` padding (by default the tokenizer's `model_max_length`), and the limit
            for `pad_to_multiple_of`.
        padding_free: join the sequences in one row instead of padding them; for a model that
            `mlm_recipes.model.padding_free.use_padding_free` has prepared. The masks are the same.
        position_ids_start: the number of the first position in a joined row,
            `mlm_recipes.model.positions.first_position(model)`.
        loss_on: `masked`: only chosen tokens have a label, all others -100. `all`: every position has one, including
            padding, as in the tutorial, which clones the labels.
        static_masks: use the masks of `epoch` in every epoch, instead of those of each row's own epoch.
        at_least_one: mask one token of every sequence, even if none was chosen at random.
        columns: the names of the other columns that are passed on, such as those that a model's forward takes, and of
            `token_type_ids`, if they are; by default all.

    A row may be a list, tuple, array or tensor of ids, or a mapping with `input_ids` and optionally
    `special_tokens_mask`, `attention_mask`, `token_type_ids`, `example_id`, `epoch`, `mlm_probability` and `labels`. A
    row's `mlm_probability` replaces the collator's, except in evaluation. Rows with `labels` were masked beforehand:
    they stay as they are. `word_ids`, the number of each token's word, replace the words that the tokenizer marks. Any
    other column is passed on: padded with 0 if it has an entry for each token, otherwise stacked. A row that is None
    represents no example: a process gets it if a different process has one example more.

    MLMTrainer's rows have `example_id` and `epoch`. Rows without an epoch, as in your own loop or in Trainer, get new
    masks in each batch: with a `seed`, the same ones each time that the loop runs, also in the workers of a DataLoader
    (as many as before), of which no two draw the same.

    Returns a BatchEncoding with `input_ids`, `attention_mask`, `labels` and, if the rows have them, `token_type_ids`,
    each int64 of shape `(batch, seq_len)`. With `padding_free` the shape is `(1, tokens)`, and instead of
    `attention_mask` there are `position_ids` and the arguments of transformers' flash attention: `cu_seq_lens_q`,
    `cu_seq_lens_k` (int32, shape `(batch + 1,)`), `max_length_q` and `max_length_k` (int). If all rows are None, the
    batch is one row of one token without a label.

    Raises: ValueError for an object that is no tokenizer of transformers, one without a mask token, one that marks no
    words if the policy needs them, or a value that is out of range; when called, for rows without an `example_id` if
    masks are static, if only some rows have `labels`, for a row's `mlm_probability` that is out of range, or for a
    column that cannot become a tensor.

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
    >>> joined = collate.changed(padding_free=True)([{"input_ids": [101, 110, 102], "example_id": 0},
    ...                                              {"input_ids": [101, 114, 115, 102], "example_id": 1}])
    >>> joined["input_ids"].tolist(), joined["cu_seq_lens_q"].tolist()
    ([[101, 110, 102, 101, 103, 103, 102]], [0, 3, 7])
    """

    tokenizer: PreTrainedTokenizerBase
    mlm: InitVar[bool] = True
    mlm_probability: float = 0.15
    mask_replace_prob: float = 1.0
    random_replace_prob: float = 0.0
    pad_to_multiple_of: int | None = None
    tf_experimental_compile: InitVar[bool] = False
    return_tensors: InitVar[str] = "pt"
    seed: int | None = None
    _: KW_ONLY
    whole_word_mask: InitVar[bool] = False
    masking_policy: str = "token"
    mask_ngram: int | None = None
    padding: str = "longest"
    max_length: int | None = None
    padding_free: bool = False
    position_ids_start: int = 0
    loss_on: str = "masked"
    static_masks: bool = False
    epoch: int = 0
    at_least_one: bool = False
    columns: Collection[str] | None = None
    token_weights: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self, mlm: Any, tf_experimental_compile: Any, return_tensors: Any, whole_word_mask: Any) -> None:
        refuse_never_called(type(self))
        check_upstreams(mlm, tf_experimental_compile)
        check_return_tensors(return_tensors)
        check_masking(
            self.mlm_probability, self.mask_replace_prob, self.random_replace_prob, self.padding, self.loss_on
        )
        self.masking_policy = policy_of(self.masking_policy, whole_word_mask)
        check_policy(self.masking_policy, self.mask_ngram)
        check_seed(self.seed)
        self.seed = None if self.seed is None else int(self.seed)  # NumPy's integers overflow
        check_tokenizer(self.tokenizer)
        self.token_weights = check_weights(self.masking_policy, self.token_weights, self.tokenizer)
        if self.padding == "max_length" and self.max_length is None:
            if self.tokenizer.model_max_length > 2**20:  # transformers' placeholder for "not known"
                raise ValueError(
                    "max_length: received None with padding='max_length', and the tokenizer has no length either. "
                    "Accepted: a number of tokens. Pass max_length=512, or padding='longest'."
                )
            self.max_length = self.tokenizer.model_max_length
        multiple = self.pad_to_multiple_of
        if multiple is not None and (isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1):
            raise ValueError(f"pad_to_multiple_of: received {multiple!r}. Accepted: 1 or more, or None. Try 8.")
        self._prepare()

    def _prepare(self) -> None:
        """Set what follows from the values."""
        self._special_ids = special_token_ids(self.tokenizer)
        vocabulary = np.array(sorted(self.tokenizer.get_vocab().values()), dtype=np.int64)
        self._ordinary_ids = np.setdiff1d(vocabulary, self._special_ids)
        policy = POLICIES[self.masking_policy]
        self._boundaries: WordBoundaries | None = word_boundaries(self.tokenizer) if policy.words else None
        self._ngram = (self.mask_ngram or ngram_of(self.tokenizer)) if policy.ngram else 1
        self._draws: LoopDraws | None = None
        if self.seed is not None and not self.static_masks:
            self._draws = LoopDraws(self.seed)  # now, because each worker of a loader gets a copy

    def changed(self, **values: Any) -> DataCollatorForMaskedLM:
        """Return a copy with other values; of a subclass too, whatever arguments its constructor takes."""
        other = copy.copy(self)
        vars(other).update(values)
        other._prepare()
        return other

    def frozen(self, seed: int, draw: int = 0) -> DataCollatorForMaskedLM:
        """Return the collator for evaluation: masks that no training epoch uses, and the loss on masked tokens only.

        The masks are a function of `seed`, the number of the `draw` and the example's id: the same before and after
        training, for any batch size. Draw 0 is used for evaluations during training; each further draw masks
        different tokens of the same text.

        15% of the tokens are masked, and the mask token replaces all of them, independent of the training masks, so
        that runs with different masking can be compared. Each example has at least one masked token, so that a short
        text can be measured too.
        """
        return self.changed(
            masking_policy="token",
            static_masks=True,
            seed=seed,
            epoch=EVALUATION_EPOCH + draw,
            mlm_probability=EVALUATION_SHARE,
            mask_replace_prob=1.0,
            random_replace_prob=0.0,
            loss_on="masked",
            at_least_one=True,
        )

    def __call__(self, examples: Sequence[Any], return_tensors: str | None = None) -> Any:
        """Return one batch, a BatchEncoding; `return_tensors` must be "pt" or None."""
        check_return_tensors(return_tensors)
        found = as_rows(examples)
        # A batch without examples gets a row of one special token, so that the model has an input but no label. Not a
        # mask: ESM divides by the share of tokens that are none.
        rows = found or [{"input_ids": [self._visible_id()], "example_id": 0, "epoch": 0}]
        flat, lengths = flat_ids(rows)  # (tokens,) without padding until padded, (batch,)

        pad = int(self.tokenizer.pad_token_id)
        attended = token_column(rows, "attention_mask", lengths, default=1)
        if pad not in (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id):
            attended &= flat != pad  # for rows that are already padded but have no attention mask
        maskable = ~np.isin(flat, self._special_ids) & attended.astype(np.bool_)
        if any("special_tokens_mask" in row for row in rows):
            maskable &= ~token_column(rows, "special_tokens_mask", lengths, default=0).astype(np.bool_)
        masked, labels, unlabelled = self._masked(rows, flat, lengths, maskable, bool(found))

        columns = {"input_ids": masked, "attention_mask": attended, "labels": labels}
        fill = {"input_ids": pad, "labels": unlabelled}  # and 0 in the others
        if any("token_type_ids" in row for row in rows) and self._passes_on("token_type_ids"):
            columns["token_type_ids"] = token_column(rows, "token_type_ids", lengths, default=0)
            fill["token_type_ids"] = self.tokenizer.pad_token_type_id
        whole: dict[str, Any] = {}
        for name, arrays in other_columns(rows, self._passes_on).items():
            if per_token(arrays, lengths):
                columns[name] = np.concatenate(arrays)
            else:
                whole[name] = stacked(name, arrays)
        if self.padding_free:
            del columns["attention_mask"]
            return BatchEncoding(joined(columns, attended, lengths, self.position_ids_start) | whole)
        real = real_positions(lengths, self._width(int(lengths.max())), self.tokenizer.padding_side)
        return BatchEncoding({name: padded(each, real, fill.get(name, 0)) for name, each in columns.items()} | whole)

    def _passes_on(self, name: str) -> bool:
        return self.columns is None or name in self.columns

    def _masked(
        self, rows: Sequence[Row], flat: Ints, lengths: Ints, maskable: Bools, examples: bool
    ) -> tuple[Ints, Ints, int]:
        """Return the ids that the model sees, the labels, both of shape `(tokens,)`, and the label of padding."""
        given = own_labels(rows, flat, lengths, maskable)
        if given is not None:
            return flat, given, IGNORE_INDEX
        keys = self._keys(rows)
        # Evaluation masks its own share of every row, whatever share the row brings for training.
        frozen = self.static_masks and self.epoch >= EVALUATION_EPOCH
        share = self.mlm_probability
        shares = np.full(len(rows), share) if frozen else shares_of(rows, share)  # (batch,)
        policy = POLICIES[self.masking_policy]
        words = None if self._boundaries is None else row_words(rows, flat, lengths, self._boundaries)
        weights = weights_for(flat, self.token_weights) if policy.weights else None
        tokens = FlatTokens(flat, maskable, keys, lengths, words=words, weights=weights, ngram=self._ngram)
        chosen = policy.choose(tokens, shares, self.at_least_one)
        masked = replace_chosen(
            flat,
            chosen,
            keys,
            lengths,
            mask_token_id=int(self.tokenizer.mask_token_id),
            ordinary_token_ids=self._ordinary_ids,
            mask_replace_prob=self.mask_replace_prob,
            random_replace_prob=self.random_replace_prob,
            together=policy.together,
        )
        if self.loss_on == "all" and examples:
            return masked, flat, int(self.tokenizer.pad_token_id)
        return masked, np.where(chosen, flat, IGNORE_INDEX), IGNORE_INDEX

    def _visible_id(self) -> int:
        names = ("cls", "sep", "bos", "eos", "unk", "mask")
        found = (getattr(self.tokenizer, f"{name}_token_id", None) for name in names)
        return next(int(each) for each in found if each not in (None, self.tokenizer.pad_token_id))

    def _keys(self, rows: Sequence[Row]) -> Keys:
        if not self.static_masks and any("epoch" not in row for row in rows):
            ids = row_ids(*flat_ids(rows), [row.get("example_id") for row in rows])
            if self.seed is None:
                return sequence_keys(int(torch.randint(2**63 - 1, ())), 0, ids)
            if self._draws is None or self._draws.seed != self.seed:
                self._draws = LoopDraws(self.seed)
            return self._draws.keys(ids)
        if any("example_id" not in row for row in rows):
            raise ValueError(
                f"{'static_masks' if self.static_masks else 'epoch'}: received rows without an example_id, which "
                "selects their masks. Accepted: mappings with input_ids and example_id. Load them with load_corpus, or "
                "add a column of row numbers."
            )
        epochs = self.epoch if self.static_masks else [int(row["epoch"]) for row in rows]
        return sequence_keys(self.seed or 0, epochs, [int(row["example_id"]) for row in rows])

    def _width(self, longest: int) -> int:
        """Return how many positions the rows of a batch are padded to; its longest has `longest` tokens."""
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
        return width
