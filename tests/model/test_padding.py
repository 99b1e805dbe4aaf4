"""What a row's result depends on besides the row: the model is asked, and rows of one length keep it constant."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import SIZE, assert_same_gradients, batch_of, make
from same_run import assert_close, gradient_bound, loss_bound
from transformers import AutoConfig, AutoModelForMaskedLM, BertConfig, BertForMaskedLM, BertTokenizer, set_seed

from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.padding import dependence
from mlm_recipes.model.rows_of_one_length import row_multiple, use_rows_of_one_length, use_whole_batches
from mlm_recipes.model.sample_rows import asked, padded, sample_rows, special_ids

#: Models that mix padding into their rows, each in another way.
MIXING = {
    "fnet": {},  # a Fourier transform over the whole row, without a mask
    "convbert": {"embedding_size": 32},  # convolutions
    "funnel": {"d_model": 32, "block_sizes": [1, 1], "n_head": 2, "d_head": 16, "d_inner": 64},  # pooling
    "yoso": {"num_hash": 4},  # hashes
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},  # landmarks of the whole row
}
BIG_BIRD = {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}
REFORMER = {
    "hidden_size": 32, "attention_head_size": 16, "feed_forward_size": 64, "attn_layers": ["local", "lsh"],
    "axial_pos_embds": False, "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "num_buckets": 4,
    "local_num_chunks_after": 0, "lsh_num_chunks_after": 0, "is_decoder": False,
}  # fmt: skip
LENGTHS = [30, 16, 9, 5]


def build(architecture, **values):
    set_seed(0)
    size = {} if architecture == "funnel" else SIZE  # which has names of its own
    values = size | {"vocab_size": 120, "max_position_embeddings": 32, "pad_token_id": 1, "eos_token_id": 2} | values
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, **values)).eval()


class MaskSwallowing(BertForMaskedLM):
    def forward(self, input_ids, **kwargs):
        return super().forward(input_ids)


class BatchMean(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


def changed(head):
    """A BERT whose embeddings pass through another module."""
    set_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=120, pad_token_id=1, **SIZE)).eval()
    model.bert.embeddings.dropout = head
    return model


class OverTokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(32)

    def forward(self, x):
        return self.norm(x.mT).mT


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "deberta-v2", "modernbert"])
def test_a_model_with_an_attention_mask_depends_on_its_row_alone(architecture):
    assert dependence(make(architecture, hidden_dropout_prob=0.1, attention_dropout=0.1), LENGTHS) is None


@pytest.mark.parametrize("architecture", MIXING)
def test_padding_that_changes_a_result_is_found_and_rows_of_one_length_mend_it(architecture):
    model = build(architecture, **MIXING[architecture])
    found = dependence(model, LENGTHS)
    assert found.on_padding
    assert "padding changes a row's result, by" in found.why
    use_rows_of_one_length(model)
    assert dependence(model, LENGTHS) is None
    use_whole_batches(model)
    assert dependence(model, LENGTHS) == found


def test_a_forward_that_swallows_the_mask_is_found():
    set_seed(0)
    model = MaskSwallowing(BertConfig(vocab_size=120, pad_token_id=1, **SIZE)).eval()
    assert dependence(model, LENGTHS).on_padding
    use_rows_of_one_length(model)
    assert dependence(model, LENGTHS) is None


@pytest.mark.parametrize("head", [OverTokens, BatchMean])
def test_a_result_that_depends_on_the_other_rows_is_found(head):
    model = changed(head())
    before = copy.deepcopy(model.state_dict())
    found = dependence(model, LENGTHS)
    assert not found.on_padding
    assert "depends on the other rows of its batch" in found.why
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("architecture", "values"), [("big_bird", BIG_BIRD), ("reformer", REFORMER)])
def test_a_result_that_does_not_repeat_is_found(architecture, values):
    """BigBird changes its attention after a short row, and Reformer's hashes are drawn each time."""
    found = dependence(build(architecture, **values), LENGTHS)
    assert not found.on_padding
    assert "depends on the rows before it or on chance" in found.why


def test_a_model_that_fails_is_said():
    """Nystromformer divides a row into landmarks of one size, so it takes rows of one length."""
    found = dependence(build("nystromformer", num_landmarks=8, segment_means_seq_len=32), LENGTHS)
    assert not found.on_padding
    assert "fails on a row of 30 or 5 tokens (" in found.why
    found = dependence(build("perceiver", d_model=32, d_latents=32, num_latents=8, num_self_attends_per_block=1,
                             num_self_attention_heads=2, num_cross_attention_heads=2), LENGTHS)  # fmt: skip
    assert "its logits have the shape (1, 32, 120) for (1, 30) tokens" in found.why


def test_asking_leaves_a_model_as_it_was():
    model = build("big_bird", **BIG_BIRD).train()
    attention = model.bert.encoder.layer[0].attention.self
    dependence(model, LENGTHS)
    assert model.bert.encoder.layer[0].attention.self is attention
    assert model.bert.attention_type == "block_sparse"
    assert model.training
    with asked(model):
        assert not model.training
        model.bert.extra = 1
    assert not hasattr(model.bert, "extra")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", ["fnet", "yoso"])
