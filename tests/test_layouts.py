"""One process, accumulation, two processes; interrupted or not: the same run. Real processes, started by torchrun."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT, make_model
from launched import found_by_each, run_together
from same_run import assert_close, assert_same_run, loss_bound
from two_processes import ARCHITECTURES, STEPS, WITH_WORKERS, many_parts, rows_and_tokenizer, token_results, train


@pytest.fixture(scope="module", autouse=True)
def _many_parts():
    with many_parts():
        yield


@pytest.fixture(scope="module")
def data():
    return rows_and_tokenizer()


@pytest.fixture(scope="module")
def alone(data):
    """Each architecture, trained in one process without accumulation."""
    return {name: train(*data, make_model(name, data[1]), (8, 1)) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def two(data, tmp_path_factory):
    """What two processes found: each one's results, and the folder of their checkpoints."""
    folder = tmp_path_factory.mktemp("two")
    train(*data, make_model("bert", data[1]), (8, 1), folder=folder / "one")  # for two processes to finish
    return in_two_processes(folder), folder


def in_two_processes(folder, *arguments):
    run_together(2, ROOT / "tests/two_processes.py", folder, *arguments, cwd=folder)
    return found_by_each(2, folder)


@pytest.mark.slow
def test_accumulation_and_two_processes_are_the_run_of_one(data, tmp_path):
    """The short form of what follows, for the default suite."""
    begun, alone = make_model("bert", data[1]), train(*data, make_model("bert", data[1]), (8, 1))
    first, second = in_two_processes(tmp_path, "quickly")
    assert_same_run(train(*data, make_model("bert", data[1]), (4, 2)), alone, begun, STEPS)
    assert_same_run(first, alone, begun, STEPS)
    assert torch.equal(first[1], second[1])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_process_accumulation_and_two_processes_are_one_run(data, alone, two, architecture):
    """1 x 8, 2 x 4 by accumulation, 4 each in two processes: losses, gradient norms and weights."""
    accumulated = train(*data, make_model(architecture, data[1]), (4, 2))
    begun = make_model(architecture, data[1])
    assert_same_run(accumulated, alone[architecture], begun, STEPS)
    for found in two[0]:
        assert_same_run(found["layouts"][architecture], alone[architecture], begun, STEPS)


@pytest.mark.slow
def test_two_processes_hold_the_same_weights(two):
    first, second = two[0]
    for name in ARCHITECTURES:
        assert torch.equal(first["layouts"][name][1], second["layouts"][name][1])


@pytest.mark.slow
def test_two_processes_mask_the_tokens_that_one_finds_informative(data, alone, two):
    begun = make_model("bert", data[1])
    expected = train(*data, make_model("bert", data[1]), (8, 1), masking_policy="informative")
    assert expected[0] != alone["bert"][0]
    for found in two[0]:
        assert_same_run(found["informative"], expected, begun, STEPS)


@pytest.mark.slow
def test_the_same_text_gives_the_same_tokenizer_in_another_process(two, tokenizer):
    for found in two[0]:
        assert found["vocabulary"] == tokenizer.get_vocab()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_two_processes_find_for_each_token_what_one_finds(data, two, architecture):
    """In joined rows and in padded ones; one process has a batch more than the other."""
    expected = token_results(*data, architecture)
    for found in two[0]:
        ours = found["tokens"][architecture]
        assert torch.equal(ours[[0, 1, 2, 4]], expected[[0, 1, 2, 4]])
        assert_close(ours[3], expected[3], loss_bound(make_model(architecture, data[1])))


@pytest.mark.slow
def test_resumed_from_any_step_two_processes_end_with_the_same_bits(two):
    """Dropout 0.1, no workers and two, mid-epoch and at its end."""
    cases = [(step, 0) for step in range(1, STEPS + 1)] + [(step, 2) for step in WITH_WORKERS]
    for found in two[0]:
        assert sorted(found["resumed"]) == sorted(cases)
        for case in cases:
            logged, weights = found["resumed"][case]
            assert logged == found["whole"][0], case
            assert torch.equal(weights, found["whole"][1]), case


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 5, 8])
def test_a_checkpoint_of_one_process_is_finished_by_two_and_the_other_way_round(data, alone, two, step):
    begun = make_model("bert", data[1])
    for found in two[0]:
        assert_same_run(found["finished"][step], alone["bert"], begun, STEPS)
    finished = train(*data, make_model("bert", data[1]), (8, 1), resume=two[1] / f"two/checkpoint-{step}")
    assert_same_run(finished, alone["bert"], begun, STEPS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "persistent", "steps"),
    [
        (0, False, range(1, STEPS + 1)),
        (2, False, WITH_WORKERS),
        (2, True, (1,)),
    ],
    ids=["no-workers", "two-workers", "workers-that-stay"],
)
def test_resumed_from_any_step_one_process_ends_with_the_same_bits(data, tmp_path, workers, persistent, steps):
    def with_dropout(**values):
        return train(*data, make_model("bert", data[1], dropout=0.1), (8, 1), **values)

    whole = with_dropout(folder=tmp_path)
    for step in steps:
        logged, weights = with_dropout(
            resume=tmp_path / f"checkpoint-{step}", dataloader_num_workers=workers,
            dataloader_persistent_workers=persistent,
        )  # fmt: skip
        assert logged == whole[0], step
        assert torch.equal(weights, whole[1]), step
