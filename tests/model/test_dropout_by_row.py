"""Dropout's noise belongs to a row: a run is the same however its batches are divided."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, LONGEST, make
from conftest import CHECKPOINTING, make_model
from launched import run_together
from same_run import assert_same_run
from transformers import AutoConfig, AutoModelForMaskedLM, set_seed
from two_processes import STEPS, rows_and_tokenizer, train

from mlm_recipes import MLMConfig
from mlm_recipes.masking.batch_layout import joined_row, without_mask
from mlm_recipes.model.dropout import use_fast_dropout
from mlm_recipes.model.dropout_by_row import use_dropout_by_row
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.training.distributed.processes import leave_process_group

USUAL = ("hidden_dropout_prob", "attention_probs_dropout_prob")
DROPOUT = {name: dict.fromkeys(USUAL, 0.2) for name in sorted(ARCHITECTURES)}
DROPOUT["distilbert"] = dict.fromkeys(("dropout", "attention_dropout"), 0.2)
DROPOUT["modernbert"] = dict.fromkeys(("mlp_dropout", "attention_dropout", "embedding_dropout"), 0.2)


def losses_of_rows(model, rows, joined):
    """Return each row's logits in training mode, computed together."""
    torch.manual_seed(5)
    if joined:
        lengths = torch.tensor([len(row) for row in rows])
        start = 2 if model.config.model_type in ("roberta", "xlm-roberta") else 0
        batch = without_mask(
            joined_row(lengths, start) | {"input_ids": torch.tensor([[token for row in rows for token in row]])}
        )
        return model(**batch).logits[0].split(lengths.tolist())
    ids = torch.ones(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)], mask[index, : len(row)] = torch.tensor(row), 1
    logits = model(input_ids=ids, attention_mask=mask).logits
    return [each[: len(row)] for each, row in zip(logits, rows, strict=True)]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_row_is_dropped_from_as_if_alone(name):
    model = make(name, **DROPOUT[name])
    use_fast_dropout(model)
    joined = use_padding_free(model) is None
    assert joined is (name not in ("deberta-v2", "mpnet"))
    use_dropout_by_row(model, joined)
    model.train()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 120, (n,), generator=generator).tolist() for n in (16, LONGEST // 2 + 3, 16, 5, 1)]
    together = losses_of_rows(model, rows, joined)
    whole = [losses_of_rows(model, [row], joined)[0] for row in rows]
    equally_long = losses_of_rows(model, [rows[0], rows[2]], joined)  # multiplied together, if joined
    model.eval()
    without = losses_of_rows(model, rows, joined)
    for found, alone, plain in zip(together, whole, without, strict=True):
        size = float(alone.detach().abs().max())
        assert float((found - alone).detach().abs().max()) < 1e-5 * size
        assert float((found - plain).detach().abs().max()) > 1e-2 * size, "nothing was dropped"
    assert torch.allclose(equally_long[1], whole[2], atol=1e-5 * float(whole[2].detach().abs().max()))


def test_in_half_precision_the_noise_is_the_same():
    """Sequences are then extended to 16 tokens inside attention."""
    model = make("bert", **DROPOUT["bert"])
    use_fast_dropout(model)
    assert use_padding_free(model) is None
    use_dropout_by_row(model, joined=True)
    model.train()
    rows = [list(range(5, 14)), list(range(20, 27))]
    with torch.autocast("cpu", torch.bfloat16):
        half = losses_of_rows(model, rows, joined=True)
    for found, expected in zip(half, losses_of_rows(model, rows, joined=True), strict=True):
        assert torch.allclose(found.float(), expected, atol=0.05 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bart", "it calls torch's own dropout"),
        ("bert", "it calls torch's own scaled_dot_product_attention"),  # whose rows are padded
        ("fnet", "rows of different lengths pass through it separately"),
    ],
)
def test_a_model_with_noise_of_its_own_is_refused(name, why, tokenizer):
    set_seed(0)
    values = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "num_hidden_layers": 1}
    values |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_attention_heads": 2}
    model = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model(name, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0, **values)
    )
    rows, tokenizer = rows_and_tokenizer()
    model.resize_token_embeddings(len(tokenizer))
    with pytest.raises(ValueError, match=rf"dropout_by_example: received true with {type(model).__name__}, and {why}"):
        train(rows, tokenizer, model, (8, 1), dropout_by_example=True, use_cpu=True, padding_free=False)


