"""A stream loses no example, reads each once, and gives the same run for any layout, interrupted or not."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from unittest import mock

import metrics_schema
import pytest
import torch
from conftest import ROOT, make_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from launched import found_by_each, run_together
from same_run import assert_same_run
from stream_processes import BATCH, BUFFER, PARAGRAPHS, STEPS, Reader, texts_and_tokenizer, train
from transformers import DataCollatorForLanguageModeling

import mlm_recipes
from mlm_recipes import MLMConfig, MLMTrainer, TextStream, evaluate, load_corpus, reference, tokenize, verify
from mlm_recipes.data.corpus import load_paragraphs
from mlm_recipes.data.corpus_name import resolve
from mlm_recipes.data.paragraphs import stream_paragraphs
from mlm_recipes.data.streams import START, HeldOut, blocks, rows_of
from mlm_recipes.recipes.prepare import prepare
from mlm_recipes.training import trainer
from mlm_recipes.training.batches import streamed_rows
from mlm_recipes.training.batches.example_order import EpochSampler
from mlm_recipes.training.batches.streamed_rows import StreamedRows, StreamState


@pytest.fixture(scope="module")
def data():
    return texts_and_tokenizer()


# Blocks


def numbers(texts):
    """Replaces a tokenizer: a text has one row more than the last digit of its number in base three."""
    return [{"input_ids": [int(text), part]} for text in texts for part in range(1 + int(text) % 3)]


def stream_of(count, held_out=()):
    return TextStream(Reader([str(number) for number in range(count)]), HeldOut(texts=[str(i) for i in held_out]))


@st.composite
def streams(draw):
    count = draw(st.integers(1, 30))
    held_out = draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    return count, held_out, draw(st.integers(1, 35)), draw(st.integers(0, 3)), draw(st.booleans())


@settings(deadline=None)
@given(streams())
def test_two_epochs_have_each_row_once_with_any_blocks(given_stream):
    count, held_out, size, seed, shuffle = given_stream
    expected = [row["input_ids"] for row in numbers([i for i in range(count) if i not in held_out])]
    found = blocks(stream_of(count, held_out), numbers, size=size, seed=seed, shuffle=shuffle)
    seen, position = [], 0
    while len(seen) < 2 * len(expected):
        place, rows = next(found)
        assert place.position == position
        assert {row["epoch"] for row in rows} <= {place.epoch}
        assert [row["input_ids"][0] // size for row in rows] == [place.texts // size] * len(
            rows
        )  # shuffled only within a block
        if not shuffle:
            assert [row["example_id"] for row in rows] == list(range(place.rows, place.rows + len(rows)))
        seen += rows
        position += len(rows)
    for epoch in (0, 1):
        by_id = {row["example_id"]: row["input_ids"] for row in seen if row["epoch"] == epoch}
        assert [by_id[i] for i in range(len(expected))] == expected
    assert len(seen) == 2 * len(expected)


@settings(deadline=None)
@given(streams(), st.integers(0, 80), st.integers(1, 9))
def test_rows_from_any_position_equal_those_of_the_whole_run(given_stream, position, batch):
    count, held_out, size, seed, shuffle = given_stream

    def make(tokenized, known=START):
        def to_rows(texts):
            tokenized.append(texts)
            return numbers(texts)

        stream = stream_of(count, held_out)
        return StreamedRows(
            lambda place: blocks(stream, to_rows, size=size, seed=seed, shuffle=shuffle, start=place), 100, 1, known
        )

    whole, tokenized = make([]), []
    expected = [row for first in range(0, position + 20, 5) for row in whole.__getitems__(range(first, first + 5))]
    place = whole.place(position)
    resumed = make(tokenized, place)
    found = [
        row for i in range(2) for row in resumed.__getitems__(range(position + i * batch, position + (i + 1) * batch))
    ]
    assert found == expected[position : position + 2 * batch]
    # At most one block of the rows before, one that is half used, and one that is prepared ahead.
    assert sum(map(len, tokenized)) <= size + 2 * batch + 2 * size
    assert resumed.place(position).position <= position
    assert resumed.place(position)[:2] >= place[:2]


@settings(deadline=None)
@given(streams(), st.integers(1, 8), st.integers(1, 5))
def test_the_rows_of_a_step_are_the_same_for_any_number_of_processes_and_read_once(given_stream, processes, batch):
    count, held_out, size, seed, shuffle = given_stream

    def make(stream, number):
        return StreamedRows(
            lambda place: blocks(stream, numbers, size=size, seed=seed, shuffle=shuffle, start=place), 200, number
        )

    expected = make(stream_of(count, held_out), 1).__getitems__(range(4 * processes * batch))
    stream, dealt = stream_of(count, held_out), []
    shared = make(stream, processes)

    def deal(shares):
        assert [len(rows) for _, rows in shares] == [batch] * processes
        dealt.extend(row for _, rows in shares for row in rows)
        return shares[0]

    with mock.patch.object(streamed_rows, "dealt_by_main", lambda share: deal(share())):
        for turn in range(4):
            first = turn * processes * batch
            assert shared.__getitems__(range(first, first + batch)) == expected[first : first + batch]
    assert dealt == expected
    *epochs, last = stream.read.read
    assert epochs == [count] * len(epochs)
    assert last <= count


def test_a_block_as_large_as_the_text_has_an_ordinary_epochs_order():
    found = blocks(stream_of(50), lambda texts: [{"input_ids": [int(text)]} for text in texts], size=50, seed=3)
    sampler = EpochSampler(50, seed=3)
    for epoch, (_, rows) in enumerate(itertools.islice(found, 3)):
        sampler.set_epoch(epoch)
        assert [50 * epoch + row["input_ids"][0] for row in rows] == list(sampler)


def test_a_stream_without_a_paragraph_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="none of the stream's 2 paragraphs is left to train on"):
        next(blocks(stream_of(2, {0, 1}), numbers, size=1, seed=0, start=START._replace(texts=2)))
    with pytest.raises(ValueError, match="none of the stream's 0 paragraphs"):
        next(blocks(stream_of(0), numbers, size=1, seed=0))


def test_a_text_that_has_become_shorter_is_an_error():
    with pytest.raises(ValueError, match=r"ends after 5 paragraphs, but the checkpoint was saved after 6"):
        next(blocks(stream_of(5), numbers, size=2, seed=0, start=START._replace(texts=6, rows=8, position=8)))


def test_the_rows_equal_those_of_tokenize_and_nothing_is_written(data, tmp_path):
    texts, tokenizer = data
    for row, expected in zip(
        rows_of(texts, tokenizer, 16),
        tokenize(load_text(tmp_path, texts), tokenizer, 16),
        strict=True,
    ):
        assert row["input_ids"].tolist() == expected["input_ids"]
        assert row["special_tokens_mask"].tolist() == expected["special_tokens_mask"]


# Held-out paragraphs


def load_text(folder, texts):
    path = folder / "text.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return load_paragraphs(resolve(str(path)))


def test_held_out_paragraphs_depend_only_on_their_text_and_duplicates_share_a_side(data):
    texts, _ = data
    rule = HeldOut(0.3, seed=5)
    held_out = dict(zip(texts, rule(texts).tolist(), strict=True))
    assert 4 <= sum(held_out.values()) <= 20
    variants = [f"  {text.upper()} " for text in reversed(texts)]
    assert rule(variants).tolist() == [held_out[text] for text in reversed(texts)]
    assert HeldOut(0.3, seed=6)(texts).tolist() != rule(texts).tolist()
    assert not HeldOut()(texts).any()
    assert TextStream(lambda: texts, rule).first() == [text for text in texts if not held_out[text]]
    assert rule.choose(texts) == [text for text in texts if held_out[text]]


def test_a_stream_holds_out_the_same_paragraphs_as_load_corpus(data):
    """Both hold out paragraphs with the lowest keys: load_corpus a fixed number, a stream those below a threshold."""
    texts = load_corpus("meditations", seed=7)["validation"]["text"]
    read = stream_paragraphs(resolve("meditations", for_streaming=True))
    for fraction, contains in ((0.05, set.issuperset), (0.2, set.issubset)):
        assert contains(set(texts), set(HeldOut(fraction, seed=7).choose(read())))


def test_choosing_reads_no_further_than_necessary():
    reader = Reader([str(number) for number in range(50_000)])
    assert len(HeldOut(0.5).choose(reader(), at_most=100)) == 100
    assert reader.read == [1000]


def test_a_text_too_small_to_hold_anything_out_is_an_error():
    with pytest.raises(ValueError, match=r"validation_fraction: with 0\.01 no paragraph of the stream is held out"):
        HeldOut(0.01).choose(["to be", "or not"])


# Training


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["sequential", "random"])
def test_a_streamed_run_equals_one_that_reads_the_whole_text(data, strategy):
    """In the text's order with any blocks, or shuffled in one. 40 paragraphs in steps of ten: two epochs and a step."""
    texts, tokenizer = data
    values = {"train_sampling_strategy": strategy, "per_device_train_batch_size": 10, "max_steps": STEPS, "seed": 1,
              "learning_rate": 1e-3, "max_length": 48, "save_strategy": "no", "long_text": "truncate"}  # fmt: skip
    size = {"sequential": 7, "random": 100}[strategy]
    found = []
    for streamed in (False, True):
        model = make_bert(tokenizer, hidden_dropout_prob=0.1)
        given_texts = TextStream(lambda: texts) if streamed else texts
        args = MLMConfig(streaming=streamed, stream_buffer=size, **values)
        mlm = MLMTrainer(model, args=args, train_dataset=given_texts, processing_class=tokenizer)
        mlm.train()
        losses = [entry["loss"] for entry in mlm.state.log_history if "loss" in entry]
        found.append((losses, [parameter.detach() for parameter in model.parameters()]))
    assert found[0][0] == found[1][0]
    assert len(found[0][0]) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_each_paragraph_is_read_once_per_epoch(data):
    reader = Reader(data[0])
    _, _, epochs = train(*data, reader=reader)
    assert epochs == 2
    fingerprint, *whole, last = reader.read
    assert whole == [PARAGRAPHS] * 2
    assert last < PARAGRAPHS  # of the epoch that had started, only the paragraphs needed
    assert fingerprint <= 1000


