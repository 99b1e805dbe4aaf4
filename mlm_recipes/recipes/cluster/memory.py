"""How much memory a GPU needs for a model in training, by how the model is spread over the GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from .model_shape import ModelShape

#: The share of a GPU's memory that a plan fills; the rest is for CUDA itself, communication and fragments.
USABLE = 0.9

#: Bytes for each logit: in 16 bits, in float32 for the cross-entropy, and its gradient.
_LOGIT = 10


@dataclass(frozen=True)
class GpuMemory:
    """The bytes on each GPU during a step, at its peak.

    Attributes:
        strategy: how the model is spread over the GPUs.
        weights, gradients, optimizer: what stays from step to step.
        working: copies that live during a step: 16-bit weights, buckets of gradients, layers gathered from the others.
        activations: what the forward pass keeps for the backward pass, and the logits.
        assumes: what the figures rest on.
    """

    strategy: str
    weights: float
    gradients: float
    optimizer: float
    working: float
    activations: float
    assumes: str

    @property
    def total(self) -> float:
        """All of them, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.working + self.activations


def activation_bytes(
    shape: ModelShape, tokens: float, predicted: float, bf16_residual: bool = False, checkpointing: bool = False
) -> float:
    """Return the bytes that the forward pass of `tokens` tokens keeps, with flash attention and dropout.

    After Korthikanti et al. 2022 (https://arxiv.org/abs/2205.05198), whose 34 bytes for each layer, token and unit of
    width come out for a plain BERT with everything in 16 bits. Attention keeps no matrix of tokens by tokens. A
    residual stream in float32, the default here, makes the inputs of each layer's two norms twice as large.

    Args:
        shape: the model's.
        tokens: tokens of a micro-batch, without padding.
        predicted: the share of the tokens that passes the head.
        bf16_residual: whether the residual stream is in bfloat16.
        checkpointing: whether only the input of each layer is kept, and one layer at a time is computed again.

    >>> from .model_shape import typical_shape
    >>> bert_base = typical_shape(110e6)
    >>> activation_bytes(bert_base, tokens=1, predicted=0, bf16_residual=True) / (12 * 768)
    34.0
    """
    residual = 2 if bf16_residual else 4
    attention = 11 * shape.hidden  # its input, queries, keys, values, its output, and a mask of dropout
    inside = (8 if shape.gated else 4) * shape.intermediate
    layer = attention + 3 * shape.hidden + inside + 2 * residual * shape.hidden
    kept = layer + shape.layers * residual * shape.hidden if checkpointing else shape.layers * layer
    return tokens * (kept + predicted * shape.vocabulary * _LOGIT)


def optimizer_bytes(shape: ModelShape, muon: bool) -> float:
    """Return the bytes of the optimizer's state: two float32 moments, or with Muon one for each matrix of the encoder.

    >>> from .model_shape import typical_shape
    >>> bert_base = typical_shape(110e6)
    >>> optimizer_bytes(bert_base, muon=False) / 1e6, round(optimizer_bytes(bert_base, muon=True) / 1e6)
    (880.0, 538)
    """
    return 8 * shape.parameters - (4 * shape.encoder if muon else 0)


def memory_by_strategy(shape: ModelShape, gpus: int, muon: bool, activations: float) -> list[GpuMemory]:
    """Return the memory for each way to spread the model over `gpus` GPUs; for one GPU there is one way.

    With FSDP2, weights, gradients and the optimizer's state are divided (Zhao et al. 2023,
    https://arxiv.org/abs/2304.11277); with layers kept (`reshard_after_forward: false`), each is joined once a step, as
    in ZeRO-2 (Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054).
    """
    size, state = shape.parameters, optimizer_bytes(shape, muon)
    copies = 2 * (shape.encoder + shape.head)
    moments = "Muon's momentum for the encoder's matrices, AdamW's moments for the rest" if muon else "AdamW's moments"
    plain = f"weights, gradients and {moments} in float32; 16-bit copies of the weights (autocast)"
    if gpus == 1:
        return [GpuMemory("one GPU", 4 * size, 4 * size, state, copies, activations, plain)]
    buckets = f"{plain}; DDP's buckets, a second copy of the gradients"
    found = [GpuMemory("DDP", 4 * size, 4 * size, state, copies + 4 * size, activations, buckets)]
    # A root group of what is not in a layer, and layers: the one computed, the next one, one being reduced.
    root, layer = size - shape.encoder, shape.encoder / shape.layers
    divided = f"weights, gradients and {moments} are split over {gpus} GPUs"
    for strategy, gathered, whole in (
        ("FSDP2 kept", 4 * size + 4 * root + 8 * layer, "all weights are whole from forward to backward pass"),
        ("FSDP2", 8 * root + 12 * layer, "the embeddings and three layers at a time are whole"),
    ):
        assumes = f"{divided}; {whole}, in float32, and 16-bit copies (autocast)"
        of_each = 4 * size / gpus
        found.append(GpuMemory(strategy, of_each, of_each, state / gpus, copies + gathered, activations, assumes))
    return found
