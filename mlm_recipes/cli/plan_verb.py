"""The verb plan: what pretraining on GPUs would take."""

from __future__ import annotations

import argparse
import json

from ..recipes.cluster.cluster_request import add_arguments, request_of
from .screen import shown
from .verb_kinds import PlainVerb

#: What argparse keeps beside the options of a plan.
_NOT_OF_A_PLAN = ("json", "run", "traceback", "verb")


def _plan_arguments(verb: argparse.ArgumentParser) -> None:
    add_arguments(verb)
    verb.add_argument("--json", action="store_true", help="print the plan as JSON")


def _plan(options: argparse.Namespace) -> None:
    from ..recipes.cluster.cluster_plan import plan_cluster

    asked = {name: value for name, value in vars(options).items() if name not in _NOT_OF_A_PLAN}
    plan = plan_cluster(request_of(asked))
    print(json.dumps(plan.to_json(), indent=2) if options.json else shown(plan))


PLAN = PlainVerb("say what pretraining on GPUs would take", _plan, _plan_arguments)