@pytest.mark.slow
def test_accumulation_changes_nothing(data):
    whole = train(*data)
    assert_same_run(train(*data, (4, 3))[:2], whole[:2], make_bert(data[1]), STEPS)


@pytest.mark.slow
def test_a_stream_resumed_at_any_step_ends_with_the_same_bits(data, tmp_path):
    """Within a block, and across blocks and epochs; with packing, a block's rows and texts differ in number."""

    def with_dropout(**values):
        return train(*data, model=make_bert(data[1], hidden_dropout_prob=0.1), packing=True, **values)

    whole = with_dropout(folder=tmp_path)
    places = [StreamState.saved_in(tmp_path / f"checkpoint-{step}") for step in range(1, STEPS + 1)]
    assert {place.epoch for place in places} >= {0, 1, 2}
    assert any(place.rows != place.texts for place in places)
    for step in range(1, STEPS + 1):
        logged, weights, epochs = with_dropout(resume=tmp_path / f"checkpoint-{step}")
        if step < STEPS:
            assert logged == whole[0], step
            assert epochs == whole[2]
        assert torch.equal(weights, whole[1]), step


@pytest.mark.slow
def test_a_resumed_run_does_not_tokenize_earlier_blocks(data, tmp_path, monkeypatch):
    """The rows would be the same if the run started over, so the tests above cannot detect that."""
    train(*data, folder=tmp_path)
    texts, tokenizer = data
    stream = TextStream(lambda: texts, HeldOut(0.2))
    made = blocks(stream, lambda part: rows_of(part, tokenizer, 48), size=BUFFER, seed=1)
    begins = [place for place, _ in itertools.takewhile(lambda block: block[0].position <= STEPS * BATCH, made)]
    for step in range(1, STEPS + 1):
        saved = StreamState.saved_in(tmp_path / f"checkpoint-{step}")
        assert saved == max(
            (place for place in begins if place.position <= step * BATCH), key=lambda place: place.position
        )
    tokenized = []

    def counted(part, *rest, **how):
        tokenized.append(len(part))
        return rows_of(part, *rest, **how)

    monkeypatch.setattr(trainer, "rows_of", counted)
    train(*data, resume=tmp_path / "checkpoint-8")
    fingerprint, *parts = tokenized
    assert fingerprint == len(stream.first())
    assert sum(parts) <= BATCH + 2 * BUFFER


