"""Joined or padded, batches have the same hidden states, loss and gradients; sequences do not see each other."""

from __future__ import annotations

import copy

import pytest
import torch
from architectures import ARCHITECTURES, LONGEST, PAD, SIZE, assert_same_gradients, make
from conftest import CHECKPOINTING, make_bert, make_model
from same_run import (
    PROPORTIONAL_STEPS,
    assert_close,
    assert_same_weights,
    flat_weights,
    gradient_bound,
    loss_bound,
)
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

from mlm_recipes import DataCollatorForMaskedLM, MLMConfig, MLMTrainer
from mlm_recipes.evaluation.forward_passes import evaluate_examples
from mlm_recipes.masking.batch_layout import joined_row, without_mask
from mlm_recipes.model import joined_attention
from mlm_recipes.model.dropout import Dropout
from mlm_recipes.model.joined_attention import NAME, _Attention, _one_by_one, _padded
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.model.positions import first_position
from mlm_recipes.model.rounding_bounds import rounding_bound

OWN_ATTENTION = {"mpnet", "deberta-v2"}
LENGTHS = [9, 1, LONGEST, 17]
ABLE = sorted(set(ARCHITECTURES) - OWN_ATTENTION)


def rows_of(lengths):
    generator = torch.Generator().manual_seed(2)
    return [
        {"input_ids": torch.randint(5, 120, (length,), generator=generator).tolist(), "example_id": i}
        for i, length in enumerate(lengths)
    ]


class Tokenizer:
    """What the collator needs from a tokenizer, for the vocabulary of 120 that these architectures have."""

    mask_token_id, pad_token_id, eos_token_id, sep_token_id, pad_token_type_id = 4, PAD, 2, 2, 0
    all_special_ids, added_tokens_decoder, model_max_length, padding_side = [0, 1, 2, 4], {}, LONGEST, "right"

    def get_vocab(self):
        return {str(i): i for i in range(120)}


def both(architecture, mlm_probability, lengths=LENGTHS):
    """Return a model that takes both kinds of batch, and the same examples padded and joined."""
    model = make(architecture)
    assert use_padding_free(model) is None
    values = {"mlm_probability": mlm_probability, "static_masks": True}
    joined = DataCollatorForMaskedLM(
        Tokenizer(), padding_free=True, position_ids_start=first_position(model), **values
    )(rows_of(lengths))
    return model, DataCollatorForMaskedLM(Tokenizer(), **values)(rows_of(lengths)), joined


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = masked_lm_loss(model(**{name: value for name, value in batch.items() if name != "labels"}), batch["labels"])
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("architecture", ABLE)
def test_hidden_states_and_sums_equal_those_of_the_padded_batch(architecture):
    model, padded, joined = both(architecture, 0.3)
    real = padded["attention_mask"].bool()
    assert torch.equal(padded["input_ids"][real], joined["input_ids"][0])
    assert torch.equal(padded["labels"][real], joined["labels"][0])
    inputs = {name: value for name, value in joined.items() if name != "labels"}
    with torch.no_grad():
        expected = model.base_model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"])[0][real]
        for given in (inputs, without_mask(inputs)):
            assert_close(model.base_model(**given)[0][0], expected, loss_bound(model))
    sums = evaluate_examples(model, [joined], lambda rows: rows, sparse=True)
    assert_close(sums, evaluate_examples(model, [padded], lambda rows: rows), loss_bound(model))


@pytest.mark.parametrize("architecture", ABLE)
@pytest.mark.parametrize("masked", [0.3, 1e-9], ids=["some", "none"])
def test_loss_and_gradients_equal_those_of_the_padded_batch(architecture, masked):
    model, padded, joined = both(architecture, masked)
    expected, found = loss_and_gradients(model, padded), loss_and_gradients(model, joined)
    assert found[0] == pytest.approx(expected[0], rel=loss_bound(model))
    assert_same_gradients(expected[1], found[1], gradient_bound(model))
    if masked < 0.1:
        assert found[0] == 0.0
        assert all(gradient is None or not gradient.any() for gradient in found[1].values())


def test_a_sequence_does_not_depend_on_the_others():
    model, _, joined = both("modernbert", 0.3)
    inputs = {name: value for name, value in joined.items() if name != "labels"}
    begin, end = joined["cu_seq_lens_q"][2:4].tolist()
    with torch.no_grad():
        before = model(**inputs).logits
        changed = inputs["input_ids"].clone()
        changed[0, begin:end] = 77
        after = model(**(inputs | {"input_ids": changed})).logits
    same = (before == after).all(-1)[0]
    assert same[:begin].all()
    assert same[end:].all()
    assert not same[begin:end].any()


