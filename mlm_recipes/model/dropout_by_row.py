"""Dropout whose noise belongs to a row's tokens, so that it does not depend on who computes the row, and beside which.

Usually each process draws noise for its own batch, and a run on four processes is another run than on two. Here, an
element's noise is a function of the step's seed, its row's tokens (masked anew in each epoch), its token's place in the
row, and the number of the call within the forward pass. Splitting a batch, joining its rows, or padding them changes
nothing. The numbers come from a counter-based generator (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2,
3", https://doi.org/10.1145/2063384.2063405), SplitMix64's, as those of the masks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..masking.batch_layout import joined_row, without_mask
from .dropout import DROPOUTS, Dropout
from .exact_float32 import exact_float32
from .positions import first_position
from .row_keys import RowKeys
from .rows_of_one_length import is_divided
from .sample_rows import asked, pad_id, padded, sample_rows

_LAYERS = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout)

#: Attributes of a model that draws by row: the keys that its modules share, and the handle of its hook.
_BY_ROW, _HOOK = "by_row", "_hook_of_by_row"

#: Lengths of the rows that a model is tried on.
_LENGTHS = (9, 5)


def use_dropout_by_row(model: Any, joined: bool, tokenizer: Any = None) -> None:
    """Draw the noise of all of a model's dropout by row, after testing on a few rows that this covers all of it.

    `use_fast_dropout` was called before. The seed of a step is what torch's generator was seeded with last, on each
    process the same; each forward pass in training mode begins with it anew.

    Args:
        model: a masked-language model, on its device.
        joined: whether batches are joined in one row (`mlm_recipes.model.padding_free`), or padded.
        tokenizer: the model's; without it, the special tokens are those of the model's config.

    Raises: ValueError if the model draws noise in a way that cannot be replaced.

    >>> from transformers import BertConfig, BertForMaskedLM
    >>> from mlm_recipes.model.dropout import use_fast_dropout
    >>> from mlm_recipes.model.padding_free import use_padding_free
    >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForMaskedLM(BertConfig(vocab_size=50, **size)).train()
    >>> use_fast_dropout(model), use_padding_free(model)
    (None, None)
    >>> use_dropout_by_row(model, joined=True)
    >>> rows = joined_row(torch.tensor([2, 3])) | {"input_ids": torch.tensor([[7, 8, 9, 7, 9]])}
    >>> alone = joined_row(torch.tensor([3])) | {"input_ids": torch.tensor([[9, 7, 9]])}
    >>> both = model(**without_mask(rows)).logits[:, 2:]
    >>> torch.allclose(both, model(**without_mask(alone)).logits, atol=1e-6)
    True
    """
    if is_divided(model):
        raise ValueError(_refused(model, "rows of different lengths pass through it separately"))
    draw_by_row(model)
    why = _other_noise(model) or _tried(model, joined, tokenizer)
    if why is not None:
        stop_drawing_by_row(model)
        raise ValueError(_refused(model, why))


def draw_by_row(model: Any) -> None:
    """Draw by row from now on, as after `use_dropout_by_row`, whose test the model has passed."""
    stop_drawing_by_row(model)
    by_row = RowKeys()
    for module in model.modules():
        vars(module)[_BY_ROW] = by_row  # for Dropout, and for the attention of joined rows
    vars(model)[_HOOK] = model.register_forward_pre_hook(by_row.begin, with_kwargs=True)


def stop_drawing_by_row(model: Any) -> None:
    """Undo `draw_by_row`, if it was called: a model that no longer trains must not seed its caller's generator."""
    if _HOOK in vars(model):
        vars(model).pop(_HOOK).remove()
        for module in model.modules():
            vars(module).pop(_BY_ROW, None)


def _refused(model: Any, why: str) -> str:
    return (
        f"dropout_by_example: received true with {type(model).__name__}, and {why}. Accepted: a model whose dropout "
        "can be drawn by row, such as BERT, RoBERTa or ModernBERT with padding_free. Leave it out: the noise then "
        "depends on the number of processes."
    )


def _other_noise(model: Any) -> str | None:
    """Return which module has a dropout of another kind, or None."""
    for name, module in model.named_modules():
        drops = isinstance(module, _LAYERS) and module.p > 0
        if drops and not isinstance(module, Dropout):
            return f"{name} is a {type(module).__name__} whose noise is its own"
    return None


def _tried(model: Any, joined: bool, tokenizer: Any) -> str | None:
    """Return why rows do not have the noise that they have alone, or None if they do."""
    rows = sample_rows(model, _LENGTHS, tokenizer)

    def logits(some: list[torch.Tensor]) -> list[torch.Tensor]:
        width = max(_LENGTHS)
        if joined:
            lengths = torch.tensor([len(row) for row in some])
            batch = joined_row(lengths, first_position(model)) | {"input_ids": torch.cat(some).unsqueeze(0)}
            batch = {
                name: value.to(some[0].device) if isinstance(value, torch.Tensor) else value
                for name, value in without_mask(batch).items()
            }
        else:
            batch = padded(some, pad_id(model, tokenizer), width)
        found: torch.Tensor = model(**batch).logits.flatten(0, 1).float()
        starts = [sum(map(len, some[:place])) if joined else place * width for place in range(len(some))]
        return [found[start : start + len(row)] for start, row in zip(starts, some, strict=True)]

    on_gpu = [rows[0].device] if rows[0].device.type == "cuda" else []
    with asked(model), exact_float32(), torch.random.fork_rng(devices=on_gpu), _only_by_row() as others:
        torch.default_generator.manual_seed(0)
        model.train()
        alone = [logits([row])[0] for row in rows]
        among = [*logits(rows), *logits(rows[::-1])[::-1]]  # each row is the first, and another one
    if others:
        return f"it calls torch's own {sorted(others)[0]}"
    pairs = zip([*alone, *alone], among, strict=True)
    difference = max(float((one - other).abs().max() / one.abs().max().clamp(min=1e-9)) for one, other in pairs)
    return None if difference < 1e-3 else f"a row's result still depends on the rows beside it, by {difference:.1e}"


@contextmanager
def _only_by_row() -> Iterator[set[str]]:
    """Yield the names of torch's functions that draw noise of their own within `with`."""
    found: set[str] = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is torch.nn.functional.scaled_dot_product_attention:
                drops = bool(kwargs.get("dropout_p"))
            else:  # (input, p, training)
                _, p, training = [*args, None, 0.5, True][:3] if len(args) < 3 else args[:3]
                drops = func in DROPOUTS and kwargs.get("p", p) > 0 and kwargs.get("training", training)
            if drops:
                found.add(func.__name__)
            return func(*args, **kwargs)

    with Watch():
        yield found