@pytest.mark.slow
def test_a_resumed_run_can_be_resumed_again(data, tmp_path):
    """A second interruption: the resumed run's checkpoint can be resumed like the first run's."""
    whole = train(*data, folder=tmp_path / "whole")
    train(*data, folder=tmp_path / "again", resume=tmp_path / "whole/checkpoint-2")
    for step in (4,):
        saved = [StreamState.saved_in(tmp_path / name / f"checkpoint-{step}") for name in ("whole", "again")]
        assert saved[0] == saved[1]
        assert torch.equal(train(*data, resume=tmp_path / f"again/checkpoint-{step}")[1], whole[1])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stream_buffer": 8}, "stream_buffer was 7 and is now 8"),
        ({"max_length": 40}, "max_length was 48 and is now 40, training text was"),
        ({"data_seed": 3}, "data_seed was None and is now 3"),
        ({"texts": 1}, "training text was 'a stream that begins with"),
    ],
)
def test_a_different_stream_belongs_to_another_run(data, tmp_path, changes, says):
    train(*data, folder=tmp_path, max_steps=1)
    texts = data[0][changes.pop("texts", 0) :]
    with pytest.raises(ValueError, match=f"belongs to another run: .*{says}"):
        train(texts, data[1], folder=tmp_path, resume=True, max_steps=1, **changes)


