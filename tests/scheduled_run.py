"""Runs with a schedule of the masked share, for one process and several: torchrun ... scheduled_run.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from conftest import make_bert
from datasets import IterableDataset
from same_run import flat_weights

from mlm_recipes import MLMConfig, MLMTrainer, load_corpus, train_tokenizer
from mlm_recipes.training.distributed.processes import gathered, leave_process_group

#: Of 21 rows in steps of eight, an epoch has three steps, of eight, eight and five rows.
ROWS, A_STEP, STEPS, TOKENS = 21, 8, 8, 60

SCHEDULE = {"mlm_probability": 0.5, "mlm_probability_schedule": "linear", "mlm_probability_end": 0.1}


def make_rows():
    """Rows of ordinary tokens that can all be masked; a row's first token is its number."""
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": [200 + n, *torch.randint(300, 900, (TOKENS - 1,), generator=generator).tolist()], "example_id": n}
        for n in range(ROWS)
    ]


#: Blocks of a stream that do not end where a step ends.
STREAM = {"stream_buffer": 7, "max_length": TOKENS}


def stream():
    return IterableDataset.from_generator(make_rows)


class Recording(MLMTrainer):
    """Records of each step which rows it has, and which of their tokens are masked."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        labels, ids = inputs["labels"].reshape(-1, TOKENS), inputs["input_ids"].reshape(-1, TOKENS)
        found = self.__dict__.setdefault("masks", {}).setdefault(self.state.global_step, [])
        for row, masked in zip(ids, labels, strict=True):
            whole = torch.where(masked == -100, row, masked)
            found.append((int(whole[0]) - 200, (masked != -100).nonzero().flatten().tolist()))
        return super().training_step(model, inputs, num_items_in_batch)


def tokenizer_of_run():
    return train_tokenizer(load_corpus("meditations")["train"]["text"], vocab_size=1000)


def run(tokenizer, layout=(A_STEP, 1), folder=None, resume=None, rows=None, model=None, callbacks=None, **changes):
    """Train; return the trainer and, for each step of all processes, the sorted rows with their masked positions."""
    values = {
        "output_dir": str(folder or "unused"), "save_strategy": "steps" if folder else "no", "save_steps": 1,
        "per_device_train_batch_size": layout[0], "gradient_accumulation_steps": layout[1], "max_steps": STEPS,
        "learning_rate": 1e-3, "seed": 1, "use_cpu": True, "disable_tqdm": True, "logging_steps": 1,
        "ddp_find_unused_parameters": False, **SCHEDULE,
    }  # fmt: skip
    model = make_bert(tokenizer, hidden_dropout_prob=0.1) if model is None else model
    rows = make_rows() if rows is None else rows
    args = MLMConfig(**(values | changes))
    trainer = Recording(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    steps: dict[int, list] = {}
    for each in gathered([trainer.masks]):
        for part in each:
            for step, found in part.items():
                steps.setdefault(step, []).extend(found)
    return trainer, {step: sorted(found) for step, found in steps.items()}


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if "learning_rate" in entry]


def main(folder: Path) -> None:
    tokenizer = tokenizer_of_run()
    batch = A_STEP // torch.distributed.get_world_size()
    trainer, masks = run(tokenizer, (batch, 1), folder / "whole")
    found = {"masks": masks, "shares": logged(trainer, "mlm_probability"), "resumed": []}
    whole = flat_weights(trainer.model)
    for step, workers in ((2, 0), (3, 0), (4, 2)):
        trainer, masks = run(
            tokenizer, (batch, 1), resume=folder / f"whole/checkpoint-{step}", dataloader_num_workers=workers
        )
        found["resumed"].append((step, masks, torch.equal(flat_weights(trainer.model), whole)))
    found["streamed"] = run(tokenizer, (batch, 1), rows=stream(), **STREAM)[1]
    torch.save(found, folder / f"found-{torch.distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    MLMConfig()  # joins the process group
    main(Path(sys.argv[1]))
