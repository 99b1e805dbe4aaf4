"""From the words of a command line to an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from ..report.printing import READER_LEFT, reader_has_left, say, take_any_letter
from ..sources.names import did_you_mean
from ..training.speed.gpu_allocator import use_expandable_segments
from .failures import TRACEBACK, failed, interrupted, shown_tracebacks
from .other_processes import leave_process_group
from .recipe_help import print_help
from .verb_kinds import RecipeVerb
from .verb_list import VERBS, make_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success. 1: `verify`, `inspect` or `compare` found a problem, or an error that nobody expected, whose traceback
    is in a file (`report/unexpected_error.py`). 2: an error that the user can fix. 3: the model is trained and saved,
    but something after that failed, as the run reported. 75: the run was stopped (SIGINT, SIGTERM, SIGUSR1) and has
    saved a checkpoint. 130: any other interruption. 141: nobody reads what is printed any more, as behind `| head`.

    With --traceback, or MLM_RECIPES_DEBUG=1 in the environment, Python shows an error's traceback.
    """
    take_any_letter()
    use_expandable_segments()
    given = list(sys.argv[1:] if arguments is None else arguments)
    with shown_tracebacks(TRACEBACK in given) as shown:
        return _run([word for word in given if word != TRACEBACK], shown)


def _run(given: list[str], tracebacks: bool) -> int:
    parser = make_parser()
    if not given:
        parser.print_help()
        return 0
    if not given[0].startswith("-") and given[0] not in VERBS:
        say(
            f"mlm-recipes: error: {given[0]!r} is not a command.{did_you_mean(given[0], VERBS)} Accepted: "
            f"{', '.join(VERBS)}. `mlm-recipes --help` describes them.",
            error=True,
        )
        return 2
    verb = VERBS.get(given[0])
    if isinstance(verb, RecipeVerb):
        run = partial(_run_recipe_verb, verb, given[1:])
    else:
        run = partial(_run_plain_verb, parser.parse_args(given))
    try:
        code = run()
        sys.stdout.flush()
        return code
    except Exception as error:
        return READER_LEFT if reader_has_left(error) else failed(error, given, tracebacks)
    except KeyboardInterrupt as interrupt:
        return interrupted(interrupt)
    finally:
        leave_process_group()


def _run_plain_verb(options: argparse.Namespace) -> int:
    return options.run(options) or 0


def _run_recipe_verb(verb: RecipeVerb, rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        print_help(verb.usage)
        return 0
    return verb.run(rest)
