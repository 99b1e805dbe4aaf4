"""The command line: verbs and parsing only; the work is in recipes.py.

Nothing heavy is imported up here, so that `mlm-recipes --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .report.screen import say, take_any_letter
from .sources.credentials import without_credentials
from .sources.escaping import terminal
from .training import not_made
from .training.not_made import NotMadeError

EXAMPLES = """\
examples:
  mlm-recipes train                                   the quickstart: about a minute, no download
  mlm-recipes inspect notes.txt                       what will happen to your text, before you train on it
  mlm-recipes train --corpus notes.txt                your own text; docs/text.md says what else it takes
  mlm-recipes train recipes/adapt.yaml --corpus notes.txt
                                                      continue training bert-base-uncased on it
  mlm-recipes train runs/meditations --resume_from_checkpoint true
                                                      go on with an interrupted run
  mlm-recipes evaluate runs/meditations               measure a finished run once more
  mlm-recipes compare runs/meditations runs/meditations-2
                                                      two runs side by side
  mlm-recipes fill runs/meditations "The [MASK] of man."
  mlm-recipes demo runs/meditations                   a page to try it on, before and after side by side
  mlm-recipes train --help                            every value a recipe can set
"""

RECIPE_VERBS = {
    "train": "train a model, and measure it before and after",
    "reference": "run the tutorial's own loop, in plain torch",
    "evaluate": "measure a model on held-out text",
    "inspect": "what will happen to a text: before you train on it",
    "verify": "check a recipe's numbers: accumulation, masks, evaluation, kill and resume",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0; 1 for what `verify`, `inspect`, `compare` find; 2: can be mended.

    3 for a run whose model is trained and on the disk, but which lacks something that follows, as it said. 75 for one
    that was told to stop (SIGINT, SIGTERM, SIGUSR1) and has saved a checkpoint; 130 for any other that was interrupted.

    With MLM_RECIPES_DEBUG=1 in the environment an error keeps its traceback.
    """
    take_any_letter()
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given:
        parser.print_help()
        return 0
    # What follows these verbs is a recipe and the recipe's values, some 130 of them: config.py knows those.
    verb = None if given[0] in RECIPE_VERBS else parser.parse_args(given)
    try:
        if verb is None:
            return _inspect(given[1:]) if given[0] == "inspect" else _recipe_verb(given[0], given[1:])
        return verb.run(verb) or 0
    except (ValueError, OSError, MemoryError, NotMadeError) as error:
        if os.environ.get("MLM_RECIPES_DEBUG") == "1":
            raise
        if os.environ.get("RANK", "0") == "0":  # one process of many speaks for all
            say(f"mlm-recipes: error: {_shown(error)}", error=True)
        return not_made.EXIT_CODE if isinstance(error, NotMadeError) else 2
    except KeyboardInterrupt as interrupt:
        said = str(interrupt)  # what mlm_recipes.training.signals.Interrupted says: a checkpoint is saved
        if os.environ.get("RANK", "0") == "0":
            say(f"mlm-recipes: {said or 'interrupted'}", error=True)
        if not said:
            return 130
        from .training.signals import EXIT_CODE

        return EXIT_CODE
    finally:
        _leave_process_group()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlm-recipes",
        description="Teach a masked-language model the language of your text, and show that it learned it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mlm-recipes {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    for name, what in RECIPE_VERBS.items():
        verbs.add_parser(name, help=what)

    verb = verbs.add_parser("fill", help="fill the [MASK]s of a sentence", allow_abbrev=False)
    verb.add_argument("model", help="a run folder, another local folder, or a hub id")
    verb.add_argument("prompts", nargs="+", metavar="PROMPT", help='a sentence such as "The [MASK] of man."')
    verb.add_argument("--top_k", type=int, default=5, help="how many tokens to show (default: %(default)s)")
    verb.add_argument("--trust_remote_code", metavar="NAME", help="the model's name, if its own code may be run here")
    verb.set_defaults(run=_fill)
    verb = verbs.add_parser("demo", help="a page on this machine to try a run, before and after", allow_abbrev=False)
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.add_argument("--port", type=int, help="of 127.0.0.1 (default: the first free one from 7860 on)")
    verb.set_defaults(run=_demo)
    verb = verbs.add_parser("report", help="draw report.html and README.md of a run again", allow_abbrev=False)
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.set_defaults(run=_report)
    verb = verbs.add_parser("compare", help="lay runs side by side", allow_abbrev=False)
    verb.add_argument("folders", nargs="+", metavar="RUN", help="run folders, such as runs/meditations; two or more")
    verb.add_argument("--output", metavar="FILE", help="write a page there too, such as compare.html")
    verb.set_defaults(run=_compare)
    verbs.add_parser("corpora", help="list the corpora known by name").set_defaults(run=_corpora)
    verbs.add_parser("models", help="list the models built in").set_defaults(run=_models)
    return parser


