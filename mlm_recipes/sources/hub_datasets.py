"""Data sets of the hub: which configuration and splits, pinned, and reused offline."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .escaping import first_line
from .hub import ask, broken_connection, cached, fetch, gated, remember, unreachable

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


def load_splits(
    name: str,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Mapping[str, Dataset | IterableDataset]:
    """Load a data set of the hub: its splits by name.

    Args:
        name: `owner/name`.
        config: which of its configurations; None is its default one, or the only one.
        split: return this split alone; None is all that the configuration has.
        revision: a branch, a tag or a commit (7 to 40 hex digits); None is the branch `main`.
        streaming: read while iterating, and download nothing. Then no sha256 is checked, and a connection that breaks
            is noticed where the rows are read.

    The files of the configuration are fetched first, into huggingface_hub's cache, and those that the hub keeps in LFS
    compared with the sha256 that it states; then `datasets` reads them from there. If the hub does not answer, the same
    commit is taken from the cache of `datasets`, and a warning says so; with HF_HUB_OFFLINE=1 the hub is not asked.

    Raises: NotOnHubError; HubUnreachableError; ValueError for a gated data set, an unknown revision, configuration or
    split, several configurations of which none is the default, a loading script, files that cannot be read, a
    connection that broke, or content that is not what the hub states.
    """
    assert name.count("/") == 1, name
    import datasets

    # Else each load also knocks at s3.amazonaws.com, whatever HF_ENDPOINT says, to be counted.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    info = ask(name, "dataset", revision or "main")
    if info is None:
        builder = _prepared_builder(name, config, revision or "main")
    else:
        builder = _hub_builder(name, config, info)
        if not streaming:
            _prepare(builder, name, str(info.sha))
            remember(name, "dataset", revision or "main", str(info.sha))
    with _reading(name):
        found: Mapping[str, Any] = builder.as_streaming_dataset() if streaming else builder.as_dataset()
    if split is None:
        return found
    if split not in found:
        raise ValueError(
            f"corpus_split: {name!r} has no split {split!r}. Accepted: one of {', '.join(found)}. "
            "Pass --corpus_split with one of these."
        )
    return {split: found[split]}


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    with broken_connection(name, "dataset"):
        try:
            yield
        except DatasetNotFoundError as error:  # after the hub said that it has it
            raise gated(name, "dataset") from error
        except (DatasetsError, EmptyDatasetError, ValueError) as error:
            cause = error.__cause__ or error  # datasets wraps what its reader says
            raise ValueError(
                f"corpus: the hub data set {name!r} cannot be read ({first_line(cause)}). Accepted: files of one "
                "kind that datasets reads (parquet, jsonl, csv, text), as its card describes them. Try another "
                "--corpus_config or --corpus_revision, or save its text to a file and name that."
            ) from error


def _hub_builder(name: str, config: str | None, info: Any) -> Any:
    """Return what `datasets` makes of one commit: which files are which split, and how they are read."""
    from datasets import load_dataset_builder

    commit = str(info.sha)
    if any(file.rfilename == "README.md" for file in info.siblings or []):
        config = _choose_configuration(name, config, fetch(name, "dataset", commit, ["README.md"]))
    try:
        with _reading(name):
            # A commit, not a branch: nothing changes on the way, and the hub's viewer, another host, is not asked.
            builder = load_dataset_builder(name, config, revision=commit)
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise ValueError(
            f"corpus: {name!r} is a program that makes a data set (a loading script), which datasets no longer runs. "
            "Accepted: a data set of files (parquet, jsonl, csv, text). Look for a branch that has them, such as "
            "--corpus_revision refs/convert/parquet, or save its text to a file and name that."
        ) from error
    if builder.hash != commit:  # where it meets an error, datasets takes the newest in its cache, of whichever commit
        raise unreachable(name, "dataset", " any more: it stopped answering")
    return builder


def _prepare(builder: Any, name: str, commit: str) -> None:
    """Fetch a builder's files and check them; then `datasets` finds them in the cache, and turns them into Arrow."""
    root = f"hf://datasets/{name}@{commit}/"
    files = [str(file) for one in (builder.config.data_files or {}).values() for file in one]
    fetch(name, "dataset", commit, [file.removeprefix(root) for file in files if file.startswith(root)])
    with _reading(name):
        builder.download_and_prepare()


def _prepared_builder(name: str, config: str | None, revision: str) -> Any:
    """Return a builder for what `datasets` has prepared from one commit; left to itself it takes the newest of any."""
    import datasets
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.cache.cache import Cache

    folder = cached(name, "dataset", revision, ["README.md"])
    if (folder / "README.md").is_file():
        config = _choose_configuration(name, config, folder)
    owner, base = name.split("/")
    place = Path(datasets.config.HF_DATASETS_CACHE) / f"{owner}___{camelcase_to_snakecase(base)}"
    prepared = list(place.glob(f"{glob.escape(config) if config else '*'}/*/{folder.name}"))
    if len(prepared) != 1:
        raise unreachable(name, "dataset", f" (what was fetched before lacks its configuration {config!r})")
    config, version, commit = prepared[0].parts[-3:]
    return Cache(repo_id=name, dataset_name=base, config_name=config, version=version, hash=commit)


def _choose_configuration(name: str, config: str | None, folder: Path) -> str | None:
    """Return which configuration to load, of those that the card lists; it may list none, then there is but one."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    known: Any = MetadataConfigs.from_dataset_card_data(DatasetCard.load(folder / "README.md").data)
    if not known or config in known:
        return config
    if config is None and (default := known.get_default_config_name()):
        return default
    wrong = f"{name!r} has no configuration {config!r}" if config else f"{name!r} has several configurations"
    raise ValueError(
        f"corpus_config: {wrong}. Accepted: one of {', '.join(known)}. Pass --corpus_config with one of these."
    )
