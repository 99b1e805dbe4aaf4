"""Turns whatever transformers raises when it loads a model or a tokenizer into one sentence that says what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from ..sources.escaping import one_line, whole_message
from ..sources.git_lfs import is_pointer
from ..sources.missing_packages import is_installed, missing_package, needs
from ..sources.names import did_you_mean

#: What is accepted in the place of a SentencePiece file.
_A_TOKENIZER = "Accepted: a tokenizer with a tokenizer.json, or the packages that convert it."

#: The files that hold one JSON object each.
_OBJECTS = (
    *("config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "model.safetensors.index.json"),
)

#: How many characters of a message by transformers are shown.
_LONGEST = 300


@contextmanager
def explained(name: str | Path, folder: Path, what: str = "model", option: str = "model") -> Iterator[None]:
    """Raise a ValueError with a cause and a next step for any error within `with`.

    Args:
        name: the model's name, as the user gave it.
        folder: where its files are.
        what: `model` or `tokenizer`.
        option: the option that named it, with which the sentence begins.

    Raises: MissingPackageError, which is a ValueError and an ImportError, if a package is missing; else ValueError.
    """
    try:
        yield
    except Exception as error:  # of any kind: transformers, tokenizers, safetensors and a model's code have their own
        raise _translated(str(name), folder, what, option, error) from error


def _translated(name: str, folder: Path, what: str, option: str, error: Exception) -> ValueError:
    owner = f"the tokenizer of {name!r}" if what == "tokenizer" else repr(name)
    if what == "tokenizer" and (packages := _missing_for_sentencepiece(folder)):
        return needs(f"{option}: {owner}, of which there is only a SentencePiece file,", packages, _A_TOKENIZER)
    accepted = "Accepted: a model that needs no other package."
    if "attention" in str(error).lower():
        accepted = "Accepted: a config.json without attn_implementation, since this library sets it. Remove it."
    # Whatever is wrong with a tokenizer's files, transformers says that sentencepiece may be missing.
    no_vocabulary = what == "tokenizer" and "Couldn't instantiate the backend tokenizer" in str(error)
    if not no_vocabulary and (missing := missing_package(error, f"{option}: {owner}", accepted)) is not None:
        return missing
    for look in (_unreadable_file, _damaged_json, _damaged_weights, _lacking_weights, _unknown_type, _lack_of_memory):
        if (found := look(name, folder, error)) is not None:
            return ValueError(f"{option}: {found}")
    said = whole_message(error, ValueError, OSError)
    said = "none of its files holds a vocabulary that transformers can read" if no_vocabulary else said
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
    if what == "tokenizer":
        return ValueError(
            f"{option}: {owner} cannot be loaded ({said}). Accepted: the files that save_pretrained "
            "writes. Copy or download them again, or name another: --tokenizer NAME."
        )
    return ValueError(
        f"model: {owner} cannot be loaded for masked language modelling ({said}). Accepted: an encoder "
        "that transformers' AutoModelForMaskedLM knows, with safetensors weights and the config.json that they were "
        "saved with. Compare its config.json with the original, or choose another model."
    )


def _missing_for_sentencepiece(folder: Path) -> list[str]:
    """Return the packages that are missing if a tokenizer consists of nothing but a SentencePiece file.

    transformers then tries to read the file as one of tiktoken's, and asks for that package.
    """
    if (folder / "tokenizer.json").exists() or not any(_is_sentencepiece(path) for path in folder.glob("*.model")):
        return []
    # transformers' SentencePieceExtractor requires both; sentencepiece itself does not bring protobuf.
    installed = {"sentencepiece": is_installed("sentencepiece"), "protobuf": is_installed("protobuf")}
    return [package for package, there in installed.items() if not there]


def _is_sentencepiece(path: Path) -> bool:
    # A protocol buffer whose first field is a list of pieces; tiktoken's files are lines of base64.
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _unreadable_file(name: str, folder: Path, error: Exception) -> str | None:
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists():
            return (
                f"{name!r} has a link that leads nowhere: {path}. Accepted: a complete model. Copy or download it "
                "again."
            )
        if not os.access(path, os.R_OK) or (isinstance(error, PermissionError) and str(path) in str(error)):
            return f"{path} may not be read here. Accepted: files that this user may read. Change its permissions."
    return None


def _damaged_json(name: str, folder: Path, error: Exception) -> str | None:
    for path in [folder / file for file in _OBJECTS if (folder / file).exists()]:
        try:
            if isinstance(json.loads(path.read_text("utf-8")), dict):
                continue
            wrong = "contains no object"
        except ValueError as reason:
            wrong = f"is not JSON: {one_line(str(reason))}"
        return (
            f"{path} {wrong}. Accepted: the file as save_pretrained writes it. Copy or download the model again, or "
            "repair the file."
        )
    return None


def _damaged_weights(name: str, folder: Path, error: Exception) -> str | None:
    for path in sorted(folder.glob("*.safetensors")):
        if is_pointer(path):
            return (
                f"{path} is a pointer of git-lfs, of {path.stat().st_size} bytes, not the file itself. Accepted: the "
                "weights themselves. Fetch them: run `git lfs pull` in that folder."
            )
        try:
            with safe_open(path, "pt"):
                continue
        except SafetensorError as reason:
            return (
                f"{path} is damaged or incomplete ({one_line(str(reason))}); it has {path.stat().st_size:,} bytes. "
                "Accepted: complete weights. Copy or download the file again."
            )
    return None


def _lacking_weights(name: str, folder: Path, error: Exception) -> str | None:
    for path in sorted(folder.glob("*.safetensors.index.json")):
        listed = set(json.loads(path.read_text("utf-8")).get("weight_map", {}).values())
        if lacking := sorted(file for file in listed if not (folder / file).exists()):
            return (
                f"{name!r} lacks {', '.join(lacking)}, which {path.name} names. Accepted: all {len(listed)} files of "
                "the weights. Copy or download the rest."
            )
    return None


def _unknown_type(name: str, folder: Path, error: Exception) -> str | None:
    if not (folder / "config.json").exists():  # a tokenizer by itself
        return None
    kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
    if kind is None:
        return (
            f"{name!r} has a config.json without model_type. Accepted: the config.json of a transformers model, which "
            'names its architecture. Add it, such as "model_type": "bert", or copy the original config.json.'
        )
    if kind not in CONFIG_MAPPING:
        return (
            f"{name!r} has the model_type {kind!r}, which transformers {transformers.__version__} does not know."
            f"{did_you_mean(str(kind), CONFIG_MAPPING)} Accepted: an architecture that it knows. Install a newer "
            "transformers, if that has it."
        )
    if CONFIG_MAPPING[kind] not in MODEL_FOR_MASKED_LM_MAPPING:
        return (
            f"{name!r} has the model_type {kind!r}, for which transformers {transformers.__version__} has no "
            "masked-language-modelling head. Accepted: an encoder such as BERT, RoBERTa, ELECTRA, DeBERTa or "
            "ModernBERT. Choose such a model."
        )
    return None


def _lack_of_memory(name: str, folder: Path, error: Exception) -> str | None:
    if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
        return None
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return (
        f"{name!r} does not fit into this machine's memory; its weights have {size:,} bytes. Accepted: a model that "
        "fits, in float32. Choose a smaller one, or a machine with more memory."
    )