@pytest.mark.parametrize("architecture", sorted(OWN_ATTENTION))
def test_a_model_with_its_own_attention_is_left_unchanged(architecture):
    model = make(architecture)
    before = model.config._attn_implementation
    assert "has its own attention" in use_padding_free(model)
    assert model.config._attn_implementation == before


def test_a_model_that_mixes_neighbouring_tokens_is_left_unchanged():
    """MobileBERT combines each token's embedding with its neighbours', across sequence boundaries."""
    from transformers import MobileBertConfig, MobileBertForMaskedLM

    set_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = MobileBertForMaskedLM(MobileBertConfig(vocab_size=120, embedding_size=16, **size))
    assert "its logits differ by" in use_padding_free(model)
    assert model.config._attn_implementation == "sdpa"
    assert model.training
    model.set_attn_implementation("eager")
    assert "attn_implementation is 'eager'" in use_padding_free(model)


@pytest.mark.parametrize("mask", [2, 119])
def test_a_model_that_counts_the_masks_of_a_row_is_left_unchanged(mask):
    """ESM multiplies a row's embeddings by its share of masks, wherever the mask's id is in the vocabulary."""
    from transformers import EsmConfig, EsmForMaskedLM

    set_seed(0)
    values = {"vocab_size": 120, "mask_token_id": mask, "pad_token_id": 1, "token_dropout": True}
    model = EsmForMaskedLM(EsmConfig(position_embedding_type="rotary", **values, **SIZE))
    assert use_padding_free(model) is not None
    assert model.config._attn_implementation == "sdpa"


def test_a_model_that_drops_the_sequence_boundaries_is_detected():
    model = make("bert")
    forward = model.forward
    model.forward = lambda input_ids, attention_mask=None, position_ids=None, **kwargs: forward(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids
    )
    assert "its logits differ by" in use_padding_free(model)


def test_padded_batches_still_work():
    """A trained model does not need to be changed back: `fill_mask` and user code pass padded batches."""
    model = make("modernbert")
    plain = copy.deepcopy(model)
    assert use_padding_free(model) is None
    ids = torch.randint(5, 120, (2, 20), generator=torch.Generator().manual_seed(0))
    for mask in (torch.arange(20) < torch.tensor([[20], [13]]), None):
        with torch.no_grad():
            expected, found = plain(ids, attention_mask=mask).logits, model(ids, attention_mask=mask).logits
        assert torch.equal(expected, found)


def test_the_attention_name_is_not_saved(tmp_path):
    model = make("bert")
    use_padding_free(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def heads(lengths, dtype=torch.float64, width=8):
    generator = torch.Generator().manual_seed(4)
    shape = (2, sum(lengths), width)  # (heads, tokens, head_dim)
    drawn = torch.float32 if dtype == torch.bfloat16 else dtype  # before torch 2.13, bfloat16 has draws of its own
    each = [torch.randn(shape, generator=generator, dtype=drawn).to(dtype).requires_grad_() for _ in range(3)]
    return each, joined_row(torch.tensor(lengths))["cu_seq_lens_q"]


@pytest.mark.parametrize("window", [None, 4, 100])
def test_the_accelerators_code_path_equals_the_cpus(window):
    found = []
    lengths = [5, 0, 11, 1]
    for padded in (False, True):
        each, cu = heads(lengths)
        if padded:
            attended = _padded(*each, cu, 11, 0.0, 0.3, window)
        else:
            attended = _one_by_one(*each, cu, max(lengths), 0.0, 0.3, window)
        attended.sin().sum().backward()
        found.append((attended, *(part.grad for part in each)))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rounding_bound(1000, one.dtype))


@pytest.mark.parametrize(("dropout", "window"), [(0.3, None), (0.3, 2), (0.0, 2)])
def test_gradients_of_attention(dropout, window):
    each, _ = heads([3, 1, 4], width=3)

    def attend(*each):
        torch.manual_seed(5)
        return _Attention.apply(*each, [3, 1, 4], dropout, 0.5, window)

    assert torch.autograd.gradcheck(attend, each)


