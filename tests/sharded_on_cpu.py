"""FSDP2 in several processes on a CPU, for tests: torchrun --nproc_per_node 2 sharded_on_cpu.py FOLDER JOBS."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from conftest import make_bert, make_model
from cpus_as_accelerators import as_if_on_accelerators
from same_run import PROPORTIONAL_STEPS
from small_run import NUMBERED
from transformers import AlbertConfig, AlbertForMaskedLM, set_seed
from two_processes import rows_and_tokenizer

from mlm_recipes import MLMConfig, MLMTrainer
from mlm_recipes.model.sharded_weights import weights_of
from mlm_recipes.training.distributed.processes import leave_process_group

STEPS = 4


def model_of(name):
    """Return a tiny model with dropout off, always with the same weights."""
    tokenizer = rows_and_tokenizer()[1]
    if name == "narrow":
        return make_bert(tokenizer, intermediate_size=2)
    if name == "albert":
        size = {"embedding_size": 16, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        set_seed(0)
        return AlbertForMaskedLM(
            AlbertConfig(vocab_size=len(tokenizer), num_hidden_layers=3, max_position_embeddings=128, **size)
        )
    return make_model(name if name in ("modernbert", "mpnet") else "bert", tokenizer)


def run(folder, architecture="bert", fsdp=False, resume=None, disturbed=False, **values):
    """Train a tiny model; return its losses and gradient norms, its weights in one row, and its loss afterwards."""
    tokenizer = rows_and_tokenizer()[1]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    model = model_of(architecture)
    if disturbed and os.environ.get("RANK") == "1":  # as a caller's own initialisation might
        torch.nn.init.normal_(model.get_input_embeddings().weight)
    args = MLMConfig(
        **{
            "output_dir": str(folder), "max_steps": STEPS, "per_device_train_batch_size": 8 // processes, "seed": 1,
            "mlm_probability": 0.4, "use_cpu": True, "bf16": False, "disable_tqdm": True, "save_steps": 2,
            "fsdp": fsdp or None, **PROPORTIONAL_STEPS,
        } | values,
    )  # fmt: skip
    trainer = MLMTrainer(
        model, args=args, train_dataset=NUMBERED, eval_dataset=NUMBERED[:5], processing_class=tokenizer
    )
    trainer.train(resume_from_checkpoint=resume)
    measured = float(trainer.token_results(NUMBERED[:5]).nats.mean())
    logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
    weights = weights_of(trainer.model, keep=True)
    named = [weights[name] for name, _ in model.named_parameters()]
    return logged, torch.cat([weight.flatten() for weight in named]), measured


def main(folder: Path, jobs: dict[str, dict]) -> None:
    as_if_on_accelerators()
    found = {name: run(folder / name, **values) for name, values in jobs.items()}
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(found, folder / "found.pt")
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