def test_each_row_has_the_loss_and_gradients_that_it_has_alone(architecture, side):
    model = build(architecture, **MIXING[architecture])
    batch, labels = batch_of([9, 1, 30, 9, 17], 0.3)
    alone, count = [], (labels != -100).sum()
    for row, length in enumerate([9, 1, 30, 9, 17]):
        ids = batch["input_ids"][row : row + 1, :length]
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        masked_lm_loss(outputs, labels[row : row + 1, :length], num_items_in_batch=count).backward()
        alone.append(outputs.logits.detach()[0])
    expected = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    if side == "left":
        flip = [torch.arange(30).roll(30 - length) for length in (9, 1, 30, 9, 17)]
        batch = {name: torch.stack([row[order] for row, order in zip(value, flip, strict=True)])
                 for name, value in batch.items()}  # fmt: skip
        labels = torch.stack([row[order] for row, order in zip(labels, flip, strict=True)])
    use_rows_of_one_length(model)
    outputs = model(**batch)
    masked_lm_loss(outputs, labels, num_items_in_batch=count).backward()
    for logits, real, found in zip(alone, batch["attention_mask"].bool(), outputs.logits, strict=True):
        assert_close(found[real], logits, loss_bound(model))
    found = {name: weight.grad for name, weight in model.named_parameters()}
    assert_same_gradients(expected, found, gradient_bound(model))


def test_rows_keep_so_much_padding_as_they_have_alone():
    model = build("fnet")
    widths, forward = [], type(model.fnet).forward
    use_rows_of_one_length(model, multiple_of=8)
    assert row_multiple(model) == 8
    batch, _ = batch_of([9, 1, 30, 16, 17], 0.3)
    model.fnet.embeddings.register_forward_pre_hook(
        lambda module, args, inputs: widths.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    model(**batch)
    assert widths == [(1, 30), (1, 24), (2, 16), (1, 8)]
    assert type(model.fnet).forward is forward


def test_a_copy_of_a_divided_model_has_its_own_weights():
    model = build("fnet")
    use_rows_of_one_length(model)
    copied = copy.deepcopy(model)
    batch, _ = batch_of([9, 4], 0.3)
    with torch.no_grad():
        before = model(**batch).logits
        copied.fnet.embeddings.word_embeddings.weight.mul_(2)
        assert torch.equal(model(**batch).logits, before)
        assert not torch.equal(copied(**batch).logits, before)


def test_rows_without_a_mask_are_refused():
    model = build("fnet")
    use_rows_of_one_length(model)
    assert model(input_ids=torch.full((1, 4), 7)).logits.shape == (1, 4, 120)
    with pytest.raises(ValueError, match="attention_mask: received none for 2 rows"):
        model(input_ids=torch.full((2, 4), 7))


def test_the_rows_shown_are_like_a_runs(tokenizer):
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SIZE))
    rows = sample_rows(model, [12, 12, 3, 2, 1], tokenizer)
    masks = [int((row == tokenizer.mask_token_id).sum()) for row in rows]
    assert [len(row) for row in rows] == [12, 12, 3, 2, 1]
    assert masks[0] > masks[1] > 0
    for row in rows[:3]:
        assert (row[0], row[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert not (row == tokenizer.pad_token_id).any()
    assert padded(rows[:3], tokenizer.pad_token_id, width=16)["input_ids"].shape == (3, 16)


def test_without_a_tokenizer_the_config_says_which_tokens_are_special():
    esm = build("esm", mask_token_id=4, cls_token_id=0)
    assert special_ids(esm) == {"mask": 4, "pad": 1, "first": 0, "last": 2}
    roberta = build(
        "roberta", pad_token_id=0, bos_token_id=0
    )  # RoBERTa's default for the first token, with another pad
    assert special_ids(roberta) == {"pad": 0, "last": 2}
    assert sample_rows(build("eurobert", mask_token_id=5000), [5])[0].max() < 120


class Neighbour(torch.nn.Module):
    """A head that looks at a position's neighbour, and at the first position sees the last."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, states):
        return self.head(states + states.roll(1, dims=1))


def test_a_head_that_uses_more_than_its_own_position_is_divided_too():
    model = make("bert")
    model.cls = Neighbour(model.cls)
    assert dependence(model, LENGTHS).on_padding
    use_rows_of_one_length(model)
    assert dependence(model, LENGTHS).on_padding
    use_rows_of_one_length(model, with_head=True)
    assert dependence(model, LENGTHS) is None
    use_whole_batches(model)
    assert dependence(model, LENGTHS).on_padding


def test_a_mask_token_above_a_hole_in_the_vocabulary_is_shown():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]
    tokenizer = BertTokenizer(vocab={name: index for index, name in enumerate(names)} | {"[MASK]": 9})
    model = BertForMaskedLM(BertConfig(vocab_size=10, **SIZE))
    assert 9 in sample_rows(model, [6], tokenizer)[0].tolist()