def test_a_different_collator_gets_plain_rows(data):
    texts, tokenizer = data
    args = MLMConfig(streaming=True, max_steps=2, per_device_train_batch_size=4, save_strategy="no")
    mlm = MLMTrainer(
        make_bert(tokenizer), args=args, train_dataset=TextStream(lambda: texts), processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer),
    )  # fmt: skip
    assert mlm.train().global_step == 2


def test_a_tokenizer_is_trained_on_the_first_paragraphs(data):
    texts, _ = data
    args = MLMConfig(streaming=True, max_steps=1, vocab_size=300, save_strategy="no")
    mlm = MLMTrainer("mini-random", args=args, train_dataset=TextStream(lambda: texts * 2, HeldOut(texts=texts[1:])))
    assert mlm.processing_class.tokenize(texts[0])
    assert set(mlm.processing_class.tokenize(texts[0])) <= set(mlm.processing_class.get_vocab())
    assert len(mlm.processing_class) < 300  # two of the same paragraph


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"stream_buffer": 0}, "stream_buffer: received 0"),
        ({"train_sampling_strategy": "group_by_length"}, "received 'group_by_length' with streaming"),
        ({"deduplicate": "exact"}, "deduplicate: received 'exact' with streaming"),
        ({"dataloader_num_workers": 2}, r"dataloader_num_workers: received 2 with streaming\. Accepted: 0"),
    ],
)
def test_values_that_streaming_does_not_support_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        MLMConfig(streaming=True, **values)


def test_a_stream_and_the_config_must_agree(data):
    texts, tokenizer = data
    for streamed, rows, values, says in (
        (True, texts, {}, r"received Dataset with streaming True\. Accepted: a TextStream"),
        (False, TextStream(lambda: texts), {}, "received TextStream with streaming False"),
        (
            True,
            TextStream(lambda: texts),
            {"save_strategy": "epoch"},
            r"save_strategy: received 'epoch' with streaming",
        ),
        (
            True,
            TextStream(lambda: texts),
            {"max_steps": -1},
            r"max_steps: received -1 with streaming\. Accepted: 1 or more",
        ),
    ):
        args = MLMConfig(**({"streaming": streamed, "max_steps": 1} | values))
        with pytest.raises(ValueError, match=says):
            MLMTrainer(make_bert(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer)


# The recipes


@pytest.mark.slow
def test_a_complete_streamed_run(checkpoint, short_text, tmp_path):
    values = {
        "corpus": str(short_text), "model": str(checkpoint), "streaming": True, "stream_buffer": 8, "max_steps": 3,
        "per_device_train_batch_size": 4, "output_dir": str(tmp_path / "run"), "use_cpu": True, "max_length": 64,
    }  # fmt: skip
    result = mlm_recipes.train("quickstart", **values)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    metrics_schema.check(metrics)
    facts = metrics["corpus"]
    assert facts["streamed"] is True
    assert facts["name"] == "notes"
    assert 0 < facts["validation"] < 60
    assert metrics["train"]["epochs"] == 0
    assert metrics["gain"]["paragraphs"] <= facts["validation"]
    assert set(facts["word_frequencies"]) == {"loss", "accuracy"}
    for name in ("report.html", "README.md"):
        assert "stream" in (tmp_path / "run" / name).read_text()
    assert "held-out loss" in str(result) or "No measurable change" in str(result)
    again = evaluate(tmp_path / "run", corpus=str(short_text))
    assert again.metrics["evaluation"]["loss"] == metrics["after"]["loss"]  # the same batches in the same process


@pytest.mark.parametrize("name", ["held_out.txt", "-"])
def test_a_separate_text_is_held_out_of_a_stream(checkpoint, short_text, tmp_path, monkeypatch, name):
    held_out = tmp_path / "held_out.txt"
    lines = short_text.read_text("utf-8").splitlines()
    held_out.write_text("\n".join(lines[:9]), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(held_out.read_bytes())))
    config = MLMConfig(
        corpus=str(short_text), validation_corpus=name, model=str(checkpoint), streaming=True, use_cpu=True,
    )  # fmt: skip
    run = prepare(config)
    assert len(run.measured.held_out.rows) == 9
    assert run.train_rows.first() == lines[9:]
    assert "notes: read as a stream; 9 held out." in run.announcement()
    facts = run.facts["validation_corpus"]
    assert facts["name"] == ("stdin" if name == "-" else "held_out")
    assert Path(facts["source"]).read_bytes() == held_out.read_bytes()  # the name in recipe.yaml, to repeat the run


