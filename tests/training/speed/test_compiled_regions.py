"""A compiled run is the same run, compiles nothing after its trial, and trains uncompiled if the trial fails."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from accelerate.utils import DynamoBackend
from conftest import make_bert, make_model
from same_run import PROPORTIONAL_STEPS, assert_same_run, flat_weights
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import AttentionInterface, AutoConfig, AutoModelForMaskedLM

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.masking.batch_layout import joined_row
from mlm_recipes.model import compiled_regions as regions
from mlm_recipes.model import joined_attention
from mlm_recipes.model.compiled_regions import find_regions
from mlm_recipes.model.dropout import use_fast_dropout
from mlm_recipes.model.joined_attention import NAME, attention
from mlm_recipes.model.padding_free import use_padding_free
from mlm_recipes.training.speed import compiled_regions
from mlm_recipes.training.speed.compile_choice import operations, why_not_worth_it
from mlm_recipes.training.trainers.fast_trainer import FastTrainer

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own, about torch and transformers


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def counter(monkeypatch):
    """Counts the graphs that are compiled, by a backend that runs them as they are."""
    counting = CompileCounterWithBackend("eager")
    monkeypatch.setattr(
        compiled_regions, "compile_regions", lambda found, **options: regions.compile_regions(found, backend=counting)
    )
    return counting


def config(**changes):
    values = {"use_cpu": True, "max_steps": 3, "per_device_train_batch_size": 3, "max_length": 32}
    values |= {"save_strategy": "no", "disable_tqdm": True, "torch_compile": True} | PROPORTIONAL_STEPS
    return MLMConfig(**(values | changes))


def train(model, tokenizer, rows, resume=None, **changes):
    """Return the trainer, and the logs and weights of a run of a copy of `model`."""
    trainer = MLMTrainer(copy.deepcopy(model), args=config(**changes), train_dataset=rows, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume)
    logs = [(each["loss"], each["grad_norm"]) for each in trainer.state.log_history if "loss" in each]
    return trainer, (logs, flat_weights(trainer.model))


@pytest.mark.parametrize(
    ("architecture", "layers", "head"),
    [
        ("bert", ["BertLayer"] * 2, ["BertOnlyMLMHead"]),
        ("roberta", ["RobertaLayer"] * 2, ["RobertaLMHead"]),
        ("distilbert", ["TransformerBlock"] * 2, []),  # its head is three separate modules
        ("modernbert", ["ModernBertEncoderLayer"] * 2, ["ModernBertPredictionHead"]),
        ("mpnet", ["MPNetLayer"] * 2, ["MPNetLMHead"]),
    ],
)
def test_the_layers_and_the_head_are_found(architecture, layers, head, tokenizer):
    model = make_model(architecture, tokenizer)
    assert [type(region).__name__ for region in find_regions(model, model.base_model)] == layers + head


def test_layers_in_groups_are_found():
    """ALBERT has a list of groups, Funnel a list of lists."""
    size = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    albert = AutoModelForMaskedLM.from_config(AutoConfig.for_model("albert", embedding_size=8, **size))
    assert [type(each).__name__ for each in find_regions(albert, albert.base_model)] == [
        "AlbertLayerGroup",
        "AlbertMLMHead",
    ]
    funnel = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model("funnel", vocab_size=60, d_model=16, n_head=2, d_head=8, d_inner=16, block_sizes=[1, 1])
    )
    found = find_regions(funnel, funnel.base_model)
    assert {type(each).__name__ for each in found} == {"FunnelLayer"}
    assert find_regions(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)) == []


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("way", ["cpu", "accelerator"])
def test_nothing_is_compiled_after_the_trial(architecture, way, tokenizer, corpus, counter, monkeypatch, request):
    """Ten batches of different shapes, two evaluations, and a last batch of fewer rows."""
    if way == "accelerator":
        AttentionInterface.register(NAME, _padded)
        request.addfinalizer(lambda: AttentionInterface.register(NAME, attention))
    graphs, shapes = [], set()
    step = MLMTrainer.training_step

    def count(self, model, inputs, *args, **kwargs):
        graphs.append(counter.frame_count)
        shapes.add((inputs["input_ids"].shape, inputs["max_length_q"], len(inputs["cu_seq_lens_q"])))
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(MLMTrainer, "training_step", count)
    rows = corpus["train"].select(range(29))
    trainer = MLMTrainer(
        make_model(architecture, tokenizer, dropout=0.1),
        args=config(num_train_epochs=1, max_steps=-1, max_length=128, eval_strategy="steps", eval_steps=5),
        train_dataset=rows,
        eval_dataset=corpus["validation"].select(range(5)),
        processing_class=tokenizer,
    )
    assert trainer.padding_free
    trainer.train()
    assert len(shapes) >= 10
    assert graphs[0] > 0
    assert counter.frame_count == graphs[0]
    assert trainer.compiled.facts["regions"] == 3
    assert trainer.compiled.facts["seconds"] > 0


def _padded(module, query, key, value, mask, **kwargs):
    """Attend as on an accelerator, where attention is traced too, with lengths that differ in every batch."""
    if kwargs.get("cu_seq_lens_q") is None:
        return attention(module, query, key, value, mask, **kwargs)
    q, k, v = (each.squeeze(0) for each in (query, key, value))
    names = ("cu_seq_lens_q", "max_length_q", "dropout", "scaling", "sliding_window")
    found = joined_attention._padded(q, k, v, *(kwargs.get(name) for name in names))
    return found.transpose(0, 1).unsqueeze(0), None


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "modernbert", "mpnet"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_compiled_run_is_the_same(architecture, accumulation, tokenizer, corpus, caplog):
    """By inductor, without dropout; mpnet's batches are padded."""
    model, rows = make_model(architecture, tokenizer), corpus["train"].select(range(24))
    changes = {"gradient_accumulation_steps": accumulation}
    _, expected = train(model, tokenizer, rows, torch_compile=False, **changes)
    with caplog.at_level("INFO", logger="mlm_recipes"):
        trainer, found = train(model, tokenizer, rows, **changes)
    assert caplog.text.count("torch_compile is on: 3 regions of the model, in ") == 1
    assert_same_run(found, expected, model, steps=3)
    assert trainer.model.state_dict().keys() == model.state_dict().keys()


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bits(tokenizer, corpus, tmp_path):
    """Dropout in compiled code is a function of torch's seed, which each step sets."""
    model = make_bert(tokenizer, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    rows = corpus["train"].select(range(24))
    changes = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "adam_epsilon": 1e-8, "learning_rate": 1e-3}
    _, whole = train(model, tokenizer, rows, output_dir=str(tmp_path), **changes)
    torch._dynamo.reset()  # as in a new process
    _, resumed = train(model, tokenizer, rows, resume=tmp_path / "checkpoint-3", output_dir=str(tmp_path), **changes)
    assert torch.equal(whole[1], resumed[1])
    assert whole[0][3:] == resumed[0][-3:]
    plain = train(model, tokenizer, rows, torch_compile=False, output_dir=str(tmp_path / "plain"), **changes)[1]
    assert not torch.equal(whole[1], plain[1])  # it draws other noise than torch's own dropout


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_gradient_is_that_of_the_loss(checkpointed, tokenizer):
    """Along a line, with the same seed at each point. A checkpointed layer must draw its noise again for that."""
    model = make_bert(tokenizer, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5).double()
    assert use_padding_free(model) is None
    use_fast_dropout(model)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    regions.compile_regions(find_regions(model, model.base_model))
    lengths = torch.tensor([9, 4, 17])
    ids = torch.arange(104, 134).unsqueeze(0)
    weights = list(model.parameters())

    def loss():
        torch.manual_seed(7)
        return model(input_ids=ids, **joined_row(lengths)).logits.sin().sum()

    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    generator = torch.Generator().manual_seed(1)
    line = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights]
    slope = sum(
        (gradient * along).sum() for gradient, along in zip(gradients, line, strict=True) if gradient is not None
    )
    with torch.no_grad():
        ends = []
        for size in (1e-6, -2e-6):  # from one end to the other
            for weight, along in zip(weights, line, strict=True):
                weight += size * along
            ends.append(loss())
    assert float(ends[0] - ends[1]) / 2e-6 == pytest.approx(float(slope), rel=1e-4)


