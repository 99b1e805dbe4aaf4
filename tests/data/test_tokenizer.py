from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mlm_recipes import load_tokenizer, train_tokenizer
from mlm_recipes.masking.vocabulary import require_mask_token
from mlm_recipes.sources.tokenizer_folder import has_tokenizer


def test_the_ids_are_laid_out_as_in_bert(tokenizer):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 100, 101, 102, 103]
    assert tokenizer.convert_ids_to_tokens([1, 99, 104])[:2] == ["[unused0]", "[unused98]"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    assert sorted(tokenizer.all_special_ids) == [0, 100, 101, 102, 103]  # [unused5] in a text is text


def test_the_training_text_is_tokenized_without_loss(tokenizer, corpus):
    for text in corpus["train"]["text"][:50]:
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert tokenizer.unk_token_id not in ids
        letters = tokenizer.decode(ids[1:-1]).replace(" ", "")
        assert letters == text.lower().replace(" ", "")


def test_held_out_text_has_no_unknown_tokens(tokenizer, corpus):
    ids = tokenizer(list(corpus["validation"]["text"]))["input_ids"]
    assert not any(tokenizer.unk_token_id in row for row in ids)


def test_the_vocabulary_has_the_requested_size(corpus):
    assert len(train_tokenizer(corpus["train"]["text"], vocab_size=1000)) == 1000
    assert 3000 < len(train_tokenizer(corpus["train"]["text"])) <= 8192


def test_a_saved_tokenizer_is_unchanged(tokenizer, checkpoint, corpus):
    loaded = load_tokenizer(checkpoint)
    texts = list(corpus["validation"]["text"])
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert "token_type_ids" not in loaded("soul")
    assert (loaded.mask_token_id, loaded.pad_token_id) == (103, 0)


def test_mini_random_has_no_tokenizer_and_a_checkpoint_has_one(checkpoint):
    assert not has_tokenizer("mini-random")
    assert has_tokenizer(checkpoint)
    with pytest.raises(ValueError, match="'mini-random' holds no vocabulary"):
        load_tokenizer("mini-random")


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    with pytest.raises(ValueError, match="has no mask token"):
        require_mask_token(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="has no mask token"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_too_small_is_refused():
    with pytest.raises(ValueError, match="vocab_size: received 50"):
        train_tokenizer(["a"], vocab_size=50)