def test_verbs_that_cannot_stream_refuse():
    with pytest.raises(ValueError, match="verify: received streaming True"):
        verify("quickstart", streaming=True)
    with pytest.raises(ValueError, match=r"streaming: received True\. Accepted here: False"):
        reference("tutorial", streaming=True)


# Several processes


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The run of one process, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("alone")
    return train(*data, folder=folder), folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_equal_one_and_only_one_reads(data, alone, tmp_path, processes):
    (whole, folder), begun = alone, make_bert(data[1])
    (tmp_path / "one").symlink_to(folder)
    run_together(processes, ROOT / "tests/stream_processes.py", tmp_path, timeout=900)
    found = found_by_each(processes, tmp_path)
    for rank, each in enumerate(found):
        assert_same_run(each["plain"][:2], whole[:2], begun, STEPS)
        assert_same_run(each["finished"][:2], whole[:2], begun, STEPS)
        assert torch.equal(each["plain"][1], found[0]["plain"][1])
        for resumed in each["resumed"].values():
            assert_same_run(resumed[:2], each["whole"][:2], begun, STEPS)
            # The sum of three gradients depends on DDP's buckets, which change while the process runs.
            if processes == 2:
                assert resumed[0] == each["whole"][0]
                assert torch.equal(resumed[1], each["whole"][1])
        assert len(each["resumed"]) == 2
        kind = "OSError" if rank == 0 else "ValueError"
        assert each["broken"] == [f"{kind}: the main process cannot read on"] * 2
    _fingerprint, *epochs, last = found[0]["read"]
    assert epochs == [PARAGRAPHS] * 2
    assert last < PARAGRAPHS
    assert [each["read"] for each in found[1:]] == [[]] * (processes - 1)
    finished = train(*data, resume=tmp_path / "several/checkpoint-5")
    assert_same_run(finished[:2], whole[:2], begun, STEPS)


def test_the_compared_run_crosses_blocks_and_epochs(alone):
    """Otherwise the tests above would compare trivial runs."""
    (logged, _, epochs), folder = alone
    assert len(logged) == STEPS
    assert epochs == 2
    places = [StreamState.saved_in(folder / f"checkpoint-{step}") for step in range(1, STEPS + 1)]
    assert len(set(places)) >= 6
    assert any(place.position % BATCH for place in places), "no block ends within a step"
    assert BUFFER < BATCH


def test_copies_in_a_stream_are_measured_once(tmp_path, checkpoint):
    """The limit is of distinct paragraphs; and the first lines say how many copies there are."""
    lines = [
        f"the {word} of man and the whole of nature" for word in ("soul", "mind", "reason", "body", "life", "work")
    ]
    distinct = [f"{line} {'and so ' * n}".strip() for n in range(20) for line in lines]
    held_out = HeldOut(0.5, seed=0)
    line = next(text for text in distinct if held_out([text])[0])
    (tmp_path / "stream.txt").write_text("\n".join([*[line] * 300, *distinct, *[line.upper()] * 9]))
    values = {"corpus": "stream.txt", "validation_fraction": 0.5, "max_steps": 1, "general_corpus": "none"}
    run = prepare(MLMConfig(model=str(checkpoint), streaming=True, max_eval_samples=40, **values))
    held = run.corpus["validation"]["text"][:]
    assert len(held) == len(set(held)) == run.facts["validation"] == 40
    assert run.facts["held_out_copies"] == 300
    assert "300 copies of held-out ones" in run.announcement()
    assert list(HeldOut(texts=["one"]).choose(["one"] * 500, at_most=3)) == ["one"] * 30  # and no further
