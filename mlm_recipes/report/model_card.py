"""The model card, README.md of a run folder: metadata for the hub, and what the figures support."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load

from ..metrics_file import Metrics, PairProbe, SearchProbe, TextScores, Train
from . import probes
from .adapter import how_trained, is_alone
from .before_after_table import LABELS, table_rows
from .html import environment
from .similarity_rows import measured
from .similarity_sentences import similarity_sentences
from .wording import FEW, count, headline, masked_shares, measured_tokens, note

#: The hub's name for an unknown licence (https://huggingface.co/docs/hub/repositories-licenses).
UNKNOWN = "unknown"

#: A licence as the hub writes it.
_LICENCE = re.compile(r"[a-z][a-z0-9.+-]*")

#: What MTEB calls the measures of pairs and searches.
_OF_MTEB = {
    "spearman": "cosine_spearman",
    "average_precision": "cosine_ap",
    "ndcg_at_10": "ndcg_at_10",
    "recall_at_10": "recall_at_10",
}

#: A model or data set of the hub.
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[\w][\w.-]*(/[\w][\w.-]*)?")


def card(metrics: Metrics) -> str:
    """Return the model card of a run: YAML metadata, then Markdown; `metrics` is as in docs/metrics.md."""
    body = (
        environment()
        .get_template("model_card.md")
        .render(
            metrics=metrics,
            rows=table_rows(metrics),
            source=_source(metrics["corpus"]["source"]),
            headline=headline(metrics),
            more=" ".join([note(metrics)[len(headline(metrics)) :].strip(), *similarity_sentences(metrics)]).strip(),
            base_licence=_licence(metrics["train"]),
            text_licence=metrics["corpus"].get("licence"),
            measured=count(measured_tokens(metrics), "token"),
            masked_shares=masked_shares(metrics["train"]["history"]),
            trained=how_trained(metrics["train"]),
            adapter=is_alone(metrics["train"]),
            probes=[(probe["name"], probes.rows(probe)) for probe in probes.probes_in(metrics)],
            probe_sentences=list(probes.sentences(metrics)),
        )
    )
    return str(ModelCard(f"---\n{card_data(metrics).to_yaml()}\n---\n\n{body}"))


def card_data(metrics: Metrics) -> ModelCardData:
    """Return the metadata; it names the base model and the data set only if they are on the hub under these names.

    The licence is that of the base model; `unknown` if it is not stated, or if the weights were random, since then the
    owner chooses it.
    """
    train, corpus = metrics["train"], metrics["corpus"]
    more: dict[str, Any] = {}
    if train.get("model_source") == "hub" and not train["random_weights"] and _HUB_ID.fullmatch(train["model"]):
        more = {"base_model": train["model"], "base_model_relation": "adapter" if is_alone(train) else "finetune"}
    if corpus["source"].startswith("hub:") and _HUB_ID.fullmatch(corpus["source"].removeprefix("hub:")):
        more["datasets"] = [corpus["source"].removeprefix("hub:")]
    return ModelCardData(
        library_name="peft" if is_alone(train) else "transformers",
        pipeline_tag="fill-mask",
        license=_licence(train) or UNKNOWN,
        tags=["fill-mask", "masked-language-modeling", "mlm-recipes"],
        model_name=f"{train['model']} on {corpus['name']}",
        eval_results=_results(metrics),
        **more,
    )


def licence_in(readme: Path) -> str | None:
    """Return the licence that a model's card states, under the hub's name for it; None if there is none.

    >>> import mlm_recipes
    >>> licence_in(Path(mlm_recipes.__file__).parent / "bundled/models/mini" / "README.md")
    'apache-2.0'
    """
    try:
        stated = (metadata_load(readme) or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):  # no card, or unreadable metadata
        return None
    return stated if isinstance(stated, str) and _LICENCE.fullmatch(stated) and stated != "other" else None


def _source(source: str) -> str:
    """Return a source without its local folder: a card is public."""
    return Path(source).name if Path(source).is_absolute() else source


def _licence(train: Train) -> str | None:
    stated = train.get("model_licence")
    return stated if stated and not train["random_weights"] and _LICENCE.fullmatch(stated) else None


def _results(metrics: Metrics) -> list[EvalResult]:
    """Return the model's results on the held-out text, and on ordinary language."""
    few = measured_tokens(metrics)
    unsure = f", only a hint: {count(few, 'masked token')}" if few < FEW else ""
    texts: list[tuple[str, TextScores, str, str]] = []
    texts.append((metrics["corpus"]["name"], metrics["after"], "validation", unsure))
    if "general" in metrics["after"]:
        texts.append((metrics["corpus"]["general"], metrics["after"]["general"], "test", ""))
    return [*_text_results(texts), *_probe_results(metrics), *_similarity_results(metrics)]


def _probe_results(metrics: Metrics) -> list[EvalResult]:
    """Return how well a linear classifier on the model's frozen features does each probe, by cross-validation."""
    return [
        EvalResult(
            task_type="text-classification",
            task_name="Text classification (a linear classifier on frozen features)",
            dataset_type=_dataset_type(probe["source"], probe["name"]),
            dataset_name=probe["name"],
            dataset_split="cross-validation",
            metric_type=measure,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for probe in probes.probes_in(metrics)
        for measure, name, value in (
            ("accuracy", "accuracy", probe["accuracy"]["after"]),
            ("f1", "macro-F1", probe["macro_f1"]["after"]),
        )
    ]


def _similarity_results(metrics: Metrics) -> list[EvalResult]:
    """Return how well the vectors rank pairs and find documents; tasks as the hub names them, measures as MTEB does.

    MTEB: Muennighoff et al. 2023, arXiv:2210.07316.
    """
    found: list[tuple[str, str, PairProbe | SearchProbe]] = []
    for pairs in metrics.get("probe_pairs", []):
        task = "Pair classification" if pairs["kind"] == "match" else "Semantic textual similarity (STS)"
        found.append(("sentence-similarity", task, pairs))
    found += [("text-retrieval", "Retrieval", search) for search in metrics.get("probe_search", [])]
    return [
        EvalResult(
            task_type=kind,
            task_name=f"{task}, by the cosine of frozen mean-pooled vectors",
            dataset_type=_dataset_type("", probe["name"]),
            dataset_name=probe["name"],
            dataset_split="test",
            metric_type=_OF_MTEB[measure],
            metric_name=name,
            metric_value=round(values["after"], 4),
        )
        for kind, task, probe in found
        for measure, name, values in measured(probe)
    ]


def _dataset_type(source: str, name: str) -> str:
    """Return the hub's name of a data set, or that of any other text in its form."""
    on_hub = source.removeprefix("hub:").split(":")[0]
    if source.startswith("hub:") and _HUB_ID.fullmatch(on_hub):
        return on_hub
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "text"


def _text_results(texts: list[tuple[str, TextScores, str, str]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="fill-mask",
            task_name="Masked language modelling",
            dataset_type=_dataset_type("", name),
            dataset_name=name,
            dataset_split=split,
            metric_type=measure.replace("_", "-"),
            metric_name=label.name + hint,
            metric_value=round(float(found[measure]), 4),
        )
        for name, found, split, hint in texts
        for measure, label in LABELS.items()
        if measure in found and math.isfinite(found[measure])
    ]
