"""No code in a checkpoint is run when it is read."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from mlm_recipes import MLMTrainer, cli, train
from mlm_recipes.checkpoints.storage import MANIFEST, commit
from mlm_recipes.checkpoints.tensor_files import require_tensors_only

#: Read on a resume; there in a checkpoint, and read by nobody.
READ = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "pytorch_model.bin")
FILES = (*READ, "training_args.bin")


class Canary:
    """Writes a file when it is unpickled without the check."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def by_torch(path):
    file = io.BytesIO()
    torch.save({"state": Canary(path)}, file)
    return file.getvalue()


def by_pickle(path):
    import pickle

    return pickle.dumps(Canary(path))


def replace_file(checkpoint, name, content):
    """Put a file into a checkpoint as if it had been saved there, with an entry in the manifest."""
    staged = checkpoint.with_name("staged")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(checkpoint, staged, ignore=shutil.ignore_patterns(MANIFEST))
    (staged / name).write_bytes(content)
    shutil.rmtree(checkpoint)
    commit(staged, checkpoint)


@pytest.fixture(scope="module")
def begun(checkpoint, short_text, tmp_path_factory):
    """A run of four steps that was killed after its second."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    values = {"model": str(checkpoint), "corpus": str(short_text), "max_length": 32, "max_steps": 4, "save_steps": 2}
    values |= {"save_total_limit": 9}
    train("adapt", output_dir=str(folder), save_strategy="steps", general_corpus="none", **values)
    shutil.rmtree(folder / "checkpoint-4")
    for name in ("model.safetensors", "config.json", "metrics.json", "report.html", "README.md"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("make", [by_torch, pytest.param(by_pickle, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_a_malicious_pickle_is_not_run(name, make, begun, capsys, tmp_path):
    shutil.copytree(begun, "run")
    canary = tmp_path / "canary"
    replace_file(Path("run/checkpoint-2"), name, make(canary))
    before = sorted(Path("run").rglob("*"))
    code = cli.main(["train", "run", "--resume_from_checkpoint", "true"])
    assert not canary.exists()
    error = capsys.readouterr().err
    if name in READ:
        assert code == 2
        assert f"'run/checkpoint-2' holds {name}, which is not only tensors and plain values" in error
        assert "No code in it was run" in error
        assert len(error.strip().splitlines()) == 1
        assert sorted(Path("run").rglob("*")) == before
    else:  # it is never read
        assert code == 0


def test_the_malicious_pickle_runs_without_the_check(tmp_path):
    """Otherwise the tests above would prove nothing."""
    for number, make in enumerate((by_torch, by_pickle)):
        canary = tmp_path / f"canary-{number}"
        (tmp_path / "file").write_bytes(make(canary))
        if make is by_torch:
            torch.load(tmp_path / "file", weights_only=False)
        else:
            import pickle

            pickle.loads((tmp_path / "file").read_bytes())
        assert canary.exists()


def test_a_saved_checkpoint_passes_the_check(begun):
    require_tensors_only(begun / "checkpoint-2")
    assert (begun / "checkpoint-2" / "rng_state.pth").exists()  # with NumPy's generator in it


def test_weights_of_a_checkpoint_must_be_safetensors(begun):
    shutil.copytree(begun / "checkpoint-2", "checkpoint-2")
    Path("checkpoint-2/model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, "checkpoint-2/pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds its weights as pytorch_model\.bin"):
        require_tensors_only(Path("checkpoint-2"))


@pytest.mark.parametrize("name", ["global_step2/mp_rank_00_model_states.pt", "pytorch_model_fsdp_0/.metadata"])
def test_sharded_states_are_refused(name, begun):
    shutil.copytree(begun / "checkpoint-2", "checkpoint-2")
    Path("checkpoint-2", name).parent.mkdir()
    Path("checkpoint-2", name).touch()
    with pytest.raises(ValueError, match="a sharded state that is read by unpickling"):
        require_tensors_only(Path("checkpoint-2"))


def test_no_arguments_are_left_beside_a_saved_model(rows, tokenizer, tiny_bert):
    from mlm_recipes import MLMConfig

    config = MLMConfig(output_dir="out", max_steps=1, save_strategy="no", use_cpu=True, hub_token="canary-of-hub-token")
    trainer = MLMTrainer(tiny_bert, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.save_model("saved")
    assert "training_args.bin" not in {path.name for path in Path("saved").iterdir()}
    assert json.loads(Path("saved/config.json").read_text())["model_type"] == "bert"
