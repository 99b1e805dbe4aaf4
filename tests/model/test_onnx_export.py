from __future__ import annotations

import importlib.util
import logging
import warnings

import pytest
import torch
from architectures import make
from transformers import BertForMaskedLM

from mlm_recipes.model import onnx_export
from mlm_recipes.model.onnx_export import (
    _batch,
    _check_sizes,
    export_onnx,
    logits_bound,
    onnx_logits,
    quantize,
    quiet,
    relative_difference,
    require_onnx,
    torch_logits,
)
from mlm_recipes.sources.missing_packages import MissingPackageError

pytestmark = pytest.mark.slow  # each trains or exports a model

NAMES = ["input_ids", "attention_mask"]
INSTALLED = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not INSTALLED, reason="the packages of the extra onnx are not installed")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    model, path = make("bert", max_position_embeddings=64), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, [*NAMES, "token_type_ids"], path)
    return model, path


@needs_onnx
def test_an_exported_model_gives_the_same_logits_for_any_batch(bert):
    model, path = bert
    names = [*NAMES, "token_type_ids"]
    for lengths in [(64, 64, 64, 64, 64), (1,), (2, 50)]:
        batch = _batch(model, lengths, names)
        real = batch["attention_mask"].bool()
        expected, found = torch_logits(model)(batch), onnx_logits(path, names)(batch)
        assert found.shape == expected.shape
        assert relative_difference(found[real], expected[real]) <= logits_bound(model, batch)
    assert [path.name for path in path.parent.iterdir()] == ["model.onnx"]  # no second file


@needs_onnx
def test_the_axes_have_names(bert):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bert[1]), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == [*NAMES, "token_type_ids"]
    assert [each.shape for each in session.get_inputs()] == [["batch", "length"]] * 3
    assert session.get_outputs()[0].name == "logits"


@needs_onnx
def test_a_file_of_another_model_is_noticed(bert):
    other = make("bert", max_position_embeddings=64)
    with torch.no_grad():
        other.bert.encoder.layer[0].attention.self.query.bias += 1.0
    with pytest.raises(ValueError, match=r"is wrong for a batch of 1 x 3 tokens: its logits differ"):
        _check_sizes(other, [*NAMES, "token_type_ids"], bert[1])


@needs_onnx
def test_quantized_weights_are_smaller_and_nearly_right(bert, tmp_path):
    model, path = bert
    quantize(path, tmp_path / "int8.onnx")
    names = [*NAMES, "token_type_ids"]
    batch = _batch(model, (30, 20), names)
    real = batch["attention_mask"].bool()
    expected, found = torch_logits(model)(batch)[real], onnx_logits(tmp_path / "int8.onnx", names)(batch)[real]
    assert logits_bound(model, batch) < relative_difference(found, expected) < 0.1
    import onnx

    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= kinds


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", ["modernbert", "roberta", "distilbert", "albert", "electra", "xlm-roberta", "mpnet", "deberta-v2"]
)
def test_what_exports(architecture, tmp_path):
    export_onnx(make(architecture, max_position_embeddings=64), NAMES, tmp_path / "model.onnx")  # which checks it


class Branching(BertForMaskedLM):
    def forward(self, input_ids, **values):
        return super().forward(input_ids + int(input_ids.float().mean().item() > 60), **values)


@needs_onnx
def test_a_model_that_cannot_be_followed_is_refused_with_the_reason(tmp_path, capfd):
    model = Branching(make("bert").config)
    with pytest.raises(ValueError, match=r"torch cannot export Branching to ONNX: \w+: .* Accepted: ") as refused:
        export_onnx(model, NAMES, tmp_path / "model.onnx")
    assert "\n" not in str(refused.value)
    said = capfd.readouterr()
    assert said.out == said.err == ""


@needs_onnx
@pytest.mark.slow
def test_the_exporter_is_quiet(tmp_path, capfd):
    model = make("bert", max_position_embeddings=64)
    export_onnx(model, NAMES, tmp_path / "model.onnx")
    quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_no_handler_is_left_on_the_root_logger(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with quiet():
        logging.warning("adds one")  # as onnxruntime does
    assert logging.root.handlers == []


def test_warnings_and_messages_come_back(caplog):
    with quiet():
        warnings.warn("of the exporter", stacklevel=1)
        logging.getLogger("torch.onnx").warning("not shown")
    logging.getLogger("torch.onnx").warning("shown")
    assert caplog.messages == ["shown"]
    with pytest.warns(UserWarning, match="afterwards"):
        warnings.warn("afterwards", stacklevel=1)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(onnx_export, "is_installed", lambda name: name != "onnxscript")
    with pytest.raises(MissingPackageError, match=r"export --to onnx needs a package .*: onnxscript\. .*pip install"):
        require_onnx()