def test_while_training_the_model_is_still_a_module_like_any_other(tiny_bert, tokenizer):
    found = find_regions(tiny_bert, tiny_bert.base_model)
    names = list(tiny_bert.state_dict())
    ids = torch.tensor([[5, 6, 7]])
    expected = tiny_bert(input_ids=ids).logits
    regions.compile_regions(found, backend="eager")
    for other in (copy.deepcopy(tiny_bert), pickle.loads(pickle.dumps(tiny_bert))):
        assert all(each._compiled_call_impl is None for each in other.modules())
        assert torch.equal(other(input_ids=ids).logits, expected)
    assert list(tiny_bert.state_dict()) == names
    assert all(each._compiled_call_impl is not None for each in found)
    regions.restore_regions(found)
    assert all(each._compiled_call_impl is None for each in tiny_bert.modules())


def _raises(graph, inputs):
    raise OSError("no compiler\nis installed")


def _wrong(graph, inputs):
    return lambda *args: tuple(each + 1 if torch.is_tensor(each) else each for each in graph(*args))


def _nan(graph, inputs):
    factor = torch.nan if torch.is_grad_enabled() else 1.0
    return lambda *args: tuple(each * factor if torch.is_tensor(each) else each for each in graph(*args))


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        (_raises, "compiling fails (BackendCompilerFailed: "),
        pytest.param(_wrong, "the compiled model's losses differ by ", marks=pytest.mark.slow),
        pytest.param(_nan, "the compiled model's loss or gradient is not finite", marks=pytest.mark.slow),
    ],
)
def test_a_failure_to_compile_is_said_once_and_the_run_is_not_compiled(
    backend, why, tiny_bert, tokenizer, rows, monkeypatch, caplog
):
    monkeypatch.setattr(
        compiled_regions, "compile_regions", lambda found, **options: regions.compile_regions(found, backend=backend)
    )
    _, expected = train(tiny_bert, tokenizer, rows, torch_compile=False)
    with caplog.at_level("INFO", logger="mlm_recipes"):
        trainer, found = train(tiny_bert, tokenizer, rows)
    said = [record.getMessage() for record in caplog.records if "torch_compile" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"torch_compile is off: {why}")
    assert "\n" not in said[0]
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    assert trainer.compiled.facts["regions"] == 0
    assert all(module._compiled_call_impl is None for module in trainer.model.modules())


