"""Under bf16 autocast the residual stream is bfloat16; outside it nothing changes, not by a bit."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from architectures import ARCHITECTURES, assert_same_gradients, batch_of, make
from same_run import assert_close
from transformers import AutoConfig, AutoModelForMaskedLM

from mlm_recipes.model.bf16_residual import LayerNorm, use_bf16_residual, use_float32_residual
from mlm_recipes.model.loss import masked_lm_loss
from mlm_recipes.model.rounding_bounds import rounding_bound

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def trained_norms(model):
    """Give every LayerNorm weights unlike 1 and 0, so that leaving them out shows."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            for weight in module.parameters():
                weight.data += 0.5 * torch.randn(weight.shape, generator=generator)
    return model


def pair(architecture, device="cpu"):
    """Return a model and its copy with a bf16 residual."""
    plain = trained_norms(make(architecture)).to(device)
    ours = copy.deepcopy(plain)
    assert use_bf16_residual(ours) is None
    return plain, ours


def results(model, dtype=torch.bfloat16):
    """Return logits, loss and gradients of a padded batch; without autocast if `dtype` is None."""
    device, (batch, labels) = model.device.type, batch_of([9, 1, 32, 17], 0.3)
    batch, labels = {name: value.to(device) for name, value in batch.items()}, labels.to(device)
    with torch.autocast(device, dtype or torch.bfloat16, enabled=dtype is not None):
        outputs = model(**batch)
        loss = masked_lm_loss(outputs, labels)
    loss.backward()
    real = batch["attention_mask"].bool()
    return outputs.logits[real], loss, {name: weight.grad for name, weight in model.named_parameters()}


def bound(model, passes=1):
    """Return the relative bound of a result, from the number of roundings to bfloat16 one after the other.

    Each LayerNorm rounds the sum before it, its input, its two weights and its result.
    """
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    return rounding_bound(passes * 5 * norms, torch.bfloat16)


def float32_outputs(model, names):
    """Return which of the named modules have a float32 output under bf16 autocast."""
    found = {}

    def note(name):
        def hook(module, inputs, output):
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    for name in names:
        model.get_submodule(name).register_forward_hook(note(name))
    results(model)
    dtypes = {name: output.dtype for name, output in found.items() if isinstance(output, torch.Tensor)}
    assert set(dtypes.values()) <= {torch.bfloat16, torch.float32}
    return {name for name, dtype in dtypes.items() if dtype is torch.float32}


