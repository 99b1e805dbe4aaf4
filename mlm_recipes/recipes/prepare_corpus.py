"""`prepare_corpus` tokenizes a text once, into shards that runs map into memory."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tqdm.auto import tqdm
from transformers import set_seed

from ..data.added_words import add_words
from ..data.corpus import check_held_out
from ..data.corpus_name import Reading, Version, resolve
from ..data.dealt_text import DealtText
from ..data.prepared_corpus import names_prepared
from ..data.prepared_files import (
    FORMAT,
    INDEX,
    TOKENIZER,
    VERSION,
    is_prepared,
    share_stem,
    write_text,
)
from ..data.prepared_index import PreparedIndex, joined, unfinished_shares
from ..data.prepared_plan import Plan, PreparedFrom, RowRules, Shard
from ..data.rows import encoder_of
from ..data.shard_writer import ShareWriter
from ..data.streams import SAMPLE, TextStream
from ..data.tokenizer import load_or_train_tokenizer, vocabulary_fingerprint
from ..model.loading import load_model_and_missing
from ..model.positions import usable_length
from ..report.wording import count
from ..sources.credentials import without_credentials
from ..training.config import MLMConfig
from .arguments import as_flags, default_recipe, read_config
from .locks import acquire, lock_of, release
from .prepared_beginning import agreed_plan, hold_out
from .prepared_text import held_out_fingerprint

logger = logging.getLogger(__name__)

#: Beside `model`, the values that decide which rows a model can read; a run on the shards must have the same.
_OF_MODEL = (
    *("model_revision", "from_scratch", "tokenizer", "tokenizer_revision", "add_tokens", "extend_positions"),
    "trust_remote_code",
)


@dataclass(frozen=True)
class Prepared:
    """What `prepare_corpus` did; `print(result)` says it.

    Attributes:
        folder: the folder.
        share, shares: which share of the text was prepared, of how many.
        shards: the shards of this share.
        kept: how many of them were there before.
        index: the index of the whole corpus, or None as long as shares are missing.
        missing: the numbers of the missing shares.
        model: the flags that name the model, for the command that trains.
    """

    folder: Path
    share: int
    shares: int
    shards: list[Shard]
    kept: int
    index: PreparedIndex | None
    missing: list[int]
    model: str

    def __str__(self) -> str:
        kept = f", of which {self.kept} {'was' if self.kept == 1 else 'were'} there before" if self.kept else ""
        part = f" Share {self.share} of {self.shares}:" if self.shares > 1 else ""
        rows, tokens, paragraphs = (
            sum(each[name] for each in self.shards) for name in ("rows", "tokens", "paragraphs")
        )
        said = (
            f"{self.folder}:{part} {count(len(self.shards), 'shard')}{kept}; {count(paragraphs, 'paragraph')}, "
            f"{count(tokens, 'token')} in {count(rows, 'row')}."
        )
        if self.index is None:
            missing = ", ".join(f"{share}/{self.shares}" for share in self.missing)
            return f"{said} Not complete yet: --shard {missing} {'is' if len(self.missing) == 1 else 'are'} missing."
        whole = ""
        if self.shares > 1:
            whole = (
                f" All {self.shares} shares are complete: {count(self.index.total('paragraphs'), 'paragraph')}, "
                f"{count(self.index.total('tokens'), 'token')} in {count(self.index.total('rows'), 'row')}."
            )
        held_out = count(self.index.plan["held_out"]["paragraphs"], "held-out paragraph")
        return (
            f"{said}{whole} Beside them: {held_out}.\n"
            f"Train on them: mlm-recipes train --corpus {shlex.quote(str(self.folder))} {self.model}"
        )


def prepare_corpus(
    recipe: str | Path | MLMConfig | None = None,
    *,
    out: str | Path,
    shard: str = "1/1",
    shard_characters: int = 256_000_000,
    **overrides: Any,
) -> Prepared:
    """Tokenize a text once, into a folder of shards that `train(corpus=out)` maps into memory.

    Args:
        recipe, overrides: as for `train`; `corpus`, `model` and what decides the rows and the held-out text are used.
        out: the folder: a new one, or one in which the same text is being prepared.
        shard: which share of the text this process prepares, of how many: "3/8" is the third of eight. Any number of
            machines can work at the same time, each at a share of its own.
        shard_characters: how much text is in a shard. A share has as many shards as it needs.

    Run it again after an interruption: complete shards are kept. With the last share, index.json is written.

    Raises: ValueError for a folder that was begun with other values, and for values that cannot be used here;
    FileExistsError for a folder with other files; OSError if another process prepares the same share.

    >>> print(prepare_corpus(corpus="meditations", model="mini", out="shards"))
    shards: 1 shard; 487 paragraphs, 47,177 tokens in 487 rows. Beside them: 53 held-out paragraphs.
    Train on them: mlm-recipes train --corpus shards --model mini
    """
    share, shares = _share(shard)
    if shard_characters < 1:
        raise ValueError(f"shard_characters: received {shard_characters}. Accepted: 1 or more, such as 256000000.")
    config = read_config(recipe if recipe is not None else default_recipe(overrides), overrides)
    _refuse_unusable(config)
    folder = Path(out).expanduser()
    if folder.exists() and not is_prepared(folder) and (not folder.is_dir() or _others(folder)):
        raise FileExistsError(
            f"out: {str(folder)!r} holds other files. Accepted: a new or empty folder, or one that the same text is "
            "being prepared in. Name another."
        )
    reading = Reading(**config.reading())
    text = DealtText(resolve(config.corpus, reading, Version(**config.where())), shares)
    validation, held_out, about = hold_out(config, text, reading)
    stream = TextStream(text.whole, held_out)
    tokenizer = load_or_train_tokenizer(config.model, _Sample(stream), **config.vocabulary())
    set_seed(config.seed)
    model, _ = load_model_and_missing(config.model, tokenizer, **config.start())
    max_length = usable_length(config.max_length, model, config.default_length())
    del model
    extended = add_words(tokenizer, config.add_tokens).tokenizer if config.add_tokens else tokenizer
    rules: RowRules = {
        "max_length": max_length,
        "packing": config.packing,
        "long_text": config.long_text,
        "stride": config.stride,
        "word_segmenter": config.word_segmenter,
    }
    encoder = encoder_of(extended, **rules)
    folder.mkdir(parents=True, exist_ok=True)
    plan: Plan = {
        "format": FORMAT,
        "version": VERSION,
        "shares": shares,
        "dealt": text.dealt,
        "shard_characters": shard_characters,
        "corpus": _origin(text),
        "tokenizer": {
            "model": str(config.tokenizer or config.model),
            "tokens": len(extended),
            "vocabulary": vocabulary_fingerprint(extended),
            "held_out_rows": held_out_fingerprint(validation["text"][:], extended, rules),
            "files": {},
        },
        "rows": rules,
        "held_out": about,
    }
    plan = agreed_plan(folder, plan, tokenizer, validation)
    writer = ShareWriter(folder, plan, share, encoder, held_out)
    kept = 0
    with _held(folder, share, shares), _bar(text.bytes_of(share)) as bar:

        def said(shard: Shard, before: bool) -> None:
            nonlocal kept
            kept += before
            if not before:
                rows, tokens = count(shard["rows"], "row"), count(shard["tokens"], "token")
                logger.info("%s: %s, %s", folder / shard["file"], rows, tokens)

        shards = writer.write(text.share(share, lambda done: bar.update(done - bar.n)), said)
    missing = unfinished_shares(folder, plan)
    index = None if missing else joined(folder, plan)
    if index is not None:
        write_text(folder / INDEX, index.text())
    return Prepared(folder, share, shares, shards, kept, index, missing, shlex.join(_flags_of_model(config, overrides)))


def _flags_of_model(config: MLMConfig, overrides: Mapping[str, Any]) -> list[str]:
    """Return the flags that a run on the shards needs for the model and the vocabulary that they were made for."""
    usual = MLMConfig.__dataclass_fields__
    needed = {name: overrides.get(name, getattr(config, name)) for name in _OF_MODEL}  # the file, not its words
    others = {name: value for name, value in needed.items() if getattr(config, name) != usual[name].default}
    return as_flags({"model": config.model} | others)


def _origin(text: DealtText) -> PreparedFrom:
    """Return what the plan says of the text."""
    found: dict[str, Any] = {**text.source.facts(), **text.whole.facts()}
    found |= {"files": len(text.source.files), "files_sha256": text.files_sha256()}
    return cast(PreparedFrom, found | {"reading": asdict(text.source.reading)})


class _Sample:
    """The first paragraphs to train on, for a tokenizer that is learned from the text; read only if there is one."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream.first(SAMPLE))