@pytest.mark.slow
def test_a_trial_that_does_not_fit_into_memory_takes_fewer_rows(tiny_bert, tokenizer, rows, monkeypatch, counter):
    sizes, compute = [], FastTrainer.compute_loss

    def little_memory(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["cu_seq_lens_q"]) - 1)
        if sizes[-1] > 1 and len(sizes) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(FastTrainer, "compute_loss", little_memory)  # not a loss of the caller's own
    trainer, _ = train(tiny_bert, tokenizer, rows, max_steps=1)
    assert sizes == [3, 2, 1, 3]
    assert trainer.compiled.facts["regions"] == 3


def test_on_a_cpu_auto_is_off_without_a_word(tiny_bert, tokenizer, rows, caplog):
    with caplog.at_level("INFO", logger="mlm_recipes"):
        trainer, _ = train(tiny_bert, tokenizer, rows, torch_compile="auto", max_steps=1)
    assert trainer.compiled.facts is None
    assert "compile" not in caplog.text


BERT_BASE = 6 * (85e6 + 0.15 * 24e6)  # operations for a token


@pytest.mark.parametrize(
    ("tokens", "passes", "why"),
    [
        (32_768, 2_000, None),
        (32_768, 1_000, "it would take about 30 s, and save about 17 s of this run"),
        (7_000, 10_000, None),
        (7_000, 1_000, "it would take about 30 s, and save about 4 s of this run"),
        (1_700, 1_000_000, "the batches are so small"),
    ],
)
def test_when_compiling_is_worth_it(tokens, passes, why):
    found = why_not_worth_it(BERT_BASE * tokens, passes)
    assert found is None if why is None else found.startswith(why)


