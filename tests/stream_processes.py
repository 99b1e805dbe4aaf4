"""What tests/test_streaming.py runs in several processes: torchrun --nproc_per_node N stream_processes.py FOLDER."""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import torch
from conftest import make_bert
from same_run import PROPORTIONAL_STEPS, flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, TextStream, load_corpus, train_tokenizer
from mlm_recipes.data.streams import HeldOut
from mlm_recipes.training.distributed.processes import leave_process_group

UNUSED = Path(tempfile.gettempdir()) / "unused"
#: Of 40 paragraphs in blocks of 7 some are held out, some give several rows; the nine steps go into the third epoch.
PARAGRAPHS, BUFFER, BATCH, STEPS = 40, 7, 12, 9


class Reader:
    """Yields paragraphs, and counts for each time it is opened how many were read."""

    def __init__(self, texts):
        self.texts, self.read = texts, []

    def __call__(self):
        self.read.append(0)
        for text in self.texts:
            self.read[-1] += 1
            yield text


def texts_and_tokenizer():
    texts = [" ".join(text.split()[:25]) for text in load_corpus("meditations")["train"]["text"][:PARAGRAPHS]]
    return texts, train_tokenizer(texts, vocab_size=400)


def train(texts, tokenizer, layout=(BATCH, 1), folder=None, resume=None, model=None, reader=None, **changes):
    """Train on a stream; return the losses and gradient norms, the weights in one row, and how often the text ended."""
    values = {
        "max_steps": STEPS, "per_device_train_batch_size": layout[0], "gradient_accumulation_steps": layout[1],
        "seed": 1, "disable_tqdm": True, "ddp_find_unused_parameters": False, "max_length": 48, **PROPORTIONAL_STEPS,
        "output_dir": str(folder or UNUSED), "save_strategy": "steps" if folder else "no", "save_steps": 1,
        "streaming": True, "stream_buffer": BUFFER,
    }  # fmt: skip
    stream = TextStream(reader or Reader(texts), HeldOut(0.2))
    model = make_bert(tokenizer) if model is None else model
    trainer = MLMTrainer(model, args=MLMConfig(**(values | changes)), train_dataset=stream, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume)
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    return logged, flat_weights(model), trainer.epochs


class Breaks(Reader):
    """Cannot be read to its end: the first time it is opened, when the text is looked at, or then, in training."""

    def __init__(self, texts, time):
        super().__init__(texts)
        self.time = time

    def __call__(self):
        yield from itertools.islice(super().__call__(), 20)
        if len(self.read) == self.time:
            raise OSError("the main process cannot read on")
        yield from self.texts[20:]


def main(folder: Path) -> None:
    texts, tokenizer = texts_and_tokenizer()
    processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    layout = (BATCH // processes, 1)
    found, reader = {}, Reader(texts)
    found["plain"] = train(texts, tokenizer, layout, reader=reader, folder=folder / "several")
    found["read"] = reader.read
    found["finished"] = train(texts, tokenizer, layout, resume=folder / "one/checkpoint-4")

    def with_dropout(**values):
        model = make_bert(tokenizer, hidden_dropout_prob=0.1)
        return train(texts, tokenizer, layout, model=model, packing=True, **values)

    found["whole"] = with_dropout(folder=folder / "whole")
    found["resumed"] = {step: with_dropout(resume=folder / f"whole/checkpoint-{step}") for step in (3, 5)}
    found["broken"] = []
    for time in (1, 2):  # every process says so, none waits for ever
        try:
            train(texts, tokenizer, layout, reader=Breaks(texts, time))
        except (OSError, ValueError) as error:
            found["broken"].append(f"{type(error).__name__}: {error}")
    torch.save(found, folder / f"found-{rank}.pt")
    leave_process_group()


if __name__ == "__main__":
    MLMConfig()  # joins the process group
    main(Path(sys.argv[1]))
