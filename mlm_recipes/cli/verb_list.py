"""Every verb, in the order in which `mlm-recipes --help` lists them, and the parser that shows them."""

from __future__ import annotations

import argparse

from .. import __version__
from . import corpus_verbs, listing_verbs, model_verbs, plan_verb, report_verbs, run_verbs
from .failures import TRACEBACK
from .verb_kinds import PlainVerb, RecipeVerb

EXAMPLES = """\
examples:
  mlm-recipes train                                   the quickstart: about a minute, no download
  mlm-recipes inspect notes.txt                       what will happen to your text, before you train on it
  mlm-recipes train --corpus notes.txt                your own text; docs/text.md lists the other formats
  mlm-recipes train recipes/adapt.yaml --corpus notes.txt
                                                      continue training bert-base-uncased on it
  mlm-recipes train runs/meditations --resume_from_checkpoint true
                                                      resume an interrupted run
  mlm-recipes evaluate runs/meditations               measure a finished run again
  mlm-recipes compare runs/meditations runs/meditations-2
                                                      two runs side by side
  mlm-recipes fill runs/meditations "The [MASK] of man."
  mlm-recipes demo runs/meditations                   a local page to try the model, before and after training
  mlm-recipes prepare texts/ --model google-bert/bert-base-uncased --out shards/
                                                      tokenize a large text once
  mlm-recipes finetune runs/meditations --on reviews.csv
                                                      fine-tune before and after on your labels
  mlm-recipes export runs/meditations --quantize int8
                                                      as ONNX, and smaller for CPUs
  mlm-recipes plan --params 110M --tokens 2B --gpus 8 what pretraining on GPUs would take: time, memory, cost
  mlm-recipes train --help                            every value a recipe can set
"""

VERBS: dict[str, RecipeVerb | PlainVerb] = {
    "train": run_verbs.TRAIN,
    "reference": run_verbs.REFERENCE,
    "evaluate": run_verbs.EVALUATE,
    "inspect": corpus_verbs.INSPECT,
    "vocab": corpus_verbs.VOCAB,
    "prepare": corpus_verbs.PREPARE,
    "verify": run_verbs.VERIFY,
    "fill": model_verbs.FILL,
    "demo": model_verbs.DEMO,
    "report": report_verbs.REPORT,
    "compare": report_verbs.COMPARE,
    "export": model_verbs.EXPORT,
    "plan": plan_verb.PLAN,
    "finetune": model_verbs.FINETUNE,
    "corpora": listing_verbs.CORPORA,
    "models": listing_verbs.MODELS,
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of everything but the words of a recipe's verb."""
    parser = argparse.ArgumentParser(
        prog="mlm-recipes",
        description="Continue training a masked-language model on your text, and measure the improvement.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(TRACEBACK, action="store_true", help="after any verb: show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"mlm-recipes {__version__}")
    parsers = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, verb in VERBS.items():
        own = parsers.add_parser(name, help=verb.what, allow_abbrev=False)
        if isinstance(verb, PlainVerb):
            own.set_defaults(run=verb.run)
            if verb.add_arguments is not None:
                verb.add_arguments(own)
    return parser
