from __future__ import annotations

import torch
from conftest import make_bert

from mlm_recipes.recipes.reference_loop import ParagraphDataset, encode, mask, train_loop

TEXTS = ["waste no more time", "be one", "the soul takes the colour of its thoughts", "look within"] * 3


def test_encode_pads_to_the_length_and_clones_the_labels(tokenizer):
    inputs = encode(TEXTS, tokenizer, max_length=16)
    assert {tuple(tensor.shape) for tensor in inputs.values()} == {(12, 16)}
    assert torch.equal(inputs["labels"], inputs["input_ids"])
    assert inputs["labels"].data_ptr() != inputs["input_ids"].data_ptr()
    assert torch.equal(inputs["attention_mask"], (inputs["input_ids"] != 0).long())


def test_mask_skips_special_tokens_and_masks_about_the_given_share(tokenizer):
    torch.manual_seed(0)
    inputs = mask(encode(TEXTS * 50, tokenizer, max_length=16), tokenizer)
    changed = inputs["input_ids"] != inputs["labels"]
    assert (inputs["input_ids"][changed] == 103).all()
    ordinary = inputs["labels"] > 103
    assert not changed[~ordinary].any()
    assert abs(changed[ordinary].float().mean() - 0.15) < 0.02


def test_the_data_set_returns_rows(tokenizer):
    data_set = ParagraphDataset(encode(TEXTS, tokenizer, max_length=16))
    assert len(data_set) == 12
    assert {name: tuple(tensor.shape) for name, tensor in data_set[3].items()} == {
        "input_ids": (16,),
        "attention_mask": (16,),
        "labels": (16,),
    }


def test_the_loop_learns_and_prints_its_loss(tokenizer, capsys):
    torch.manual_seed(0)
    model = make_bert(tokenizer)
    data_set = ParagraphDataset(mask(encode(TEXTS, tokenizer, max_length=16), tokenizer))
    losses = train_loop(model, data_set, epochs=10, batch_size=4, learning_rate=1e-2, show=False)
    assert len(losses) == 30
    assert losses[-1] < losses[0] / 3
    assert model.training
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Epoch 0: 3 steps, loss=")
    assert len(lines) == 10


def test_the_bar_shows_the_epoch_and_the_loss(tokenizer, capsys):
    data_set = ParagraphDataset(encode(TEXTS, tokenizer, max_length=16))
    train_loop(make_bert(tokenizer), data_set, epochs=2, batch_size=4, show=True)
    bars = capsys.readouterr().err
    assert "Epoch 0: 100%" in bars
    assert "Epoch 1: 100%" in bars
    assert "loss=" in bars
