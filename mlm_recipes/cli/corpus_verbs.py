"""The verbs that read a corpus and train nothing: inspect, vocab, prepare."""

from __future__ import annotations

import argparse
from typing import Any

from .screen import quiet_libraries, shown
from .verb_kinds import RecipeVerb


def _inspect(rest: list[str]) -> int:
    parser = _parser("inspect")
    parser.add_argument("--output")
    parser.add_argument("--no_timing", action="store_true")
    own, values = _parsed(parser, rest)
    from ..data.prepared_corpus import names_prepared
    from ..recipes.inspection import inspect_corpus, refuse_to_replace

    if names_prepared(str(values.get("corpus", ""))):
        if len(values) > 1 or own.recipe is not None or own.output is not None:
            raise ValueError(
                "inspect: received more than the name of a prepared corpus. Accepted: its name alone, since its rows "
                "were made before. Leave the rest out."
            )
        from ..recipes.prepared_inspection import inspect_prepared

        checked = inspect_prepared(values["corpus"])
        print(shown(f"\n{checked}"))
        return 0 if checked.ok else 1
    if own.output is not None:
        refuse_to_replace(own.output)  # checked before the work starts
    result = inspect_corpus(own.recipe, timing=not own.no_timing, **values)
    print(shown(f"\n{result}\n\nAll figures are in {result.write(own.output)}"))
    return 0 if result.ok else 1


def _vocab(rest: list[str]) -> int:
    parser = _parser("vocab")
    parser.add_argument("--output")
    parser.add_argument("--add", type=int, default=500)
    parser.add_argument("--at_least", type=int, default=3)
    own, values = _parsed(parser, rest)
    from ..recipes.vocabulary_proposal import propose_vocabulary

    print(shown(f"\n{propose_vocabulary(**vars(own), **values)}"))
    return 0


def _prepare(rest: list[str]) -> int:
    parser = _parser("prepare")
    parser.add_argument("--out")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--shard_characters", type=int, default=256_000_000)
    own, values = _parsed(parser, rest)
    from ..recipes.prepare_corpus import prepare_corpus

    if own.out is None:
        raise ValueError("out: received nothing. Accepted: a new folder for the shards. Pass --out shards/.")
    print(shown(f"\n{prepare_corpus(**vars(own), **values)}"))
    return 0


def _parser(verb: str) -> argparse.ArgumentParser:
    """Return a parser of the verb's own flags; each of these verbs has --recipe."""
    parser = argparse.ArgumentParser(prog=f"mlm-recipes {verb}", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    return parser


def _parsed(parser: argparse.ArgumentParser, rest: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return the parser's own flags, and the values of a run; the first word may be the corpus."""
    corpus = {"corpus": rest.pop(0)} if rest and (rest[0] == "-" or not rest[0].startswith("-")) else {}
    own, rest = parser.parse_known_args(rest)
    quiet_libraries()
    from ..recipes.arguments import parse_arguments

    values = parse_arguments(rest)
    if corpus and "corpus" in values:
        raise ValueError(
            f"corpus: received {corpus['corpus']!r} and --corpus {values['corpus']!r}. Accepted: one of them. Leave "
            "the other out."
        )
    return own, values | corpus


INSPECT = RecipeVerb(
    "show what will happen to a text before you train on it",
    """\
usage: mlm-recipes inspect [CORPUS] [--recipe RECIPE] [--output FILE] [--no_timing] [--name value ...]

CORPUS: as for --corpus. RECIPE: {RECIPE}
Trains nothing. Prints a page and writes FILE, by default runs/CORPUS-inspection.json; an earlier
inspection is replaced. --no_timing: do not time any steps. Exit code 1 if training could not start.""",
    _inspect,
)
VOCAB = RecipeVerb(
    "propose words of a text that should become tokens of a model",
    """\
usage: mlm-recipes vocab [CORPUS] [--add N] [--at_least N] [--output FILE] [--name value ...]

Proposes the words of CORPUS that would save most tokens if each were one token of --model: --add of
them (500), each in --at_least paragraphs of the training text (3). Prints a table, and writes FILE, by
default runs/CORPUS-words.txt: one word per line, for train --add_tokens FILE. Edit it as you like.""",
    _vocab,
)
PREPARE = RecipeVerb(
    "tokenize a text once, into shards that runs read, on any number of machines",
    """\
usage: mlm-recipes prepare [CORPUS] --out DIR [--shard I/N] [--shard_characters N] [--recipe RECIPE] [--name value ...]

Tokenizes CORPUS for --model into shards, for `mlm-recipes train --corpus DIR`. --shard I/N: only the
I-th of N shares, so that N machines prepare a text together; none waits for another. Run it again after
an interruption: complete shards are kept. --shard_characters: how much text is in one (256000000).""",
    _prepare,
)