def test_the_estimate_counts_the_matrices(tiny_bert):
    """Two layers of 4 * 32 * 32 + 2 * 32 * 64, a head of 32 * 32 + 1000 * 32."""
    layers = [weight for layer in tiny_bert.bert.encoder.layer for weight in layer.parameters()]
    vocabulary = tiny_bert.config.vocab_size
    assert operations(layers, tiny_bert.cls.parameters(), tokens=100, predicted=15) == 6 * (
        2 * 8192 * 100 + (1024 + vocabulary * 32) * 15
    )


@pytest.mark.parametrize(("saved", "compiled"), [(1e9, True), (0.0, False)])
def test_on_cuda_auto_depends_on_the_length_of_the_run(
    saved, compiled, tiny_bert, tokenizer, rows, monkeypatch, caplog, counter
):
    """The decision alone: the trial is not made, since there is no such device."""
    monkeypatch.setattr("mlm_recipes.training.speed.compile_choice._SMALL", 0.0)
    monkeypatch.setattr("mlm_recipes.training.speed.compile_choice._SAVED", saved)
    trainer = MLMTrainer(tiny_bert, args=config(torch_compile="auto"), train_dataset=rows, processing_class=tokenizer)
    trainer.state.max_steps = 3
    why = trainer.compiled._why_not(trainer.args, trainer.state, trainer.model, trainer.compiled._sample(3))
    assert (why is None) is compiled
    if why:
        with caplog.at_level("INFO", logger="mlm_recipes"):
            trainer.compiled._announce("auto", why)
        assert "and save about 0 s of this run (--torch_compile true compiles anyway)." in caplog.text


def test_what_cannot_be_tried_is_not_compiled_by_auto(tiny_bert, tokenizer, rows, frozen):
    trainer = MLMTrainer(
        tiny_bert, args=config(torch_compile="auto"), train_dataset=rows, processing_class=tokenizer,
        data_collator=lambda rows: frozen(rows),
    )  # fmt: skip
    why = trainer.compiled._why_not(trainer.args, trainer.state, trainer.model, rows)
    assert why.startswith("data_collator is your own, whose batches are not known (--torch_compile true ")


@pytest.mark.parametrize("launcher", ["INDUCTOR", "NO"])
def test_accelerate_never_compiles(launcher, tiny_bert, tokenizer, rows, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", launcher)
    for asked in (True, False):
        trainer = MLMTrainer(
            tiny_bert, args=config(torch_compile=asked), train_dataset=rows, processing_class=tokenizer
        )
        assert trainer.accelerator.state.dynamo_plugin.backend == DynamoBackend.NO


@pytest.mark.slow
def test_metrics_json_records_the_seconds(checkpoint, short_text):
    from mlm_recipes import train as run

    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 32, "use_cpu": True, "max_steps": 1}
    values |= {"eval_draws": 1, "prompts_compared": 1, "pseudo_perplexity_tokens": 1, "save_strategy": "no"}
    folder = run("adapt", torch_compile=True, torch_compile_backend="eager", **values).output_dir
    found = json.loads((folder / "metrics.json").read_text())["train"]["compilation"]
    assert found["regions"] == 3
    assert 0 < found["seconds"] < json.loads((folder / "metrics.json").read_text())["train"]["seconds"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("graphs", [False, True], ids=["alone", "with graphs"])
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_on_a_gpu_a_compiled_run_is_the_same(architecture, graphs, tokenizer, corpus, caplog):
    model, rows = make_model(architecture, tokenizer), corpus["train"].select(range(30))
    values = {"use_cpu": False, "bf16": True, "max_steps": 30, "cuda_graphs": graphs}
    plain = train(model, tokenizer, rows, **values | {"torch_compile": False, "cuda_graphs": False})
    compiled = train(model, tokenizer, rows, **values)
    assert "torch_compile is off" not in caplog.text
    assert compiled[0].compiled.facts["regions"] > 0
    losses = [[loss for loss, _ in logs] for _, (logs, _) in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
