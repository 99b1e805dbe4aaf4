"""Writes a model as an ONNX file for any number of rows of any length, and runs such a file."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from ..sources.escaping import first_line
from ..sources.missing_packages import is_installed, needs
from .evaluation_mode import evaluation_mode
from .positions import max_positions
from .rounding_bounds import rounding_bound, summed_terms
from .sample_rows import padded, sample_rows, special_ids

#: A model file has at most 2 GB, a limit of protobuf; the weights of a larger model are in a second file beside it.
_ONE_FILE = 1_900_000_000

#: The lengths of the rows that the model is traced with, and of batches of other sizes that the file is asked with.
_EXAMPLE = (9, 7)
_ASKED = ((1, 1, 1), (3,), (2, 21, 5, 13), (40, 11))

#: A batch, as a collator returns it, to logits of shape `(batch, length, vocab)`.
Logits = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


def require_onnx() -> None:
    """Raise MissingPackageError, which names what to install, if a package of the extra `onnx` is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not is_installed(name)]
    if missing:
        raise needs("export --to onnx", missing, "Accepted: an environment with the extra mlm-recipes[onnx].")


def input_names(model: Any, tokenizer: Any) -> list[str]:
    """Return the inputs of a model's ONNX file: the columns of its tokenizer, in the usual order.

    >>> from mlm_recipes import load_model, load_tokenizer
    >>> tokenizer = load_tokenizer("mini")
    >>> input_names(load_model("mini", tokenizer), tokenizer)
    ['input_ids', 'attention_mask']
    """
    segments = getattr(model.config, "type_vocab_size", 0) > 0 and "token_type_ids" in tokenizer.model_input_names
    return ["input_ids", "attention_mask"] + ["token_type_ids"] * segments


def export_onnx(model: Any, names: Sequence[str], path: Path) -> None:
    """Write a masked-language model as an ONNX file, by torch's exporter, and check it with batches of other sizes.

    Args:
        model: in float32 and on the CPU, as `load_model` returns it.
        names: the inputs (`input_names`), each int64 of shape `(batch, length)`. The output is `logits`, float32, of
            shape `(batch, length, vocab)`.
        path: the file; a model of more than 1.9 GB gets a second one for its weights.

    Raises: MissingPackageError; ValueError for a model that torch cannot export, with the first line of its reason, or
    whose file gives other logits than the model, beyond rounding, for batches of other sizes than it was traced with.
    """
    require_onnx()
    example = _batch(model, _EXAMPLE, names)
    axes = {name: {0: "batch", 1: "length"} for name in names}
    size = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    try:
        with torch.no_grad(), evaluation_mode(model), quiet():
            program: Any = torch.onnx.export(
                _Traced(model).eval(), (), kwargs=example, dynamo=True, verbose=False,
                input_names=[*names], output_names=["logits"], dynamic_shapes=axes,
            )  # fmt: skip
            program.save(str(path), external_data=size > _ONE_FILE)
    except Exception as error:  # any model code runs in it
        raise ValueError(
            f"export: torch cannot export {type(model).__name__} to ONNX: {_reason(error)}. Accepted: a model whose "
            "computation torch.export can follow, such as BERT, RoBERTa or ModernBERT. Use the model in PyTorch, or "
            "try a newer torch."
        ) from error
    _check_sizes(model, names, path)


def _check_sizes(model: Any, names: Sequence[str], path: Path) -> None:
    """Raise ValueError if the file gives other logits than the model for some batch."""
    plain, found = torch_logits(model), onnx_logits(path, names)
    for lengths in _ASKED:
        batch = _batch(model, lengths, names)
        real = batch["attention_mask"].bool()
        try:
            difference = relative_difference(found(batch)[real], plain(batch)[real])
        except Exception as error:  # onnxruntime's errors have no common class
            difference, said = float("inf"), _reason(error)
        else:
            said = f"its logits differ by {difference:.1e}"
        if not difference <= logits_bound(model, batch):
            raise ValueError(
                f"export: the ONNX file of {type(model).__name__} is wrong for a batch of "
                f"{' x '.join(map(str, batch['input_ids'].shape))} tokens: {said}. It was removed. Accepted: a model "
                "whose computation does not depend on the size of the batch that it is traced with. Use the model in "
                "PyTorch, or try a newer torch."
            )


def quantize(source: Path, target: Path) -> None:
    """Write an ONNX file again with the weights of its matrix products and embeddings as 8-bit integers, for CPUs.

    Each column of a matrix has its own scale, a table of embeddings has one, and activations are quantized as they
    come, by their own range (onnxruntime's dynamic quantization).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8, per_channel=True)


def torch_logits(model: Any) -> Logits:
    """Return a function that runs a model on a padded batch."""

    def run(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad(), evaluation_mode(model):
            return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits

    return run


def onnx_logits(path: Path, names: Sequence[str]) -> Logits:
    """Return a function that runs an ONNX file on a padded batch, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        segments = {"token_type_ids": torch.zeros_like(batch["input_ids"])}
        inputs = {name: (segments | dict(batch))[name].to(torch.int64).numpy() for name in names}
        return torch.from_numpy(session.run(["logits"], inputs)[0])

    return run


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference between two tensors, relative to the largest value.

    >>> relative_difference(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0]))
    0.25
    """
    return float((found - expected).abs().max() / expected.abs().max())


def logits_bound(model: Any, batch: Mapping[str, torch.Tensor]) -> float:
    """Return the largest relative difference between logits that rounding explains."""
    return rounding_bound(summed_terms(model, batch["input_ids"].shape[1]))


@contextmanager
def quiet() -> Iterator[None]:
    """Within `with`, drop what is printed, warned of, or logged below errors: it is for the exporter's developers."""
    before, handlers = logging.root.manager.disable, [*logging.root.handlers]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers  # `logging.warning`, which onnxruntime calls, adds one


class _Traced(torch.nn.Module):
    """A model that returns its logits only."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **segments).logits


def _batch(model: Any, lengths: Sequence[int], names: Sequence[str]) -> dict[str, torch.Tensor]:
    longest = max_positions(model)
    rows = sample_rows(model, [min(length, longest) for length in lengths])
    batch = padded(rows, special_ids(model).get("pad", 0))
    if "token_type_ids" in names:
        batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    return batch


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost reason, since the exporter's own message is a list of what it tried."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(".")
