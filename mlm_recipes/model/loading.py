"""Loads a model, and says which of its weights are new."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from ..masking.vocabulary import number_of_ids, require_tokenizer
from ..sources import remote_code
from ..sources.adapter_folder import adapter_in, holds_adapter
from ..sources.model_folder import built_in_models, model_folder
from ..sources.tokenizer_folder import holds_tokenizer
from . import longer_positions
from .adapter_weights import merge_folder
from .embeddings import embedding_rows
from .fit import require_fit
from .load_errors import explained
from .load_report import mismatch, report, without_load_report
from .lora import has_adapter, merge_lora

logger = logging.getLogger(__name__)

#: How the names of weights end that AutoModelForMaskedLM cannot load: of other frameworks, or not yet complete.
_OTHER_WEIGHTS = (".h5", ".msgpack", ".onnx", ".gguf", ".ckpt", ".pt", ".pth", ".incomplete")

#: The attribute of a loaded model that names the weights which its checkpoint lacks. A copy has it too.
_MISSING = "_missing_when_loaded_by_mlm_recipes"


def missing_weights(model: PreTrainedModel) -> list[str] | None:
    """Return what `load_model_and_missing` returned for a model or the one that it is a copy of; None for others."""
    return vars(model).get(_MISSING)


def has_weights(name: str | Path, revision: str | None = None) -> bool:
    """Tell whether a model has trained weights, as safetensors; `mini-random` is only a config and has none.

    An adapter has those of the model that it belongs to.

    >>> has_weights("mini"), has_weights("mini-random")
    (True, False)
    """
    folder = model_folder(name, revision)
    return any(folder.glob("model*.safetensors")) or holds_adapter(folder)


def starts_random(name: str | Path, from_scratch: bool = False) -> bool:
    """Tell whether `load_model` initialises a model with random weights.

    >>> starts_random("mini"), starts_random("mini", from_scratch=True), starts_random("mini-random")
    (False, True, True)
    """
    return from_scratch or (str(name) in built_in_models() and not has_weights(name))


def load_model(
    name: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    from_scratch: bool = False,
    revision: str | None = None,
    trust_remote_code: str | None = None,
    tokenizer_name: str | Path | None = None,
    extend_positions: int | None = None,
) -> PreTrainedModel:
    """Load a masked-language model in float32: a built-in name, a local folder, or a hub id at a `revision`.

    A built-in model without weights, or any model with `from_scratch`, gets random weights (from torch's generator:
    seed it first) in the shape of its config.json, with one embedding for each id of `tokenizer`.

    Weights are read from safetensors only. An adapter is merged into the model that its adapter_config.json names. The
    model's own code is run only if `trust_remote_code` is its name. `tokenizer_name` says where `tokenizer` comes from,
    if it is not the model's own. `extend_positions` is the number of tokens in the longest row, if the model is to take
    longer ones than it does (`mlm_recipes.model.longer_positions.extend_positions`).

    One line is logged if the masked-language-modelling head, or anything else, starts from random values.

    Raises: ValueError for a folder without such weights, a model that needs its own code, one that transformers
    cannot load with a masked-language-modelling head, or one that does not fit the tokenizer
    (`mlm_recipes.model.fit.require_fit`); MissingPackageError, a ValueError and an ImportError, for one that needs a
    package which is not installed.
    """
    return load_model_and_missing(
        name,
        tokenizer,
        from_scratch=from_scratch,
        revision=revision,
        trust_remote_code=trust_remote_code,
        tokenizer_name=tokenizer_name,
        extend_positions=extend_positions,
    )[0]


def load_model_and_missing(
    name: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    from_scratch: bool = False,
    revision: str | None = None,
    trust_remote_code: str | None = None,
    tokenizer_name: str | Path | None = None,
    extend_positions: int | None = None,
) -> tuple[PreTrainedModel, list[str]]:
    """Load as `load_model` does; also return the sorted names of the weights that are missing from the checkpoint.

    These start from random values. If the whole model starts from random weights, the list is empty.
    """
    model, missing, unexpected = _load(
        name,
        tokenizer,
        from_scratch=from_scratch,
        revision=revision,
        trust_remote_code=trust_remote_code,
        tokenizer_name=tokenizer_name,
    )
    if (missing or unexpected) and (said := report(str(name), model, missing, unexpected)) is not None:
        logger.warning(said)
    _refuse_not_finite(name, model)
    require_fit(model, tokenizer, name, tokenizer_name)
    if extend_positions is not None:
        random = starts_random(name, from_scratch)
        model = longer_positions.extend_positions(model, extend_positions, tokenizer, random_weights=random)
    vars(model)[_MISSING] = sorted(missing)
    return model, sorted(missing)


def _load(
    name: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    from_scratch: bool,
    revision: str | None,
    trust_remote_code: str | None,
    tokenizer_name: str | Path | None,
    above: tuple[str, ...] = (),
) -> tuple[Any, set[str], set[str]]:
    """Return a model, the weights that its folder lacks, and those of its folder that it does not have.

    `above` are the adapters whose base this is.
    """
    given = trust_remote_code
    if tokenizer_name is not None:
        trust_remote_code = remote_code.trust_in(str(name), trust_remote_code, str(tokenizer_name))
    trusted = remote_code.is_trusted(str(name), trust_remote_code)
    folder, random = model_folder(name, revision, with_code=trusted), starts_random(name, from_scratch)
    adapter = adapter_in(folder, str(name))
    if adapter is not None and not (folder / "config.json").exists():
        if adapter.base in (*above, str(name)):
            raise ValueError(
                f"model: {str(name)!r} holds an adapter of {adapter.base!r}, which is an adapter of it in turn. "
                "Accepted: an adapter of a complete model. Correct base_model_name_or_path in its adapter_config.json."
            )
        base, missing, unexpected = _load(
            adapter.base,
            tokenizer,
            from_scratch=from_scratch,
            revision=adapter.revision,
            trust_remote_code=given,
            tokenizer_name=tokenizer_name,
            above=(*above, str(name)),
        )
        if random:
            return base, missing, unexpected
        with explained(name, folder):
            held = merge_folder(base, folder)
        base.requires_grad_(True)
        weights = dict(base.named_parameters(remove_duplicate=False))
        # The bias of a head that was new is zero, as it was when the rest of the head was trained.
        missing = {lost for lost in missing.difference(held) if lost not in weights or bool(weights[lost].any())}
        return base, missing, unexpected
    code = remote_code.arguments(str(name), folder, trust_remote_code)
    if not random and not has_weights(name, revision):
        raise _without_safetensors(name, revision, folder)
    tokenizer = require_tokenizer(tokenizer, "tokenizer")
    with explained(name, folder):
        config = AutoConfig.from_pretrained(folder, **code)
    if random:
        config.__dict__.pop("quantization_config", None)  # it describes the weights that are not loaded
    else:
        _refuse_quantized(name, config)
    found: dict[str, Any] = {}
    with explained(name, folder), without_load_report():
        if random:
            special = ("pad", "cls", "sep", "bos", "eos", "mask")
            ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id", None) for kind in special}
            # BERT-like tokenizers call the first and last token cls and sep, configs sometimes bos and eos.
            ids["bos_token_id"] = ids["bos_token_id"] if ids["bos_token_id"] is not None else ids["cls_token_id"]
            ids["eos_token_id"] = ids["eos_token_id"] if ids["eos_token_id"] is not None else ids["sep_token_id"]
            for key, value in ids.items():
                if hasattr(config, key):
                    setattr(config, key, value)
            config.vocab_size = number_of_ids(tokenizer)
            model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32, **code)
        else:
            model, found = AutoModelForMaskedLM.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, use_safetensors=True,
                ignore_mismatched_sizes=True, **code  # refused below, with the sizes
            )  # fmt: skip
    if found and (wrong := mismatch(str(name), found["mismatched_keys"], embedding_rows(model))) is not None:
        raise ValueError(wrong)
    if has_adapter(model):  # its folder holds both a model and an adapter of it
        merge_lora(model)
        model.requires_grad_(True)
    return model, set(found.get("missing_keys", ())), set(found.get("unexpected_keys", ()))


def _refuse_quantized(name: str | Path, config: Any) -> None:
    """Raise ValueError for a model whose weights are quantized: integers cannot be trained."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return
    method = given.get("quant_method") if isinstance(given, dict) else getattr(given, "quant_method", None)
    raise ValueError(
        f"model: {str(name)!r} has quantized weights (quant_method {getattr(method, 'value', method)}), which cannot "
        "be trained. Accepted: weights in float32, bfloat16 or float16. Use the model that it was made from."
    )


