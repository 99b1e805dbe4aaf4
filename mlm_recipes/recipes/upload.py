"""Uploads a finished run to the hub: one commit, with only the files that the run wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from ..checkpoints.storage import list_checkpoints
from ..checkpoints.tensor_files import PICKLED_ARGUMENTS
from ..sources.escaping import first_line, shell

#: The public files of a run folder: pages, then the model. A tokenizer's vocabulary file has its own name.
_FILES = (
    *("README.md", "report.html", "metrics.json", "recipe.yaml"),
    *("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"),
    *("adapter_config.json", "adapter_model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
)


@dataclass(frozen=True)
class Upload:
    """Where a run is uploaded on the hub, and with which checkpoints (transformers' `hub_strategy`).

    `checkpoint` also sends the newest checkpoint, as last-checkpoint, and `all_checkpoints` all of them; every other
    strategy sends only the finished run. Everything is sent in one commit, at the end.
    """

    repository: str
    token: str | None = field(default=None, repr=False)
    revision: str | None = None
    strategy: str = "every_save"

    @classmethod
    def open(cls, name: str, token: str | None, private: bool | None, revision: str | None, strategy: str) -> Upload:
        """Create the repository if it does not exist; a missing permission is thus reported before training.

        Raises: OSError if the hub cannot be reached or denies access.
        """
        api = HfApi(token=token)
        try:
            repository = str(api.create_repo(name, private=private, exist_ok=True).repo_id)
            if revision is not None:
                api.create_branch(repository, branch=revision, exist_ok=True)
        except Exception as error:  # httpx, huggingface_hub and the system raise different classes
            raise OSError(
                f"push_to_hub: {name!r} cannot be written to at {api.endpoint}: {first_line(error)}. Nothing was "
                "trained. Accepted: owner/name (--hub_model_id) of a model repository that you own, with a token "
                "that can write to it. Log in with `hf auth login`, or leave --push_to_hub out and send the finished "
                "run later."
            ) from error
        return cls(repository, token, revision, strategy)

    def send(self, folder: Path, vocabulary: Iterable[str] = ()) -> str:
        """Send a finished run and return the address of the commit; `vocabulary` names its tokenizer's own files.

        Raises: OSError if that fails, with the commands that try again; the run folder stays as it is.
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
                f"push_to_hub: {self.repository!r} could not be written to: {first_line(error)}. The run itself is "
                f"finished and complete in {folder}. When the hub can be reached, send it with\n"
                f"  {self._again(folder, files)}"
            ) from error
        return str(commit.commit_url)

    def _checkpoints(self, folder: Path) -> dict[Path, str]:
        """Return the checkpoints that are sent, each with its name on the hub."""
        found = list_checkpoints(folder)
        sent = {"checkpoint": found[-1:], "all_checkpoints": found}.get(self.strategy, [])
        return {path: "last-checkpoint" if self.strategy == "checkpoint" else path.name for path in sent}

    def _checkpoint_files(self, folder: Path) -> list[tuple[str, Path]]:
        return [
            (f"{name}/{path.relative_to(checkpoint).as_posix()}", path)
            for checkpoint, name in self._checkpoints(folder).items()
            for path in sorted(checkpoint.rglob("*"))
            if path.is_file() and path.name != PICKLED_ARGUMENTS
        ]

    def _again(self, folder: Path, files: list[str]) -> str:
        """Return the commands that send the same files, without the token."""
        include = [word for name in files for word in ("--include", name)]
        revision = [] if self.revision is None else ["--revision", self.revision]
        commands = [shell("hf", "upload", self.repository, str(folder), ".", *revision, *include)]
        for checkpoint, name in self._checkpoints(folder).items():
            words = ["hf", "upload", self.repository, str(checkpoint), name, *revision, "--exclude", PICKLED_ARGUMENTS]
            commands.append(shell(*words))
        return "\n  ".join(commands)


def run_files(folder: Path, vocabulary: Iterable[str] = ()) -> list[str]:
    """Return the sorted names of the files that a finished run wrote into its folder; all others are private.

    A model with its own code includes that too.
    """
    patterns = [*_FILES, *vocabulary]
    if (folder / "config.json").is_file() and "auto_map" in json.loads((folder / "config.json").read_text("utf-8")):
        patterns.append("*.py")
    return sorted({path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
