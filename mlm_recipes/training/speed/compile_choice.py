"""Estimates whether a run is long enough to earn the time that compiling its model takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Seconds to compile. Measured: 23 s for bert-base's layers and head on one H200 with torch 2.11, for training alone.
#: Evaluation is another graph, without a backward pass.
_SECONDS = 30.0

#: Seconds saved per floating-point operation. Measured on the same H200, bert-base in bf16: a step of 64 x 512 tokens
#: takes 80.9 ms, compiled 63.2 ms, and has 6 * (85e6 + 0.15 * 24e6) * 32,768 = 1.74e13 operations, so
#: 17.7 ms / 1.74e13 = 1.0e-15. ModernBERT-base saves three times as much (167 and 87.7 ms for 2.2e13), and a slower
#: card more in proportion to its rate, so this is the least.
_SAVED = 1.0e-15

#: Operations of a pass below which compiling saves nothing, since the GPU waits for the CPU to launch its kernels, and
#: a compiled region checks its inputs in addition. Measured in the same place: bert-base with 1,700 tokens
#: (0.9e12 operations) takes 44.9 ms, compiled 48.0; with 7,000 tokens (3.7e12) 37.9 ms, compiled 31.3. This is the
#: geometric mean of the two, rounded up.
_SMALL = 2e12


def operations(encoder: Iterable[Any], head: Iterable[Any], tokens: int, predicted: int) -> float:
    """Return the floating-point operations of a forward and a backward pass: six per matrix element and token.

    Args:
        encoder: the parameters of the encoder's layers.
        head: the parameters of the head.
        tokens: the tokens of the pass.
        predicted: the tokens that the head is computed on.

    >>> import torch
    >>> layer, decoder = torch.nn.Linear(768, 768), torch.nn.Linear(768, 100)
    >>> operations(layer.parameters(), decoder.parameters(), tokens=1000, predicted=150)
    3608064000.0
    """

    def elements(parameters: Iterable[Any]) -> int:
        return sum(each.numel() for each in parameters if each.ndim > 1)

    return 6.0 * (elements(encoder) * tokens + elements(head) * predicted)


def why_not_worth_it(one_pass: float, passes: int, replayed: bool = False) -> str | None:
    """Return why compiling would not save time in this run, or None if it would.

    It depends on the model and on the length of the whole run, not on a clock, so that a resumed run decides as the
    interrupted one did.

    Args:
        one_pass: the operations of a pass, see `operations`.
        passes: the passes of the whole run in this process: its steps times the micro-batches of a step.
        replayed: whether small passes are replayed as CUDA graphs, so that the GPU does not wait for the CPU.

    >>> why_not_worth_it(1.7e13, 10_000) is None
    True
    >>> why_not_worth_it(1.7e13, 600)
    'it would take about 30 s, and save about 10 s of this run'
    >>> why_not_worth_it(9e11, 1_000_000)
    'the batches are so small that the GPU waits for the CPU, whether the model is compiled or not'
    """
    if one_pass < _SMALL and not replayed:
        return "the batches are so small that the GPU waits for the CPU, whether the model is compiled or not"
    saved = one_pass * passes * _SAVED
    if saved < _SECONDS:
        return f"it would take about {_SECONDS:.0f} s, and save about {saved:.0f} s of this run"
    return None
