"""A model and a tokenizer that do not fit each other are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import make_bert
from transformers import BertTokenizer, GenerationConfig

from mlm_recipes.masking.vocabulary import number_of_ids
from mlm_recipes.model import fit
from mlm_recipes.model.embeddings import embedding_rows
from mlm_recipes.model.fit import require_fit


@pytest.fixture(autouse=True)
def _say_again():
    fit._warn_once.cache_clear()


@pytest.fixture
def with_holes():
    """Ids up to 20, of which only 12 have a token."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)} | {"z": 20})


def test_the_largest_id_counts_not_the_number_of_tokens(with_holes):
    assert (len(with_holes), number_of_ids(with_holes)) == (12, 21)
    require_fit(make_bert(with_holes, vocab_size=21), with_holes)
    with pytest.raises(ValueError, match=r"ids up to 20 \(12 tokens, and 9 ids without one\)\. Accepted: 21 or more"):
        require_fit(make_bert(with_holes), with_holes)


def test_tokens_that_were_added_need_embeddings(tokenizer):
    model, more = make_bert(tokenizer), copy.deepcopy(tokenizer)
    more.add_tokens(["qqq", "zzz"])
    with pytest.raises(ValueError, match=r"model\.resize_token_embeddings\(1002\)"):
        require_fit(model, more)
    model.resize_token_embeddings(1002)
    require_fit(model, more)


def test_each_id_needs_a_logit_too(with_holes):
    model = make_bert(with_holes, vocab_size=21, tie_word_embeddings=False)
    model.set_output_embeddings(torch.nn.Linear(32, 12))
    with pytest.raises(ValueError, match="has 12 logits for each position"):
        require_fit(model, with_holes)


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"pad_token_id": 3}, "the pad token is 3 in its config and 0 in the tokenizer"),
        ({"mask_token_id": 5}, "the mask token is 5 in its config and 103 in the tokenizer"),
        ({"cls_token_id": 0, "sep_token_id": 2}, "the cls token is 0 .*, the sep token is 2"),
        ({"unk_token_id": 3}, "the unk token is 3 in its config and 100 in the tokenizer"),
    ],
)
def test_special_tokens_with_other_ids(tokenizer, caplog, stated, says):
    model = make_bert(tokenizer, **stated)
    require_fit(model, tokenizer)
    require_fit(model, tokenizer)
    (said,) = (record.getMessage() for record in caplog.records)  # the model's own: once, and it is used
    with pytest.raises(ValueError, match=f"'./words' does not fit the model 'm': {says}"):
        require_fit(model, tokenizer, "m", "./words")
    assert said.startswith("The model and the tokenizer differ: the ")


def test_the_generation_config_counts_too(tokenizer):
    model = make_bert(tokenizer)
    model.generation_config = GenerationConfig(pad_token_id=7)
    with pytest.raises(ValueError, match="the pad token is 7"):
        require_fit(model, tokenizer, elsewhere="./words")


def test_a_default_of_the_config_class_that_the_model_has_no_embedding_for_says_nothing(tokenizer, caplog):
    model = make_bert(tokenizer)
    model.config.pad_token_id = 50283  # ModernBERT's
    require_fit(model, tokenizer, elsewhere="./words")
    assert not caplog.records


def test_a_vocabulary_that_is_much_too_small_is_logged(tokenizer, with_holes, caplog):
    require_fit(make_bert(tokenizer, vocab_size=1064), tokenizer)  # rounded up
    assert not caplog.records
    require_fit(make_bert(tokenizer), with_holes)
    assert "1,000 token embeddings, and the tokenizer only 21 ids" in caplog.text


def test_embeddings_of_any_kind_are_counted(tokenizer):
    model = make_bert(tokenizer)
    quantized = torch.nn.Module()  # as I-BERT's
    quantized.weight = torch.nn.Parameter(torch.zeros(30, 32))
    model.set_input_embeddings(quantized)
    assert embedding_rows(model) == 30
