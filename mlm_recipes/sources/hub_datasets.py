"""Hub data sets: the choice of configuration and splits, pinned to a commit and reused offline."""

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
    """Load a hub data set and return its splits by name.

    Args:
        name: `owner/name`.
        config: the configuration; None is the default one, or the only one.
        split: return only this split; None is all splits of the configuration.
        revision: a branch, a tag or a commit (7 to 40 hex digits); None is the branch `main`.
        streaming: read while iterating, without downloading. Then no sha256 is checked, and a broken connection is
            noticed only when the rows are read.

    The configuration's files are first fetched into huggingface_hub's cache, and those that the hub keeps in LFS are
    compared with the sha256 that it states; then `datasets` reads them from there. If the hub does not answer, the same
    commit is taken from the cache of `datasets`, with a warning; with HF_HUB_OFFLINE=1 the hub is not contacted.

    Raises: NotOnHubError; HubUnreachableError; ValueError for a gated data set, an unknown revision, configuration or
    split, several configurations without a default, a loading script, unreadable files, a broken connection, or
    content that does not match the hub's sha256.
    """
    assert name.count("/") == 1, name
    import datasets

    # Otherwise each load is also reported to s3.amazonaws.com, whatever HF_ENDPOINT is.
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
        except DatasetNotFoundError as error:  # although the hub reported that it exists
            raise gated(name, "dataset") from error
        except (DatasetsError, EmptyDatasetError, ValueError) as error:
            cause = error.__cause__ or error  # datasets wraps its reader's error
            raise ValueError(
                f"corpus: the hub data set {name!r} cannot be read ({first_line(cause)}). Accepted: files of one "
                "format that datasets reads (parquet, jsonl, csv, text), as the data set's card describes them. Try "
                "another --corpus_config or --corpus_revision, or save its text to a file and pass that file."
            ) from error


def _hub_builder(name: str, config: str | None, info: Any) -> Any:
    """Return the builder that `datasets` makes for one commit: the files of each split, and how to read them."""
    from datasets import load_dataset_builder

    commit = str(info.sha)
    if any(file.rfilename == "README.md" for file in info.siblings or []):
        config = _choose_configuration(name, config, fetch(name, "dataset", commit, ["README.md"]))
    try:
        with _reading(name):
            # A commit, not a branch: it cannot change meanwhile, and the hub's viewer, another host, is not contacted.
            builder = load_dataset_builder(name, config, revision=commit)
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        raise ValueError(
            f"corpus: {name!r} is a loading script, which datasets no longer runs. Accepted: a data set of files "
            "(parquet, jsonl, csv, text). Look for a branch that has such files, such as --corpus_revision "
            "refs/convert/parquet, or save its text to a file and pass that file."
        ) from error
    if builder.hash != commit:  # after an error, datasets falls back to the newest commit in its cache
        raise unreachable(name, "dataset", " any more: it stopped responding")
    return builder


def _prepare(builder: Any, name: str, commit: str) -> None:
    """Fetch a builder's files and check them; `datasets` then finds them in the cache and converts them to Arrow."""
    root = f"hf://datasets/{name}@{commit}/"
    files = [str(file) for one in (builder.config.data_files or {}).values() for file in one]
    fetch(name, "dataset", commit, [file.removeprefix(root) for file in files if file.startswith(root)])
    with _reading(name):
        builder.download_and_prepare()


def _prepared_builder(name: str, config: str | None, revision: str) -> Any:
    """Return a builder for what `datasets` prepared from this commit; on its own it would take the newest commit."""
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
        raise unreachable(name, "dataset", f" (and the cache lacks its configuration {config!r})")
    config, version, commit = prepared[0].parts[-3:]
    return Cache(repo_id=name, dataset_name=base, config_name=config, version=version, hash=commit)


def _choose_configuration(name: str, config: str | None, folder: Path) -> str | None:
    """Return the configuration to load, from those that the card lists; if it lists none, there is only one."""
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