def _refuse_not_finite(name: str | Path, model: Any) -> None:
    """Raise ValueError for weights with NaN or infinity, as a run leaves behind that diverged."""
    wrong = [key for key, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"model: {str(name)!r} has weights that are NaN or infinite ({', '.join(wrong[:3])}{more}). Accepted: "
            "finite weights. The training that saved them probably diverged: use an earlier checkpoint of it, or the "
            "model that it began with."
        )


def _without_safetensors(name: str | Path, revision: str | None, folder: Path) -> ValueError:
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    # A .bin is never fetched from the hub, so it is not known here whether there is one.
    found = f"only {', '.join(pickled)}, which can run code when it is read" if pickled else "no usable weights"
    others = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in _OTHER_WEIGHTS)
    if others and not pickled:
        raise ValueError(
            f"model: {str(name)!r} has a config but no usable weights, only {', '.join(others)} ({folder}). Accepted: "
            "weights as safetensors (model.safetensors). Download or copy those, or save the model from PyTorch with "
            "save_pretrained. Or start from random weights: --from_scratch."
        )
    path = Path(name).expanduser()
    new = f"{Path(name) if path.is_dir() else Path(name).name}-safetensors"
    pinned = "" if revision is None else f", revision={revision!r}"
    kinds = {"M": "AutoModelForMaskedLM"} | ({"T": "AutoTokenizer"} if holds_tokenizer(folder) else {})
    imports = ", ".join(f"{name} as {short}" for short, name in kinds.items())
    code = "; ".join(f"{short}.from_pretrained({str(name)!r}{pinned}).save_pretrained({new!r})" for short in kinds)
    return ValueError(
        f"model: {str(name)!r} has a config but {found} ({folder}). Accepted: weights as safetensors "
        f'(model.safetensors). Convert a pytorch_model.bin, where it can do no harm: python -c "from transformers '
        f'import {imports}; {code}", and use --model {new}. Or start from random weights: --from_scratch.'
    )
