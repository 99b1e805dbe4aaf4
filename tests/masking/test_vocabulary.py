"""Only a tokenizer that can mask is taken."""

from __future__ import annotations

import pytest
from transformers import BertTokenizer, PreTrainedTokenizerFast

from mlm_recipes import DataCollatorForMaskedLM
from mlm_recipes.masking.vocabulary import require_mask_token, require_tokenizer


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda t: t.backend_tokenizer,
            r"tokenizers\.Tokenizer\..*PreTrainedTokenizerFast\(tokenizer_object=tokenizer",
        ),
        (lambda t: "bert-base-uncased", r"Pass load_tokenizer\('bert-base-uncased'\)"),
        (lambda t: None, "received None"),
        (lambda t: t.get_vocab(), "received builtins.dict"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tokenizer, make, says):
    with pytest.raises(ValueError, match=says):
        DataCollatorForMaskedLM(make(tokenizer))
    assert require_tokenizer(tokenizer, "tokenizer") is tokenizer


def test_a_mask_token_that_the_vocabulary_lacks_is_refused():
    """Its id would be the unknown token's, and every mask an unknown token."""
    tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5})
    tokenizer.mask_token = "<mask>"
    assert tokenizer.mask_token_id == tokenizer.unk_token_id
    with pytest.raises(ValueError, match="the mask token, '<mask>', is not in its vocabulary, so its id, 1, is"):
        require_mask_token(tokenizer)


def test_a_mask_token_that_is_not_named_is_found(tokenizer):
    unnamed = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match=r'Its vocabulary has .\[MASK\].: set tokenizer\.mask_token = "\[MASK\]"'):
        require_mask_token(unnamed, "model", "mine")
