from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, BertTokenizer, PreTrainedTokenizerFast

from mlm_recipes import MLMConfig, MLMTrainer, load_tokenizer, train_tokenizer
from mlm_recipes.data.tokenizer import load_or_train_tokenizer
from mlm_recipes.masking.vocabulary import require_mask_token
from mlm_recipes.sources.model_folder import model_folder
from mlm_recipes.sources.tokenizer_folder import holds_tokenizer


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


def test_minis_files_are_those_of_upstreams_bert():
    """transformers 4 reads the same ones: its BertTokenizer needs vocab.txt, and a class that it knows."""
    folder = model_folder("mini")
    tokenizer = load_tokenizer("mini")
    names = (folder / "vocab.txt").read_text("utf-8").splitlines()
    assert dict(zip(names, range(len(names)), strict=True)) == tokenizer.get_vocab()
    assert tokenizer.model_max_length == AutoConfig.from_pretrained(folder).max_position_embeddings == 1024
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "BertTokenizer"


def test_a_trained_tokenizer_knows_the_most_tokens_of_its_model(tmp_path):
    texts = ["to be or not to be"] * 2
    assert load_or_train_tokenizer("mini-random", texts).model_max_length == 1024
    assert train_tokenizer(texts, vocab_size=200).model_max_length == 512
    for positions, expected in ((514, 512), (130, 128), (1026, 1024), (512, 512)):
        (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": positions}))
        trained = load_or_train_tokenizer(tmp_path, texts, vocab_size=200, from_scratch=True)
        assert trained.model_max_length == expected
    train_tokenizer(texts, vocab_size=200, model_max_length=64).save_pretrained(tmp_path)
    assert BertTokenizer.from_pretrained(tmp_path).model_max_length == 64


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mini", "mini-random"])
def test_what_a_run_saves_has_a_class_that_transformers_4_knows(model, tmp_path):
    texts = ["to be or not to be that is the question"] * 4
    args = MLMConfig(output_dir=str(tmp_path), max_steps=1, use_cpu=True, save_steps=1, disable_tqdm=True)
    trainer = MLMTrainer(model, args, train_dataset=texts)
    trainer.train()
    trainer.save_model()
    for folder in (tmp_path, tmp_path / "checkpoint-1"):
        config = json.loads((folder / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] in ("BertTokenizer", "PreTrainedTokenizerFast")
        assert load_tokenizer(folder)(texts)["input_ids"] == trainer.processing_class(texts)["input_ids"]


def test_mini_random_has_no_tokenizer_and_a_checkpoint_has_one(checkpoint):
    assert not holds_tokenizer(model_folder("mini-random"))
    assert holds_tokenizer(checkpoint)
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
