"""A tokenizer's ids: how many there are, which are special, and whether an object is a tokenizer that can mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from .random_keys import Ints


def number_of_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the largest id of a tokenizer, plus one: the embeddings that its model needs.

    This is more than `len(tokenizer)` if some ids have no token, as after a line that is twice in a vocab.txt.

    >>> from transformers import BertTokenizer
    >>> tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 9})
    >>> len(tokenizer), number_of_ids(tokenizer)
    (6, 10)
    """
    return int(max(tokenizer.get_vocab().values(), default=-1)) + 1


def special_token_ids(tokenizer: Any) -> Ints:
    """Return the sorted ids that are never masked and never replace a masked token.

    These are the tokens with a role (CLS, SEP, PAD, UNK, MASK) and all others that were added as special, which
    transformers' `all_special_ids` does not include.
    """
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return np.array(sorted(added | set(tokenizer.all_special_ids)), dtype=np.int64)


#: What masking needs of a tokenizer; a class of one's own may have it too.
_NEEDED = ("get_vocab", "mask_token_id", "pad_token_id", "all_special_ids", "added_tokens_decoder")


def require_tokenizer(tokenizer: Any, name: str) -> PreTrainedTokenizerBase:
    """Return `tokenizer`, or raise ValueError for an object that is none of transformers'; `name` is the argument's.

    >>> require_tokenizer("mini", "tokenizer")
    Traceback (most recent call last):
    ...
    ValueError: tokenizer: received 'mini', a name. Accepted: a tokenizer of transformers. Pass load_tokenizer('mini').
    """
    if isinstance(tokenizer, PreTrainedTokenizerBase) or all(hasattr(tokenizer, needed) for needed in _NEEDED):
        return tokenizer
    kind = f"{type(tokenizer).__module__.split('.')[0]}.{type(tokenizer).__name__}"
    step = "Pass what AutoTokenizer.from_pretrained or mlm_recipes.load_tokenizer returns."
    if isinstance(tokenizer, str):
        kind, step = f"{tokenizer!r}, a name", f"Pass load_tokenizer({tokenizer!r})."
    elif tokenizer is None:
        kind = "None"
    elif isinstance(tokenizer, ProcessorMixin):
        step = "Pass its attribute `tokenizer`."
    elif type(tokenizer).__module__.split(".")[0] == "tokenizers":
        step = (
            "Wrap it: transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token='[MASK]', "
            "pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]', sep_token='[SEP]'), with the names of its own "
            "special tokens."
        )
    raise ValueError(f"{name}: received {kind}. Accepted: a tokenizer of transformers. {step}")


def require_mask_token(tokenizer: Any, name: str = "tokenizer", whose: str = "") -> PreTrainedTokenizerBase:
    """Return `tokenizer`, or raise ValueError if it is none, or has no mask token; `whose` names its model, if known.

    A mask token that the vocabulary lacks counts as none: its id is then that of the unknown token.
    """
    tokenizer = require_tokenizer(tokenizer, name)
    whose = whose or getattr(tokenizer, "name_or_path", "")
    of = f" of {whose!r}" if whose else ""
    if tokenizer.mask_token_id is None:
        usual = next((token for token in ("[MASK]", "<mask>") if token in tokenizer.get_vocab()), None)
        step = (
            f'Its vocabulary has {usual!r}: set tokenizer.mask_token = "{usual}", and save it.'
            if usual
            else ("Choose such a model, or give the tokenizer a mask_token.")
        )
        raise ValueError(
            f"{name}: the tokenizer{of} has no mask token, so it cannot mask. Accepted: the tokenizer of an encoder "
            f"made for masked language modelling (BERT, RoBERTa, ModernBERT, ...), not of a decoder such as GPT-2. "
            f"{step}"
        )
    own_class = not isinstance(tokenizer, PreTrainedTokenizerBase)
    if own_class or tokenizer.mask_token_id != tokenizer.unk_token_id:
        return tokenizer
    if tokenizer.mask_token != tokenizer.unk_token:
        raise ValueError(
            f"{name}: the mask token{of}, {tokenizer.mask_token!r}, is not in its vocabulary, so its id, "
            f"{tokenizer.mask_token_id}, is that of the unknown token {tokenizer.unk_token!r}. Accepted: a mask token "
            "with an id of its own. Name the token that the vocabulary has, or call tokenizer.add_special_tokens("
            f"{{'mask_token': {tokenizer.mask_token!r}}}) and resize the model's embeddings."
        )
    return tokenizer