def _recipe_verb(verb: str, rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values(verb)
        return 0
    _quiet_libraries()
    import mlm_recipes

    from .recipes.arguments import parse_arguments

    recipe = [rest.pop(0)] if rest and not rest[0].startswith("-") else []  # else the function's own default
    result = getattr(mlm_recipes, verb)(*recipe, **parse_arguments(rest))
    if os.environ.get("RANK", "0") != "0":
        return 0  # it has nothing to show, and the main process may be at work still: an error code would end that
    if not isinstance(result, mlm_recipes.RunResult) or result.output_dir is None:
        print(f"\n{_shown(result)}")
        return 1 if verb == "verify" and not result.ok else 0
    lacking = not_made.NotMade(result.output_dir)
    with lacking.noting("the last screen", f"Its figures are in {result.output_dir / 'metrics.json'}."):
        say(f"\n{_shown(result)}")
    return not_made.EXIT_CODE if lacking.entries or result.not_made else 0


def _inspect(rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values("inspect")
        return 0
    corpus = {"corpus": rest.pop(0)} if rest and (rest[0] == "-" or not rest[0].startswith("-")) else {}
    parser = argparse.ArgumentParser(prog="mlm-recipes inspect", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--output")
    parser.add_argument("--no_timing", action="store_true")
    own, rest = parser.parse_known_args(rest)
    _quiet_libraries()
    from .recipes.arguments import parse_arguments
    from .recipes.inspection import inspect_corpus, refuse_to_replace

    values = parse_arguments(rest)
    if corpus and "corpus" in values:
        raise ValueError(
            f"corpus: received {corpus['corpus']!r} and --corpus {values['corpus']!r}. Accepted: one of them. Leave "
            "the other out."
        )
    if own.output is not None:
        refuse_to_replace(own.output)  # here it comes before the work
    result = inspect_corpus(own.recipe, timing=not own.no_timing, **values, **corpus)
    print(_shown(f"\n{result}\n\nAll figures are in {result.write(own.output)}"))
    return 0 if result.ok else 1


def _fill(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from .recipes.evaluate import fill

    filled = fill(options.model, options.prompts, options.top_k, options.trust_remote_code)
    for prompt, masks in zip(options.prompts, filled, strict=True):
        print(_shown(prompt))
        for number, guesses in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"  mask {number}")
            for token, probability in guesses:
                print(_shown(f"  {probability:6.1%}  {token}"))


def _demo(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from .recipes.demo import serve

    serve(options.folder, options.port)


def _report(options: argparse.Namespace) -> None:
    from .report.run_report import write

    for path in write(options.folder):
        print(_shown(path))


def _compare(options: argparse.Namespace) -> int:
    from .report.side_by_side import compare_runs

    found = compare_runs(options.folders)
    print(_shown(found))
    if options.output is not None:
        page = Path(options.output)
        if page.suffix != ".html":
            raise ValueError(f"--output: received {options.output!r}. Accepted: a name that ends in .html.")
        page.write_text(found.html(), encoding="utf-8")
        print(_shown(f"\nThe same as a page: {page}"))
    return 0 if found.comparable else 1


def _corpora(options: argparse.Namespace) -> None:
    from .data.text_source import known_corpora

    for name, facts in known_corpora().items():
        origin = "fetched when asked for" if "url" in facts else "bundled"
        print(
            f"{name:18} {facts['paragraphs']:>5} paragraphs  {facts['words']:>7,} words  {facts['licence']}, {origin}"
        )
        print(f"{'':18} {facts['title']}")
    print("\nOr a file (text, JSON lines, CSV, Parquet ...), a folder, a pattern, an address, or a hub id owner/name.")


def _models(options: argparse.Namespace) -> None:
    from .model.loading import has_weights
    from .sources.model_folder import built_in_models, model_folder

    for name in built_in_models():
        config = json.loads((model_folder(name) / "config.json").read_text("utf-8"))
        shape = f"{config['num_hidden_layers']} layers x {config['hidden_size']}, {config['model_type']}"
        start = "trained weights" if has_weights(name) else "random weights; learns its tokenizer from the corpus"
        print(f"{name:18} {shape}, {start}")
    print("\nOr a local folder, or a hub id such as google-bert/bert-base-uncased.")


def _print_values(verb: str) -> None:
    from .recipes.arguments import bundled_recipes
    from .training.config import MLMConfig, field_names, own_fields

    recipe = f"a YAML file, a run folder, or one of {', '.join(bundled_recipes())}."
    if verb == "inspect":
        flags = "[--recipe RECIPE] [--output FILE] [--no_timing]"
        print(f"usage: mlm-recipes inspect [CORPUS] {flags} [--name value ...]\n")
        print("CORPUS: as for --corpus. RECIPE: " + recipe)
        print("Trains nothing; prints a page and writes FILE, by default runs/CORPUS-inspection.json, where an earlier")
        print("inspection is replaced. --no_timing: do not time a few steps. Exit code 1 if training would not start.")
    else:
        print(f"usage: mlm-recipes {verb} [RECIPE] [--name value ...]\n")
        print("RECIPE: " + recipe)
    if verb == "verify":
        print(
            "Trains a few steps on ten of its paragraphs, in a minute or so, and prints what was found: the batch whole"
        )
        print("and split, padding, masks, order, evaluation, killed and resumed. Exit code 1 if a property fails.")
    print("Then any value of the recipe, which it replaces; a recipe's values replace the defaults shown here:\n")
    own, ours = own_fields(), MLMConfig.__annotations__
    for name, item in own.items():
        print(f"  --{name:22} {item.metadata['help']} (default: {item.default})")
    print("\nand every field of transformers' TrainingArguments:\n")
    for name in field_names():
        if name not in own:
            what = MLMConfig.__dataclass_fields__[name].metadata.get("help", "") if name in ours else ""
            print(f"  --{name:36} {what}{' ' if what else ''}(default: {getattr(MLMConfig, name, None)})")


def _quiet_libraries() -> None:
    """Show what this library says, and of the others only warnings: not a bar for each file that is read."""
    # Only while nothing has been said about it: a person's own settings win.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Nor is anyone told: datasets has each load counted at s3.amazonaws.com, huggingface_hub asks who is calling.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow, where it is the tracker, tells its makers
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    log = logging.getLogger("mlm_recipes")
    if not log.handlers:
        log.addHandler(_Screen())
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)


class _Screen(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.levelno >= logging.ERROR
        say(f"{'mlm-recipes: error: ' if error else ''}{_shown(self.format(record))}", error)


def _shown(what: object) -> str:
    """Return text as it may be printed: nothing in it commands the terminal, and no address shows its credentials."""
    return terminal(without_credentials(str(what)))


def _leave_process_group() -> None:
    if "torch" in sys.modules:
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
