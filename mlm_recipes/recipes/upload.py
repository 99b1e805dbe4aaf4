"""A finished run on the hub: one commit, with the files that the run wrote and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from ..checkpoints.storage import list_checkpoints
from ..checkpoints.tensor_files import PICKLED_ARGUMENTS
from ..sources.escaping import first_line, shell

#: What a run folder has for everybody: people first, then the model. A tokenizer's vocabulary has a name of its own.
_FILES = (
    *("README.md", "report.html", "metrics.json", "recipe.yaml"),
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)


@dataclass(frozen=True)
class Upload:
    """Where a run goes on the hub, and what of its checkpoints: `hub_strategy` as transformers names it.

    `checkpoint` sends the newest one too, as last-checkpoint, `all_checkpoints` all of them; with every other strategy
    only what is finished is sent. Whatever it is, everything goes at once, at the end.
    """

    repository: str
    token: str | None = field(default=None, repr=False)
    revision: str | None = None
    strategy: str = "every_save"

    @classmethod
    def open(cls, name: str, token: str | None, private: bool | None, revision: str | None, strategy: str) -> Upload:
        """Make the repository, unless it is there: who may not write to it hears so before hours of training.

        Raises: OSError if the hub cannot be reached or does not let us.
        """
        api = HfApi(token=token)
        try:
            repository = str(api.create_repo(name, private=private, exist_ok=True).repo_id)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
        except Exception as error:  # of httpx, of huggingface_hub, of the system: none of them is one kind
            raise OSError(
                f"push_to_hub: {name!r} cannot be written to at {api.endpoint}: {first_line(error)}. Nothing was "
                "trained yet. Accepted: a name owner/name (--hub_model_id) of a model repository that is yours, with a "
                "token that may write. Log in with `hf auth login`, or leave --push_to_hub out and send the finished "
                "run later."
            ) from error
        return cls(repository, token, revision, strategy)

    def send(self, folder: Path, vocabulary: Iterable[str] = ()) -> str:
        """Send a finished run and return the address of the commit; `vocabulary` names its tokenizer's own files.

        Raises: OSError if that fails, with the command that tries again; the run folder stays as it is.
        """
        files = run_files(folder, vocabulary)
        operations = [CommitOperationAdd(name, folder / name) for name in files]
        operations += [CommitOperationAdd(name, path) for name, path in self._checkpoint_files(folder)]
        try:
            commit = HfApi(token=self.token).create_commit(
                self.repository, operations, commit_message="A run of mlm_recipes", revision=self.revision
            )
        except Exception as error:  # whatever broke, the run is finished
            raise OSError(
                f"push_to_hub: {self.repository!r} was not written to: {first_line(error)}. The run itself is "
                f"finished, and whole in {folder}. Once the hub can be reached, send it with\n"
                f"  {self._again(folder, files)}"
            ) from error
        return str(commit.commit_url)

    def _checkpoint_files(self, folder: Path) -> list[tuple[str, Path]]:
        found = list_checkpoints(folder)
        sent = {"checkpoint": found[-1:], "all_checkpoints": found}.get(self.strategy, [])
        names = {path: "last-checkpoint" if self.strategy == "checkpoint" else path.name for path in sent}
        return [
            (f"{names[checkpoint]}/{path.relative_to(checkpoint).as_posix()}", path)
            for checkpoint in sent
            for path in sorted(checkpoint.rglob("*"))
            if path.is_file() and path.name != PICKLED_ARGUMENTS
        ]

    def _again(self, folder: Path, files: list[str]) -> str:
        """Return the command that sends the same files; the token is not in it."""
        include = [word for name in files for word in ("--include", name)]
        revision = [] if self.revision is None else ["--revision", self.revision]
        return shell("hf", "upload", self.repository, str(folder), ".", *revision, *include)


def run_files(folder: Path, vocabulary: Iterable[str] = ()) -> list[str]:
    """Return the names of the files that a finished run wrote into its folder, sorted; what else lies there is private.

    A model with code of its own has that too.
    """
    patterns = [*_FILES, *vocabulary]
    if (folder / "config.json").is_file() and "auto_map" in json.loads((folder / "config.json").read_text("utf-8")):
        patterns.append("*.py")
    return sorted({path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