class Flat(torch.nn.Module):
    """Drops from all tokens in one matrix, which looks like a table of the model's own."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, x):
        return self.dropout(x.flatten(0, 1)).view_as(x)


def test_tokens_in_one_matrix_are_refused():
    model = make("bert", **DROPOUT["bert"])
    model.bert.embeddings.dropout = Flat()
    use_fast_dropout(model)
    assert use_padding_free(model) is None
    with pytest.raises(ValueError, match="a row's result still depends on the rows beside it"):
        use_dropout_by_row(model, joined=True)
    assert "by_row" not in vars(model)
    assert not model._forward_pre_hooks


def test_after_training_the_generator_is_the_callers(tokenizer, tmp_path):
    rows, tokenizer = rows_and_tokenizer()
    model = make_model("bert", tokenizer, dropout=0.1)
    train(rows, tokenizer, model, (8, 1), dropout_by_example=True, use_cpu=True, max_steps=1)
    assert not model._forward_pre_hooks
    model.train()
    drawn = []
    for _ in range(2):
        model(torch.tensor([[5, 6, 7]]))
        drawn.append(float(torch.rand(())))
    assert drawn[0] != drawn[1]


def test_a_model_that_is_called_without_ids_says_so():
    model = make("bert", **DROPOUT["bert"])
    use_fast_dropout(model)
    use_padding_free(model)
    use_dropout_by_row(model, joined=True)
    with pytest.raises(ValueError, match="dropout_by_example: the model was called with inputs_embeds"):
        model.train()(inputs_embeds=torch.zeros(1, 3, 32))


def test_another_dropout_is_refused():
    model = make("bert")
    model.bert.encoder.layer[1].output.dropout = torch.nn.AlphaDropout(0.1)
    use_fast_dropout(model)
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.1\.output\.dropout is a AlphaDropout whose noise is"):
        use_dropout_by_row(model, joined=True)


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({CHECKPOINTING: True}, marks=pytest.mark.slow)], ids=["plain", "checkpointing"]
)
def test_a_step_in_one_batch_and_in_four_are_the_same(changes):
    rows, tokenizer = rows_and_tokenizer()
    values = {"dropout_by_example": True, "use_cpu": True, "max_steps": 3}
    whole = train(rows, tokenizer, make_model("bert", tokenizer, dropout=0.1), (8, 1), **values)
    divided = train(rows, tokenizer, make_model("bert", tokenizer, dropout=0.1), (2, 4), **values, **changes)
    assert_same_run(divided, whole, make_model("bert", tokenizer), 3)


def test_compiling_is_refused_if_it_was_asked_for():
    with pytest.raises(ValueError, match="dropout_by_example: received true with torch_compile true"):
        MLMConfig(dropout_by_example=True, torch_compile="true")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_are_the_run_of_one(processes, tmp_path):
    run_together(processes, __file__, tmp_path / "found.pt", cwd=tmp_path)
    tokenizer = rows_and_tokenizer()[1]
    assert_same_run(torch.load(tmp_path / "found.pt"), run(8), make_model("bert", tokenizer), STEPS)


def run(batch):
    rows, tokenizer = rows_and_tokenizer()
    model = make_model("bert", tokenizer, dropout=0.1)
    return train(rows, tokenizer, model, (batch, 1), dropout_by_example=True, use_cpu=True)


if __name__ == "__main__":
    results = run(8 // int(os.environ["WORLD_SIZE"]))
    if torch.distributed.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]))
    leave_process_group()
