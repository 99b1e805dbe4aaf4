"""The verbs that list what comes with the library: corpora, models."""

from __future__ import annotations

import argparse
import json

from .verb_kinds import PlainVerb


def _corpora(options: argparse.Namespace) -> None:
    from ..data.corpus_name import known_corpora

    for name, facts in known_corpora().items():
        origin = "downloaded on first use" if "url" in facts else "bundled"
        print(
            f"{name:18} {facts['paragraphs']:>5} paragraphs  {facts['words']:>7,} words  {facts['licence']}, {origin}"
        )
        print(f"{'':18} {facts['title']}")
    print("\nAlso: a file (text, JSON Lines, CSV, Parquet ...), a folder, a pattern, a URL, or a hub id owner/name.")


def _models(options: argparse.Namespace) -> None:
    from ..model.loading import has_weights
    from ..sources.model_folder import built_in_models, model_folder

    for name in built_in_models():
        config = json.loads((model_folder(name) / "config.json").read_text("utf-8"))
        shape = f"{config['num_hidden_layers']} layers x {config['hidden_size']}, {config['model_type']}"
        start = "trained weights" if has_weights(name) else "random weights; its tokenizer is trained on the corpus"
        print(f"{name:18} {shape}, {start}")
    print("\nAlso: a local folder, or a hub id such as google-bert/bert-base-uncased.")


CORPORA = PlainVerb("list the corpora available by name", _corpora)
MODELS = PlainVerb("list the built-in models", _models)