@pytest.mark.parametrize(
    ("architecture", "stream", "float32"),
    [
        ("bert", ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"],
         {f"bert.embeddings.{kind}_embeddings" for kind in ("word", "position", "token_type")}),
        ("modernbert", ["model.embeddings", "model.layers.0", "model.layers.1"],
         {"model.embeddings.tok_embeddings"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("device", DEVICES)
def test_the_residual_stream_is_bfloat16_between_layers(architecture, stream, float32, device):
    plain, ours = pair(architecture, device)
    assert float32_outputs(plain, stream) == set(stream)
    # What is left in float32: the embeddings that are looked up, whose LayerNorm rounds.
    everything = [name for name, module in ours.named_modules() if name and not isinstance(module, torch.nn.ModuleList)]
    assert set(stream) <= set(everything)
    assert float32_outputs(ours, everything) == float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_close_to_its_float32_residual(architecture, device):
    plain, ours = pair(architecture, device)
    (expected, loss, gradients), (found, our_loss, our_gradients) = results(plain), results(ours)
    assert_close(found, expected, bound(plain), "logits")
    assert our_loss.item() == pytest.approx(loss.item(), rel=bound(plain))
    assert_same_gradients(gradients, our_gradients, bound(plain, passes=3))
    assert {gradient.dtype for gradient in our_gradients.values() if gradient is not None} == {torch.float32}
    assert any(not torch.equal(gradients[name], our_gradients[name]) for name in gradients if "orm" in name)


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [*((each, None) for each in ARCHITECTURES), ("bert", torch.float16), ("modernbert", torch.float16)],
    ids=str,
)
def test_outside_bf16_autocast_every_bit_is_the_same(architecture, dtype):
    plain, ours = pair(architecture)
    (expected, loss, gradients), (found, our_loss, our_gradients) = results(plain, dtype), results(ours, dtype)
    assert torch.equal(found, expected)
    assert torch.equal(our_loss, loss)
    for name, gradient in gradients.items():
        assert gradient is our_gradients[name] is None or torch.equal(our_gradients[name], gradient), name


@pytest.mark.parametrize("device", DEVICES)
def test_statistics_and_their_gradients_are_float32(device):
    """Rows far from zero: a mean in bfloat16 would be wrong by as much as the rows vary."""
    torch.manual_seed(0)
    width = 256
    layer = trained_norms(LayerNorm(width)).to(device)
    x = (torch.randn(64, width) + 50).bfloat16().to(device)
    upstream = torch.randn(64, width).bfloat16().to(device)
    exact = torch.nn.LayerNorm(width).to(device).double()
    exact.load_state_dict({name: weight.bfloat16().double() for name, weight in layer.state_dict().items()})
    given = [x.clone().requires_grad_(), x.double().requires_grad_()]
    with torch.autocast(device, torch.bfloat16):
        found = layer(given[0])
    expected = exact(given[1])
    found.backward(upstream)
    expected.backward(upstream.double())
    assert found.dtype is torch.bfloat16
    assert_close(found, expected, rounding_bound(1, torch.bfloat16) / 4, "result")  # rounded once
    assert_close(given[0].grad, given[1].grad, rounding_bound(1, torch.bfloat16) / 4, "gradient of the input")
    for name, weight in layer.named_parameters():
        assert weight.grad.dtype is torch.float32
        assert_close(weight.grad, exact.get_parameter(name).grad, rounding_bound(1, torch.bfloat16) / 4, name)


def test_a_float32_input_is_rounded_only_once():
    torch.manual_seed(0)
    layer, x = trained_norms(LayerNorm(32)), torch.randn(8, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, layer(x).bfloat16())


def test_the_module_stays_what_it_was(tmp_path):
    model = make("bert")
    norm = model.bert.embeddings.LayerNorm
    before, weight = model.state_dict(), norm.weight
    assert use_bf16_residual(model) is None
    assert model.bert.embeddings.LayerNorm is norm
    assert norm.weight is weight
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(model.state_dict()) == list(before)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(again.bert.embeddings.LayerNorm) is LayerNorm
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(loaded.bert.embeddings.LayerNorm) is torch.nn.LayerNorm
    assert all(torch.equal(value, before[name]) for name, value in loaded.state_dict().items())
    use_float32_residual(model)
    assert not any(type(module) is LayerNorm for module in model.modules())


def test_a_tensor_without_data_has_no_autocast():
    assert LayerNorm(4, device="meta")(torch.zeros(2, 4, device="meta")).dtype is torch.float32


@pytest.mark.slow
def test_it_compiles_as_one_graph():
    plain, x = trained_norms(LayerNorm(32)), torch.randn(8, 32).bfloat16()
    compiled = torch.compile(plain, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x), plain(x))
    assert compiled(x.float()).dtype is torch.float32  # without autocast it is another graph


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SPECIAL = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id"), 1)
OTHER = "normalises with something other than torch.nn.LayerNorm"


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("esm", SPECIAL, "4 of its 6 LayerNorms still get float32"),
        ("megatron-bert", {}, "4 of its 6 LayerNorms still get float32"),
        ("fnet", SPECIAL, "2 of its 6 LayerNorms still get float32"),
        ("mobilebert", {"embedding_size": 16, "intra_bottleneck_size": 32}, f"MobileBertForMaskedLM {OTHER}"),
        ("eurobert", SPECIAL, f"EuroBertForMaskedLM {OTHER}"),
        ("deberta", {}, "it fails with LayerNorm in bfloat16"),
    ],
)
def test_a_model_that_cannot_says_why_and_is_unchanged(architecture, changes, why):
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, **(SMALL | changes)))
    kinds = [type(module) for module in model.modules()]
    assert why in use_bf16_residual(model)
    assert [type(module) for module in model.modules()] == kinds
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model.training