@pytest.mark.parametrize("window", [None, 5])
def test_bf16_attention_is_close_to_float32(window):
    """In bf16, sequences are extended into the next one; this must not affect the result."""
    lengths, found = [6, 13, 1, 32], []
    for dtype in (torch.float32, torch.bfloat16):
        each, cu = heads(lengths, dtype)
        attended = _one_by_one(*each, cu, max(lengths), 0.0, 0.3, window)
        attended.sin().sum().backward()
        found.append((attended, *(part.grad for part in each)))
    for one, other in zip(*found, strict=True):
        assert (one - other.float()).abs().max() <= 0.02 * one.abs().max()


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sequences_of_equal_length_are_multiplied_together(monkeypatch, dtype, window):
    """Like packed rows: the same attention and gradients as one sequence at a time."""
    lengths, found, calls = [32] * 3, [], []
    apply = _Attention.apply
    monkeypatch.setattr(_Attention, "apply", lambda *args: calls.append(args[3]) or apply(*args))
    for together in (True, False):
        if not together:
            monkeypatch.setattr(joined_attention, "_as_one_batch", lambda lengths: False)
        each, cu = heads(lengths, dtype)
        attended = _one_by_one(*each, cu, max(lengths), 0.0, 0.3, window)
        attended.sin().sum().backward()
        found.append((attended, *(part.grad for part in each)))
    assert calls == [[32], lengths]
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert_close(one, other, rounding_bound(1000) if dtype == torch.float32 else 1e-2)


def test_only_short_sequences_of_equal_length_are_multiplied_together():
    for lengths in ([32, 16], [17, 17], [256, 256], [32], [0, 0]):
        assert not joined_attention._as_one_batch(lengths)
    assert joined_attention._as_one_batch([128, 128])