def _share(shard: str) -> tuple[int, int]:
    """Return the numbers of a share and of all shares.

    >>> _share("3/8")
    (3, 8)
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", str(shard))
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(
            f"shard: received {shard!r}. Accepted: I/N, the share's number from 1 and the number of all shares, such "
            "as 3/8 for the third of eight machines. Leave it out to prepare the whole text here."
        )
    return int(found[1]), int(found[2])


def _refuse_unusable(config: MLMConfig) -> None:
    if config.world_size > 1:
        raise ValueError(
            f"prepare: received {config.world_size} processes. Accepted: one, which prepares a share of its own. Start "
            "each without torchrun or accelerate, with --shard 1/N to N/N."
        )
    if names_prepared(config.corpus):
        raise ValueError(
            f"corpus: {without_credentials(config.corpus)!r} is a prepared corpus. Accepted: a text. Name the text "
            "that it was made of."
        )
    why = {
        "streaming": "since the text is read block by block in any case",
        "mix": "since texts are mixed when they are trained on. Put the other text into the corpus instead",
        "deduplicate": "since no process knows all paragraphs. Remove copies from the text beforehand",
        "num_proc": "since each process tokenizes with all cores. Start several processes with --shard instead",
    }
    for name, reason in why.items():
        default = MLMConfig.__dataclass_fields__[name].default
        if (value := getattr(config, name)) != default:
            raise ValueError(
                f"{name}: received {value!r} to prepare a text. Accepted: {default!r}, {reason}. Leave it out."
            )
    check_held_out(config.validation_fraction, config.max_eval_samples)


def _others(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name != TOKENIZER]


@contextmanager
def _held(folder: Path, share: int, shares: int) -> Iterator[None]:
    """Lock a share within `with`; the lock is released if the process is killed."""
    path = folder / f".{share_stem(share, shares)}.lock"
    lock = lock_of(path)
    acquire(
        lock,
        f"shard: another process is preparing share {share}/{shares} in {str(folder)!r}. Accepted: a share that no "
        "other process prepares. Wait for it, or name another.",
        path,
        other="process",
    )
    try:
        yield
    finally:
        release(lock)


def _bar(total: int) -> Any:
    """Return a progress bar in bytes of the text, shown on a terminal."""
    return tqdm(
        total=total or None, unit="B", unit_scale=True, desc="Preparing", leave=False, disable=not sys.stderr.isatty()
    )
