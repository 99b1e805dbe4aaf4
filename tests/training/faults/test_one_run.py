"""One training at a time in a process."""

from __future__ import annotations

import threading

import pytest
import torch
from small_run import NUMBERED, At, make_trainer, weights

from mlm_recipes import train


def test_a_second_thread_may_not_train_until_the_first_is_done(tokenizer):
    whole = make_trainer(tokenizer, NUMBERED, "whole")
    whole.train()
    begun, go_on = threading.Event(), threading.Event()

    def wait(model):
        begun.set()
        assert go_on.wait(60)

    first = make_trainer(tokenizer, NUMBERED, "first", callback=At(2, wait))
    second = make_trainer(tokenizer, NUMBERED, "second")
    thread = threading.Thread(target=first.train, name="nightly")
    thread.start()
    assert begun.wait(60)
    try:
        with pytest.raises(ValueError, match=r"another run is going on .* in the thread 'nightly'\. Accepted: one"):
            second.train()
        with pytest.raises(ValueError, match="another run is going on"):
            train(corpus="there is no such file")
    finally:
        go_on.set()
        thread.join()
    assert torch.equal(weights(first), weights(whole))
    second.train()
    assert torch.equal(weights(second), weights(whole))
