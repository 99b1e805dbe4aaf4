"""Nothing waits for the GPU in a training step. On a CPU: nothing asks a tensor for a number that a GPU would have."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from conftest import make_bert
from small_run import NUMBERED
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ModernBertConfig, ModernBertForMaskedLM, TrainerCallback

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.model import joined_attention
from mlm_recipes.training.trainers import guarded_trainer

STEPS = 10
COUNTED = 5  # steps, with the first, in which buffers are made

#: Operators whose result, or the shape of it, depends on what is in a tensor.
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "unique_consecutive", "equal"}

#: Methods that take a tensor to the CPU; `numpy` is none of them, since a GPU's tensors refuse it.
READS = {"tolist", "item", "cpu", "__bool__", "__int__", "__float__", "__index__"}


class Operators(TorchDispatchMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        by_bools = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        unsized = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITS or by_bools or unsized:
            self.found[name] += 1
        return operator(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = (resolve_name(function) or "").rpartition(".")[2]
        if name in READS:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


class Watch(TrainerCallback):
    """Count what waits, from the second step on: from the end of one to the end of the next, with what lies between."""

    def __init__(self):
        self.found, self._modes = Counter(), []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self._modes = [Operators(self.found), Methods(self.found)]
            for mode in self._modes:
                mode.__enter__()
        elif state.global_step == COUNTED:
            self.close()

    def close(self):
        for mode in reversed(self._modes):
            mode.__exit__(None, None, None)
        self._modes = []


def trainer_of(model, tokenizer, watch, **changes):
    values = {
        "output_dir": "run", "max_steps": COUNTED + 1, "per_device_train_batch_size": 2, "save_strategy": "no",
        "logging_steps": 1, "dataloader_num_workers": 1, "dataloader_persistent_workers": True,
    }  # fmt: skip
    return MLMTrainer(
        model, args=MLMConfig(**(values | changes)), train_dataset=NUMBERED, processing_class=tokenizer,
        callbacks=[watch],
    )  # fmt: skip


def bert(tokenizer):
    return make_bert(tokenizer, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def modernbert(tokenizer):
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    special = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return ModernBertForMaskedLM(ModernBertConfig(vocab_size=len(tokenizer), local_attention=8, **size, **special))


@pytest.fixture
def counted(monkeypatch):
    """A trainer as on a GPU without flash attention; a CPU reads numbers and lengths, which waits for nothing."""
    monkeypatch.setattr(joined_attention, "_one_by_one", joined_attention._padded)
    monkeypatch.setattr(guarded_trainer, "reads_late", lambda device: True)
    watch = Watch()
    yield watch
    watch.close()


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.0, "bf16": True}],
    ids=str,
)
def test_no_step_asks_for_what_a_gpu_would_have(tokenizer, counted, changes):
    trainer_of(bert(tokenizer), tokenizer, counted, use_cpu=True, **changes).train()
    assert counted.found == {}


def test_no_step_asks_in_a_model_with_sliding_windows(tokenizer, counted):
    trainer_of(modernbert(tokenizer), tokenizer, counted, use_cpu=True).train()
    assert counted.found == {}


@pytest.mark.parametrize("in_parts", [False, True])
def test_only_transformers_asks_where_batches_are_padded(tokenizer, counted, in_parts):
    """Its `masking_utils` asks in each pass whether a padded batch has any padding."""
    model = bert(tokenizer)
    if in_parts:
        model.set_attn_implementation("eager")  # cannot be padding-free
    trainer = trainer_of(model, tokenizer, counted, use_cpu=True, padding_free=in_parts)
    assert trainer._in_parts == in_parts
    trainer.train()
    passes = COUNTED - 1
    assert counted.found == {"__bool__": passes, "_local_scalar_dense": passes}


def test_a_model_gets_nothing_of_the_plan(tokenizer):
    model = bert(tokenizer)
    model.set_attn_implementation("eager")  # padded, in parts
    alone = {"dataloader_num_workers": 0, "dataloader_persistent_workers": False}
    trainer = trainer_of(model, tokenizer, Watch(), use_cpu=True, **alone)
    batch = next(iter(trainer.get_train_dataloader()))
    assert {"masked_lm_positions", "length_parts"} <= batch.keys()
    seen = []
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.extend(kwargs), with_kwargs=True)
    loss, _ = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert loss.isfinite()
    assert "input_ids" in seen
    assert not {"masked_lm_positions", "length_parts"} & set(seen)


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: bool(x.any()), lambda x: x[x > 0],
        lambda x: x.nonzero(), lambda x: x.repeat_interleave((x > 0).long()), lambda x: x.cpu(),
    ],
)  # fmt: skip
def test_what_waits_is_counted(ask):
    found = Counter()
    with Operators(found), Methods(found):
        ask(torch.tensor([1.0, -1.0]))
    assert found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("changes", [{}, {"logging_steps": 4}, {"cuda_graphs": False}, {"muon": True}], ids=str)
@pytest.mark.parametrize("make", [bert, modernbert])
def test_on_a_gpu_no_step_waits(tokenizer, make, changes):
    class Refuse(TrainerCallback):
        """Let nothing wait in ten steps, after some in which graphs are recorded."""

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step in (5, STEPS + 5):
                torch.cuda.set_sync_debug_mode("error" if state.global_step == 5 else "default")

    values = {"bf16": True, "max_steps": STEPS + 6} | changes
    trainer = trainer_of(make(tokenizer), tokenizer, Refuse(), **values)
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.global_step == STEPS + 6
    recorded = trainer.graphs.facts["shapes"] if trainer.graphs is not None else 0
    assert (recorded > 0) == changes.get("cuda_graphs", True)