def test_nothing_grows_with_the_square_of_the_batch():
    """Sixty-four sequences of eight tokens, in a model with sliding windows: no tensor of (tokens, tokens)."""

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.seen = max(self.seen, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    model, _, joined = both("modernbert", 0.3, lengths=[8] * 64)
    inputs = without_mask({name: value for name, value in joined.items() if name != "labels"})
    with Largest() as largest:
        model(**inputs)
    assert 0 < largest.seen < 512 * 512


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_example_without_tokens_changes_nothing(dropout):
    found = []
    for lengths in ([5, 11], [5, 0, 11]):
        each, cu = heads(lengths, torch.bfloat16)
        torch.manual_seed(0)
        attended = _one_by_one(*each, cu, max(lengths), dropout, 0.3, None)
        attended.sum().backward()
        found.append((attended, *(part.grad for part in each)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_with_dropout_has_the_mean_and_variance_of_torchs(dtype):
    """Over many draws: what is dropped is a probability, and the mean is attention without dropout."""
    each, cu = heads([6, 13], dtype)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = _one_by_one(*each, cu, 13, 0.0, 0.5, None)
        ours = torch.stack([_one_by_one(*each, cu, 13, 0.2, 0.5, None) for _ in range(2000)]).float()
        parts = [part[:, 6:].unsqueeze(0) for part in each]
        torchs = [scaled_dot_product_attention(*parts, dropout_p=0.2, scale=0.5)[0] for _ in range(2000)]
    spread = ours.std(0)
    assert ((ours.mean(0) - expected.float()).abs() <= 5 * spread / 2000**0.5 + 1e-2 * (dtype != torch.float32)).all()
    theirs = torch.stack(torchs).float().std(0)
    assert torch.allclose(spread[:, 6:], theirs, rtol=0.15, atol=5e-3)


def trained(model, tokenizer, rows, **changes):
    args = MLMConfig(
        **{"max_steps": 6, "per_device_train_batch_size": 4, "save_strategy": "no", "mlm_probability": 0.4}
        | PROPORTIONAL_STEPS
        | changes
    )  # fmt: skip
    trainer = MLMTrainer(model, args=args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer)
    trainer.train()
    return trainer, flat_weights(model)


@pytest.mark.parametrize("architecture", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
@pytest.mark.parametrize("changes", [{}, {CHECKPOINTING: True, "gradient_accumulation_steps": 2}])
def test_a_run_is_the_same_with_and_without_it(tokenizer, rows, changes, architecture):
    joined, weights = trained(make_model(architecture, tokenizer), tokenizer, rows, **changes)
    padded, expected = trained(make_model(architecture, tokenizer), tokenizer, rows, padding_free=False, **changes)
    assert any(type(module) is Dropout for module in joined.model.modules())
    assert (joined.padding_free, padded.padding_free) == (True, False)
    begun = make_model(architecture, tokenizer)
    assert_same_weights(weights, expected, begun, steps=6)
    assert joined.evaluate()["eval_loss"] == pytest.approx(
        padded.evaluate()["eval_loss"], rel=loss_bound(begun, steps=6)
    )


def test_a_checkpointed_layer_draws_the_same_noise_again(tokenizer, rows):
    weights = [
        trained(
            make_bert(tokenizer, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2), tokenizer, rows,
            **{CHECKPOINTING: checkpointing},
        )[1]
        for checkpointing in (False, True)
    ]  # fmt: skip
    assert torch.equal(*weights)


def test_the_reason_is_logged_if_it_cannot_be_used(tokenizer, rows, caplog):
    class Own(DataCollatorForMaskedLM):
        pass

    args = MLMConfig(max_steps=1, save_strategy="no")
    model = make_bert(tokenizer)
    trainer = MLMTrainer(model, args, Own(tokenizer), rows, processing_class=tokenizer)
    assert not trainer.padding_free
    assert "padding_free is off: Own is your own collator" in caplog.text
    caplog.clear()
    asked = MLMConfig(padding="max_length", max_length=16, save_strategy="no")
    assert not MLMTrainer(model, asked, train_dataset=rows, processing_class=tokenizer).padding_free
    assert "padding_free" not in caplog.text


def test_a_model_with_its_own_attention_gets_parts_of_similar_length(tokenizer, caplog, monkeypatch):
    rows = [{"input_ids": [101, *range(200, 200 + n), 102]} for n in (3, 80, 5, 70, 4, 60)]
    shapes, weights = [], []
    for asked in (True, False):
        model = make_model("mpnet", tokenizer)
        model.mpnet.encoder.register_forward_pre_hook(
            lambda module, args: shapes.append(tuple(args[0].shape[:2])) if torch.is_grad_enabled() else None
        )
        args = {"max_steps": 2, "per_device_train_batch_size": 6, "padding_free": asked}
        weights.append(trained(model, tokenizer, rows, **args)[1])
    assert "padding_free is off: MPNetForMaskedLM has its own attention" in caplog.text
    assert "Batches are padded, in parts of similar length; the loss is the same." in caplog.text
    assert [shape for shape in shapes if shape[1] > 4] == [(3, 82), (3, 7)] * 2 + [(6, 82)] * 2
    assert_same_weights(*weights, make_model("mpnet", tokenizer), steps=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
def test_joined_equals_padded_on_a_gpu(architecture, half):
    """In float32 attention is padded; in bf16 it is variable-length flash attention."""
    model = make(architecture).cuda()
    assert use_padding_free(model) is None
    values = {"mlm_probability": 0.3, "static_masks": True}
    joined = DataCollatorForMaskedLM(
        Tokenizer(), padding_free=True, position_ids_start=first_position(model), **values
    )(rows_of(LENGTHS))
    padded = DataCollatorForMaskedLM(Tokenizer(), **values)(rows_of(LENGTHS))
    found = []
    for batch in (padded, joined):
        batch = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            found.append(loss_and_gradients(model, batch))
    assert found[1][0] == pytest.approx(found[0][0], rel=3e-2 if half else loss_bound(model))
    assert_same_gradients(found[0][1], found[1][1], 3e-2 if half else gradient_bound(model))


@pytest.mark.slow
def test_in_bf16_the_loss_follows_that_of_float32(tokenizer, corpus):
    """Fifty steps with dropout: each loss within two per cent."""
    rows = corpus["train"].select(range(80))
    losses = []
    for bf16 in (False, True):
        model = make_bert(tokenizer, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
        changes = {"max_steps": 50, "per_device_train_batch_size": 8, "max_length": 48, "disable_tqdm": True}
        changes |= {"learning_rate": 1e-3, "adam_epsilon": 1e-8}
        trainer, _ = trained(model, tokenizer, rows, bf16=bf16, **changes)
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0][-1] < losses[0][0] - 0.3
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_rotary_models_train_under_autocast():
    """Rotary positions make float32 of queries and keys; the values stay in bfloat16."""
    set_seed(0)
    size = SIZE | {"num_key_value_heads": 2, "vocab_size": 120, "pad_token_id": 1}
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("eurobert", **size))
    assert use_padding_free(model) is None
    batch = joined_row(torch.tensor([7, 4]), 0) | {"input_ids": torch.arange(5, 16).unsqueeze(0)}
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.train()(**batch).logits
    logits.float().sum().backward()
    exact = model(**batch).logits
    assert (logits - exact).abs().max() <= 2e-2 * exact.abs().max()
