"""A run on a prepared corpus: its order and all that is said of it follow from the index, and a resume is exact."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from conftest import make_bert
from small_run import weights

from mlm_recipes import MLMConfig, MLMTrainer, train_tokenizer
from mlm_recipes.data import all_ids
from mlm_recipes.data.prepared_index import read_index
from mlm_recipes.data.prepared_rows import PreparedRows
from mlm_recipes.recipes import run_folder
from mlm_recipes.recipes.arguments import parse_arguments, read_config
from mlm_recipes.recipes.plan import plan_run
from mlm_recipes.recipes.prepare import prepare
from mlm_recipes.recipes.prepare_corpus import prepare_corpus

SHORT = {"max_length": 64, "eval_draws": 1, "pseudo_perplexity_tokens": 50, "prompts_compared": 2}


@pytest.fixture(scope="module")
def shards(tmp_path_factory, checkpoint, short_text):
    """Sixty short paragraphs, prepared in four shards."""
    folder = tmp_path_factory.mktemp("prepared") / "shards"
    values = {"model": str(checkpoint), "max_length": 64, "shard_characters": 2_000}
    prepare_corpus("quickstart", corpus=str(short_text), out=folder, **values)
    assert len(read_index(folder).shards) > 2
    return folder


def opened(corpus, checkpoint, **values):
    return prepare(read_config("quickstart", {"corpus": str(corpus), "model": str(checkpoint), **SHORT, **values}))


def trainer_on(rows, tokenizer, folder="run", **values):
    values = {
        "output_dir": folder,
        "per_device_train_batch_size": 4,
        "save_steps": 3,
        "save_strategy": "steps",
    } | values
    args = MLMConfig(max_steps=values.pop("max_steps", 8), use_cpu=True, seed=3, learning_rate=1e-3, **values)
    return MLMTrainer(make_bert(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)


def rows_in(shards):
    return PreparedRows.open(shards, read_index(shards))


def test_a_run_knows_all_that_it_says_from_the_index(shards, checkpoint):
    run = opened(shards, checkpoint)
    index = read_index(shards)
    assert isinstance(run.train_rows, PreparedRows)
    assert len(run.train_rows) == index.total("rows")
    assert run.facts["name"] == "notes"
    assert run.facts["prepared"]["tokens"] == index.total("tokens") == sum(map(len, run.train_rows["input_ids"]))
    assert run.facts["train"] + run.facts["validation"] == run.facts["paragraphs"] == 60
    said = f"Prepared in {len(index.shards)} shards: {len(run.train_rows)} rows, {index.total('tokens'):,} tokens."
    assert said in run.announcement()


def test_the_resume_contract_reads_the_index_and_not_the_rows(shards, tokenizer, monkeypatch):
    trainer = trainer_on(rows_in(shards), tokenizer)

    def read(*args, **kwargs):
        raise AssertionError("the rows were read")

    monkeypatch.setattr(all_ids, "_in_columns", read)
    monkeypatch.setattr(PreparedRows, "__getitems__", read)
    said = trainer.identity()["training text"]
    assert said == f"{len(trainer.train_dataset)} rows, prepared, {read_index(shards).fingerprint}"


@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_each_epoch_has_every_row_once_in_an_order_of_its_own(shards, tokenizer, strategy):
    rows = rows_in(shards)
    trainer = trainer_on(rows, tokenizer, train_sampling_strategy=strategy, per_device_train_batch_size=7)
    sampler, keyed = trainer.epoch_sampler(rows, 1), trainer.get_train_dataloader().dataset
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        found = keyed.__getitems__(list(sampler))
        assert {row["epoch"] for row in found} == {epoch}
        orders.append([row["example_id"] for row in found])
        assert sorted(orders[-1]) == rows["example_id"][:]
    assert (orders[0] == orders[1] == rows["example_id"][:]) == (strategy == "sequential")
    assert len({*map(tuple, orders)}) == (1 if strategy == "sequential" else 2)


def test_a_run_that_is_resumed_as_it_was_ends_with_the_same_bits(shards, tokenizer):
    trainer = trainer_on(rows_in(shards), tokenizer, "a", max_steps=18)  # of 14 an epoch
    trainer.train()
    resumed = trainer_on(rows_in(shards), tokenizer, "b", max_steps=18)
    resumed.train(resume_from_checkpoint="a/checkpoint-3")
    assert torch.equal(weights(trainer), weights(resumed))


def test_a_run_that_took_values_over_from_the_corpus_is_found_when_it_is_started_again(shards, checkpoint):
    """As `auto` and torchrun's restarts do: recipe.yaml has the corpus's max_length, and the request has none."""
    asked = {"corpus": str(shards), "model": str(checkpoint), "output_dir": "out", "resume_from_checkpoint": "auto"}
    run = prepare(read_config("adapt", asked))
    assert run.config.max_length == 64
    Path("out").mkdir()
    run_folder.begin(Path("out"), run.config.to_recipe())
    for same in ({}, {"max_length": 64}):
        plan = plan_run("adapt", asked | same)
        assert (plan.folder, plan.overwrite) == (Path("out"), True)  # it goes on, here from the beginning
    for other in ({"max_length": 32}, {"seed": 7}):
        with pytest.raises(FileExistsError, match="already holds files that a run would overwrite"):
            plan_run("adapt", asked | other)


def test_another_prepared_corpus_is_another_run(shards, tokenizer, checkpoint):
    trainer_on(rows_in(shards), tokenizer, "a", max_steps=3).train()
    prepare_corpus("quickstart", corpus="meditations", model=str(checkpoint), max_length=64, out="others")
    with pytest.raises(ValueError, match=r"belongs to another run: training text was '\d+ rows, prepared, "):
        trainer_on(rows_in(Path("others")), tokenizer, "b", max_steps=3).train(resume_from_checkpoint="a/checkpoint-3")


def test_a_model_with_another_tokenizer_is_refused(shards, tokenizer, corpus):
    other = train_tokenizer(corpus["train"]["text"], vocab_size=900)
    make_bert(other).save_pretrained("other")
    other.save_pretrained("other")
    with pytest.raises(ValueError, match=r"made by the tokenizer of '.*' \(1,000 tokens\), and that of 'other' \(900 "):
        opened(shards, "other")


def test_a_tokenizer_with_the_same_vocabulary_and_other_rules_is_refused(shards, tokenizer):
    make_bert(tokenizer).save_pretrained("cased")
    tokenizer.save_pretrained("cased")
    path = Path("cased/tokenizer_config.json")
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"do_lower_case": False}), "utf-8")
    with pytest.raises(ValueError, match="gives other ids"):
        opened(shards, "cased")


def test_random_weights_get_the_tokenizer_that_was_learned_when_preparing(short_text):
    prepare_corpus("quickstart", corpus=str(short_text), model="mini-random", vocab_size=300, out="shards")
    run = opened("shards", "mini-random", max_length=None)
    assert len(run.tokenizer) == read_index(Path("shards")).plan["tokenizer"]["tokens"]
    assert run.model.get_input_embeddings().num_embeddings >= len(run.tokenizer)


def test_the_values_of_the_rows_are_taken_over_and_others_refused(shards, checkpoint):
    assert opened(shards, checkpoint, max_length=None).max_length == 64
    with pytest.raises(ValueError, match=r"^max_length: received 32, and '.*' was prepared with 64\. Accepted: 64"):
        opened(shards, checkpoint, max_length=32)
    with pytest.raises(ValueError, match=r"^packing: received True, and"):
        opened(shards, checkpoint, packing=True)


def test_rows_with_words_can_be_masked_by_a_policy_without_words(checkpoint, tmp_path):
    text = tmp_path / "zh.txt"
    text.write_text("".join(f"\u4eba\u751f\u82e6\u77ed and to be content {number}\n" for number in range(60)), "utf-8")
    words = {"masking_policy": "whole_word", "word_segmenter": "jieba"}
    prepare_corpus("quickstart", corpus=str(text), model=str(checkpoint), max_length=64, out="shards", **words)
    assert opened("shards", checkpoint, max_length=None).config.word_segmenter == "none"
    assert opened("shards", checkpoint, masking_policy="span").config.word_segmenter == "jieba"


def test_the_command_that_prepare_prints_trains(short_text, checkpoint, tmp_path):
    (tmp_path / "words.txt").write_text("hegemonikon\n")
    for values in (
        {"model": str(checkpoint), "add_tokens": str(tmp_path / "words.txt")},
        {"model": str(checkpoint), "extend_positions": 256},
        {"model": str(checkpoint), "from_scratch": True, "vocab_size": 300},
    ):
        folder = tmp_path / next(reversed(values))
        command = str(prepare_corpus("quickstart", corpus=str(short_text), out=folder, **values)).split("train ")[-1]
        given = parse_arguments(shlex.split(command))
        run = prepare(read_config("quickstart", {**SHORT, "max_length": None, **given}))
        assert len(run.tokenizer) == read_index(folder).plan["tokenizer"]["tokens"]
        assert run.max_length == values.get("extend_positions", 128)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"streaming": True, "max_steps": 2}, "streaming: received true with"),
        ({"mix": "general=0.1"}, "mix: received"),
        ({"validation_corpus": "meditations"}, "validation_corpus: received 'meditations' with"),
        ({"deduplicate": "exact"}, "deduplicate: received 'exact' with"),
    ],
)
def test_what_was_decided_before_is_refused_by_name(shards, checkpoint, values, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        opened(shards, checkpoint, **values)


def test_grouping_by_length_is_refused(shards, tokenizer):
    with pytest.raises(ValueError, match=r"^train_sampling_strategy: received 'group_by_length' with a prepared"):
        trainer_on(rows_in(shards), tokenizer, train_sampling_strategy="group_by_length")


@pytest.mark.parametrize("policy", ["whole_word", "span", "informative"])
def test_policies_that_need_more_than_ids_work(shards, tokenizer, policy):
    trainer = trainer_on(rows_in(shards), tokenizer, masking_policy=policy, max_steps=2, save_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 2


def test_informative_weights_are_those_of_the_rows(shards, tokenizer):
    values = {"masking_policy": "informative"}
    of_index = trainer_on(rows_in(shards), tokenizer, **values).masking_values()["token_weights"]
    plain = rows_in(shards).select(range(len(rows_in(shards))))
    assert not isinstance(plain, PreparedRows)
    assert np.array_equal(of_index, trainer_on(plain, tokenizer, **values).masking_values()["token_weights"])


def test_a_scheduled_share_follows_the_steps(shards, tokenizer):
    schedule = {"mlm_probability": 0.4, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.1}
    trainer = trainer_on(rows_in(shards), tokenizer, max_steps=3, save_strategy="no", logging_steps=1, **schedule)
    trainer.train()
    shares = [log["mlm_probability"] for log in trainer.state.log_history if "mlm_probability" in log]
    assert shares == sorted(shares, reverse=True)
    assert len({*shares}) == 3


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_with_a_schedule_a_resumed_run_passes_over_ranges_and_ends_with_the_same_bits(shards, tokenizer, workers):
    schedule = {"mlm_probability": 0.6, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.1}
    values = schedule | {"max_steps": 18, "dataloader_num_workers": workers}  # of 14 an epoch
    found = {}

    def trained(folder, **given):
        trainer = trainer_on(rows_in(shards), tokenizer, folder, **values)
        collate, loader = trainer.data_collator, trainer.get_train_dataloader
        shares = found[folder] = []

        def noted():
            made = loader()
            made.base_dataloader.collate_fn = lambda rows: collate(rows) | {"noted": rows[0]["mlm_probability"]}
            assert isinstance(next(iter(made.batch_sampler)), range)
            return made

        def step(model, inputs, *rest, **more):
            shares.append(inputs.pop("noted"))
            return MLMTrainer.training_step(trainer, model, inputs, *rest, **more)

        trainer.get_train_dataloader, trainer.training_step = noted, step
        trainer.train(**given)
        return trainer

    whole, resumed = trained("a"), trained("b", resume_from_checkpoint="a/checkpoint-3")
    assert found["a"] == pytest.approx([0.6 - 0.5 * step / 17 for step in range(18)])
    assert found["b"] == found["a"][3:]
    assert torch.equal(weights(whole), weights(resumed))


def test_a_corpus_elsewhere_is_copied_once_and_checked(shards, checkpoint):
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/bucket/shards", recursive=True)
    run = opened("memory://bucket/shards", checkpoint)
    assert run.train_rows["input_ids"][:] == rows_in(shards)["input_ids"][:]
    assert run.config.corpus == run.facts["source"] == "memory://bucket/shards"
    for path in memory.find("/bucket/shards"):
        if path.endswith(".arrow"):
            memory.rm(path)  # they are in the cache
    assert len(opened("memory://bucket/shards", checkpoint).train_rows) == len(run.train_rows)


def test_a_corpus_elsewhere_that_was_changed_is_refused(shards, checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    index = json.loads((copy / "index.json").read_text("utf-8"))
    index["shards"][0]["sha256"] = "0" * 64  # another corpus, so nothing is in the cache
    (copy / "index.json").write_text(json.dumps(index), "utf-8")
    fsspec.filesystem("memory").put(str(copy), "/changed", recursive=True)
    with pytest.raises(ValueError, match=r"was fetched, but its sha256 is [0-9a-f]{64}\. Accepted: 0{64}"):
        opened("memory://changed", checkpoint)


@pytest.mark.parametrize("name", ["../../escaped.arrow", "/tmp/escaped.arrow", "shard.pkl", 3])
def test_an_index_cannot_name_files_elsewhere(shards, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    index = json.loads((copy / "index.json").read_text("utf-8"))
    index["shards"][0]["file"] = name
    (copy / "index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(ValueError, match="it lists a shard called"):
        read_index(copy)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://nothing/there", "cannot be fetched \\(there is no such file\\)"),
        ("lorem://ipsum/dolor", "cannot be opened: Protocol not known: lorem"),
    ],
)
def test_an_address_without_a_prepared_corpus_is_refused(checkpoint, name, said):
    with pytest.raises(ValueError, match=said):
        opened(name, checkpoint)


def test_the_lowest_positions_of_a_model_hold(shards, tokenizer):
    rows, index = rows_in(shards), read_index(shards)
    rows.index = replace(index, shards=tuple({**shard, "longest": 200} for shard in index.shards))
    with pytest.raises(ValueError, match="the prepared rows have up to 200 tokens"):
        trainer_on(rows, tokenizer).identity()
