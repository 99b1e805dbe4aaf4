"""The command line: verbs and argument parsing only; `mlm_recipes.recipes` does the work.

Nothing heavy is imported at module level, so that `mlm-recipes --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import __version__
from .recipes.cluster.cluster_request import add_arguments, request_of
from .report.printing import say, take_any_letter
from .sources.credentials import without_credentials
from .sources.escaping import first_line, terminal
from .sources.missing_packages import missing_package
from .sources.names import did_you_mean
from .training.faults import tolerated_failures
from .training.faults.tolerated_failures import NotMadeError
from .training.speed.gpu_allocator import use_expandable_segments

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

#: The flag of every verb, and the variable of the environment, that show an error's traceback.
TRACEBACK, DEBUG = "--traceback", "MLM_RECIPES_DEBUG"

#: What argparse keeps beside the options of `plan`.
_NOT_OF_A_PLAN = ("json", "run", "traceback", "verb")

RECIPE_VERBS = {
    "train": "train a model, and measure it before and after",
    "reference": "run the tutorial's own loop, in plain torch",
    "evaluate": "measure a model on held-out text",
    "inspect": "show what will happen to a text before you train on it",
    "vocab": "propose words of a text that should become tokens of a model",
    "prepare": "tokenize a text once, into shards that runs read, on any number of machines",
    "verify": "check a recipe's numbers: accumulation, masks, evaluation, kill and resume",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success. 1: `verify`, `inspect` or `compare` found a problem, or an error that nobody expected, whose traceback
    is in a file (`report/unexpected_error.py`). 2: an error that the user can fix. 3: the model is trained and saved,
    but something after that failed, as the run reported. 75: the run was stopped (SIGINT, SIGTERM, SIGUSR1) and has
    saved a checkpoint. 130: any other interruption.

    With --traceback, or MLM_RECIPES_DEBUG=1 in the environment, Python shows an error's traceback.
    """
    take_any_letter()
    use_expandable_segments()
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _shown_tracebacks(TRACEBACK in given) as shown:
        return _run([word for word in given if word != TRACEBACK], shown)


def _run(given: list[str], tracebacks: bool) -> int:
    parser, known = _parser()
    if not given:
        parser.print_help()
        return 0
    if not given[0].startswith("-") and given[0] not in known:
        say(
            f"mlm-recipes: error: {given[0]!r} is not a command.{did_you_mean(given[0], known)} Accepted: "
            f"{', '.join(known)}. `mlm-recipes --help` describes them.",
            error=True,
        )
        return 2
    # These verbs take a recipe and its values, some 130 of them, which training/config.py defines.
    verb = None if given[0] in RECIPE_VERBS else parser.parse_args(given)
    try:
        if verb is None:
            own = {"inspect": _inspect, "vocab": _vocab, "prepare": _prepare}.get(given[0])
            return own(given[1:]) if own is not None else _recipe_verb(given[0], given[1:])
        return verb.run(verb) or 0
    except Exception as error:
        return _failed(error, given, tracebacks)
    except KeyboardInterrupt as interrupt:
        said = str(interrupt)  # set by mlm_recipes.training.faults.stop_signals.Interrupted: a checkpoint was saved
        if not said:
            told, code = _told_to_all("interrupted", 130)
            if told is not None:
                say(f"mlm-recipes: {told}", error=True)
            return code
        if os.environ.get("RANK", "0") == "0":
            say(f"mlm-recipes: {said}", error=True)
        from .training.faults.stop_signals import EXIT_CODE

        return EXIT_CODE
    finally:
        _leave_process_group()


def _failed(error: Exception, given: Sequence[str], tracebacks: bool) -> int:
    """Print an error, tell the other processes of it, if there are any, and return the exit code."""
    told = None if isinstance(error, NotMadeError) else _caused_elsewhere(error)
    if told is None:
        message, code = _for_the_user(error), 2
        if isinstance(error, NotMadeError):
            code = tolerated_failures.EXIT_CODE
        if message is None:
            message, code = _unexpected(error, given, write=not tracebacks), 1
        told = _told_to_all(message, code)
    if tracebacks:
        raise error
    if told[0] is not None:
        say(f"mlm-recipes: error: {_shown(told[0])}", error=True)
    if _several():
        from .training.distributed.failing_together import leave

        leave()
    return told[1]


def _caused_elsewhere(error: BaseException) -> tuple[str | None, int] | None:
    """Return what this process prints of another one's failure, and its exit code; None if the error is its own."""
    if not _several():
        return None
    from .training.distributed.failing_together import caused_elsewhere

    return caused_elsewhere(error)


def _told_to_all(message: str, code: int) -> tuple[str | None, int]:
    """Tell the other processes of this one's error; return what it prints, and its exit code."""
    if not _several():
        return message, code
    from .training.distributed.failing_together import own_failure

    return own_failure(message, code)


def _several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _for_the_user(error: Exception) -> str | None:
    """Return the message of an error that the user can fix, or that the run has explained; None for any other.

    Not the error itself: the caller's frame, which is in its traceback, would keep it and what it holds alive.
    """
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:  # Python's own
        return (
            f"{error.filename}: {error.strerror}. Accepted: files and folders that this user may read and write, on a "
            "disk with enough space. Check the path and its permissions."
        )
    if isinstance(error, ValueError | OSError | MemoryError | NotMadeError):
        return str(error)
    if isinstance(error, ImportError):
        missing = missing_package(error, "this command", "Accepted: values for which no other package is needed.")
        return None if missing is None else str(missing)
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from .training.faults.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            return (
                f"memory: {first_line(error)}. Accepted: a run that fits into this machine's memory. Lower "
                "--per_device_train_batch_size, --per_device_eval_batch_size or --max_length, or take a smaller model."
            )
    return None


def _unexpected(error: Exception, given: Sequence[str], write: bool) -> str:
    """Keep the traceback of an error that nobody expected, if asked to `write` it, and return a sentence about it.

    Every process does this, since one may fail alone.
    """
    from .report.unexpected_error import keep, sentence

    if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun's agent reads the first process's error from there
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        with suppress(OSError):
            get_error_handler().record_exception(error)
    return sentence(error, keep(error, given) if write else None)


@contextmanager
def _shown_tracebacks(asked: bool) -> Iterator[bool]:
    """Within `with`, show the tracebacks of tolerated failures too, if `asked`; yield whether they are shown."""
    before = os.environ.get(DEBUG)
    if asked:
        os.environ[DEBUG] = "1"
    try:
        yield os.environ.get(DEBUG) == "1"
    finally:
        if asked:
            os.environ.pop(DEBUG)
            os.environ |= {} if before is None else {DEBUG: before}


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser, and the names of all commands."""
    parser = argparse.ArgumentParser(
        prog="mlm-recipes",
        description="Continue training a masked-language model on your text, and measure the improvement.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(TRACEBACK, action="store_true", help="after any verb: show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"mlm-recipes {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")

    for name, what in RECIPE_VERBS.items():
        verbs.add_parser(name, help=what)

    verb = verbs.add_parser("fill", help="fill the [MASK]s of a sentence", allow_abbrev=False)
    verb.add_argument("model", help="a run folder, another local folder, or a hub id")
    verb.add_argument("prompts", nargs="+", metavar="PROMPT", help='a sentence such as "The [MASK] of man."')
    verb.add_argument("--top_k", type=int, default=5, help="how many tokens to show (default: %(default)s)")
    verb.add_argument("--tokenizer", metavar="NAME", help="a folder or a hub id (default: the model's own)")
    verb.add_argument("--trust_remote_code", metavar="NAME", help="the model's name, to allow its own code to run")
    verb.set_defaults(run=_fill)
    verb = verbs.add_parser("demo", help="try a run's model on a local page, before and after", allow_abbrev=False)
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free one from 7860)")
    verb.set_defaults(run=_demo)
    verb = verbs.add_parser("report", help="write a run's report.html and README.md again", allow_abbrev=False)
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.set_defaults(run=_report)
    verb = verbs.add_parser("compare", help="show runs side by side", allow_abbrev=False)
    verb.add_argument("folders", nargs="+", metavar="RUN", help="two or more run folders, such as runs/meditations")
    verb.add_argument("--output", metavar="FILE", help="also write an HTML page, such as compare.html")
    verb.set_defaults(run=_compare)
    verb = verbs.add_parser("export", help="write a run's model as ONNX, and check it", allow_abbrev=False)
    verb.add_argument("folder", metavar="RUN", help="a run folder, another local folder, or a hub id")
    verb.add_argument("--to", default="onnx", help="the format: onnx (default: %(default)s)")
    verb.add_argument("--output", metavar="DIR", help="a new or empty folder (default: onnx in the run folder)")
    verb.add_argument("--quantize", metavar="KIND", help="int8: also a smaller file for CPUs, and what it costs")
    verb.add_argument("--prompts", metavar="FILE", help="sentences with one [MASK] each, to compare on")
    verb.set_defaults(run=_export)
    verb = verbs.add_parser("plan", help="say what pretraining on GPUs would take", allow_abbrev=False)
    add_arguments(verb)
    verb.add_argument("--json", action="store_true", help="print the plan as JSON")
    verb.set_defaults(run=_plan)
    verb = verbs.add_parser(
        "finetune", help="fine-tune a run's model before and after, and compare", allow_abbrev=False
    )
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.add_argument("--on", required=True, metavar="TABLE", help="texts with labels, such as reviews.csv")
    verb.add_argument(
        "--against", default="before", metavar="MODEL", help="before, or another model (default: %(default)s)"
    )
    verb.add_argument(
        "--seeds", type=int, default=5, help="fine-tunings of each model, 5 or more (default: %(default)s)"
    )
    verb.add_argument("--max_steps", type=int, help="of each fine-tuning (default: 3 epochs, at least 300 steps)")
    verb.add_argument("--batch_size", type=int, default=16, help="texts per step (default: %(default)s)")
    verb.add_argument("--learning_rate", type=float, help="(default: by the model's size, from 2e-5 to 3e-4)")
    verb.add_argument("--max_length", type=int, help="tokens per text (default: 512, or what the models take)")
    verb.add_argument("--text_column", metavar="NAME", help="the column of texts (default: chosen)")
    verb.add_argument("--label_column", metavar="NAME", help="the column of labels (default: chosen)")
    verb.add_argument("--encoding", default="utf-8", help="of a text file (default: %(default)s)")
    verb.set_defaults(run=_finetune)
    verbs.add_parser("corpora", help="list the corpora available by name").set_defaults(run=_corpora)
    verbs.add_parser("models", help="list the built-in models").set_defaults(run=_models)
    return parser, list(verbs.choices)


def _recipe_verb(verb: str, rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values(verb)
        return 0
    _quiet_libraries()
    import mlm_recipes

    from .recipes.arguments import parse_arguments, refuse_value_name

    recipe = [rest.pop(0)] if rest and not rest[0].startswith("-") else []  # otherwise the function's default
    for name in recipe:
        refuse_value_name(name)
    if _several():
        _end_with_the_others()
    result = getattr(mlm_recipes, verb)(*recipe, **parse_arguments(rest))
    if os.environ.get("RANK", "0") != "0":
        return 0  # nothing to show; an error code would end the main process, which may still be working
    if not isinstance(result, mlm_recipes.RunResult) or result.output_dir is None:
        print(f"\n{_shown(result)}")
        return 1 if verb == "verify" and not result.ok else 0
    lacking = tolerated_failures.NotMade(result.output_dir)
    with lacking.noting("the last screen", f"Its figures are in {result.output_dir / 'metrics.json'}."):
        say(f"\n{_shown(result)}")
    return tolerated_failures.EXIT_CODE if lacking.entries or result.not_made else 0


def _end_with_the_others() -> None:
    """Let the failure of another process end this one."""
    from .training.distributed.failing_together import end_with

    def end(message: str | None, code: int, leave: Callable[[], None]) -> None:
        if message is not None:
            say(f"mlm-recipes: error: {_shown(message)}", error=True)
        leave()
        os._exit(code)  # the main thread waits for the other process, and runs no Python

    end_with(end)


def _inspect(rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values("inspect")
        return 0
    parser = argparse.ArgumentParser(prog="mlm-recipes inspect", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--output")
    parser.add_argument("--no_timing", action="store_true")
    own, values = _with_corpus(parser, rest)
    from .data.prepared_corpus import names_prepared
    from .recipes.inspection import inspect_corpus, refuse_to_replace

    if names_prepared(str(values.get("corpus", ""))):
        if len(values) > 1 or own.recipe is not None or own.output is not None:
            raise ValueError(
                "inspect: received more than the name of a prepared corpus. Accepted: its name alone, since its rows "
                "were made before. Leave the rest out."
            )
        from .recipes.prepared_inspection import inspect_prepared

        checked = inspect_prepared(values["corpus"])
        print(_shown(f"\n{checked}"))
        return 0 if checked.ok else 1
    if own.output is not None:
        refuse_to_replace(own.output)  # checked before the work starts
    result = inspect_corpus(own.recipe, timing=not own.no_timing, **values)
    print(_shown(f"\n{result}\n\nAll figures are in {result.write(own.output)}"))
    return 0 if result.ok else 1


def _vocab(rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values("vocab")
        return 0
    parser = argparse.ArgumentParser(prog="mlm-recipes vocab", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--output")
    parser.add_argument("--add", type=int, default=500)
    parser.add_argument("--at_least", type=int, default=3)
    own, values = _with_corpus(parser, rest)
    from .recipes.vocabulary_proposal import propose_vocabulary

    print(_shown(f"\n{propose_vocabulary(**vars(own), **values)}"))
    return 0


def _prepare(rest: list[str]) -> int:
    if "-h" in rest or "--help" in rest:
        _print_values("prepare")
        return 0
    parser = argparse.ArgumentParser(prog="mlm-recipes prepare", add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe")
    parser.add_argument("--out")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--shard_characters", type=int, default=256_000_000)
    own, values = _with_corpus(parser, rest)
    from .recipes.prepare_corpus import prepare_corpus

    if own.out is None:
        raise ValueError("out: received nothing. Accepted: a new folder for the shards. Pass --out shards/.")
    print(_shown(f"\n{prepare_corpus(**vars(own), **values)}"))
    return 0


def _with_corpus(parser: argparse.ArgumentParser, rest: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return the parser's own flags, and the values of a run; the first word may be the corpus."""
    corpus = {"corpus": rest.pop(0)} if rest and (rest[0] == "-" or not rest[0].startswith("-")) else {}
    own, rest = parser.parse_known_args(rest)
    _quiet_libraries()
    from .recipes.arguments import parse_arguments

    values = parse_arguments(rest)
    if corpus and "corpus" in values:
        raise ValueError(
            f"corpus: received {corpus['corpus']!r} and --corpus {values['corpus']!r}. Accepted: one of them. Leave "
            "the other out."
        )
    return own, values | corpus


def _fill(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from .recipes.evaluate import fill

    filled = fill(options.model, options.prompts, options.top_k, options.trust_remote_code, options.tokenizer)
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


def _export(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from .recipes.export import export

    print(_shown(export(options.folder, options.to, options.output, options.quantize, options.prompts)))


def _finetune(options: argparse.Namespace) -> None:
    _quiet_libraries()
    from .recipes.finetune import finetune

    values = {
        name: value for name, value in vars(options).items() if name not in ("verb", "run", "traceback", "folder")
    }
    say(f"\n{_shown(finetune(options.folder, **values))}")


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
        print(_shown(f"\nAlso written as a page: {page}"))
    return 0 if found.comparable else 1


def _plan(options: argparse.Namespace) -> None:
    from .recipes.cluster.cluster_plan import plan_cluster

    asked = {name: value for name, value in vars(options).items() if name not in _NOT_OF_A_PLAN}
    plan = plan_cluster(request_of(asked))
    print(json.dumps(plan.to_json(), indent=2) if options.json else _shown(plan))


def _corpora(options: argparse.Namespace) -> None:
    from .data.corpus_name import known_corpora

    for name, facts in known_corpora().items():
        origin = "downloaded on first use" if "url" in facts else "bundled"
        print(
            f"{name:18} {facts['paragraphs']:>5} paragraphs  {facts['words']:>7,} words  {facts['licence']}, {origin}"
        )
        print(f"{'':18} {facts['title']}")
    print("\nAlso: a file (text, JSON Lines, CSV, Parquet ...), a folder, a pattern, a URL, or a hub id owner/name.")


def _models(options: argparse.Namespace) -> None:
    from .model.loading import has_weights
    from .sources.model_folder import built_in_models, model_folder

    for name in built_in_models():
        config = json.loads((model_folder(name) / "config.json").read_text("utf-8"))
        shape = f"{config['num_hidden_layers']} layers x {config['hidden_size']}, {config['model_type']}"
        start = "trained weights" if has_weights(name) else "random weights; its tokenizer is trained on the corpus"
        print(f"{name:18} {shape}, {start}")
    print("\nAlso: a local folder, or a hub id such as google-bert/bert-base-uncased.")


def _print_values(verb: str) -> None:
    from .recipes.arguments import bundled_recipes
    from .training.config import MLMConfig, described_fields, field_names, own_fields

    recipe = f"a YAML file, a run folder, or one of {', '.join(bundled_recipes())}."
    if verb == "inspect":
        flags = "[--recipe RECIPE] [--output FILE] [--no_timing]"
        print(f"usage: mlm-recipes inspect [CORPUS] {flags} [--name value ...]\n")
        print("CORPUS: as for --corpus. RECIPE: " + recipe)
        print("Trains nothing. Prints a page and writes FILE, by default runs/CORPUS-inspection.json; an earlier")
        print("inspection is replaced. --no_timing: do not time any steps. Exit code 1 if training could not start.")
    elif verb == "vocab":
        print("usage: mlm-recipes vocab [CORPUS] [--add N] [--at_least N] [--output FILE] [--name value ...]\n")
        print("Proposes the words of CORPUS that would save most tokens if each were one token of --model: --add of")
        print("them (500), each in --at_least paragraphs of the training text (3). Prints a table, and writes FILE, by")
        print("default runs/CORPUS-words.txt: one word per line, for train --add_tokens FILE. Edit it as you like.")
    elif verb == "prepare":
        flags = "[--shard I/N] [--shard_characters N] [--recipe RECIPE]"
        print(f"usage: mlm-recipes prepare [CORPUS] --out DIR {flags} [--name value ...]\n")
        print("Tokenizes CORPUS for --model into shards, for `mlm-recipes train --corpus DIR`. --shard I/N: only the")
        print(
            "I-th of N shares, so that N machines prepare a text together; none waits for another. Run it again after"
        )
        print("an interruption: complete shards are kept. --shard_characters: how much text is in one (256000000).")
    else:
        print(f"usage: mlm-recipes {verb} [RECIPE] [--name value ...]\n")
        print("RECIPE: " + recipe)
    if verb == "verify":
        print(
            "Trains a few steps on ten of its paragraphs, which takes about a minute, and prints what it checked: whole"
        )
        print("and split batches, padding, masks, order, evaluation, kill and resume. Exit code 1 if a check fails.")
    if verb == "train":
        print("Without RECIPE: quickstart for a built-in model, adapt for any other.")
    print("--traceback: show the traceback of an error.")
    print("Each --name value overrides the recipe's value, which overrides the default shown here:\n")
    own, ours = own_fields(), described_fields()
    for name, item in own.items():
        print(f"  --{name:22} {item.metadata['help']} (default: {item.default})")
    print("\nEvery field of transformers' TrainingArguments is accepted too:\n")
    for name in field_names():
        if name not in own:
            what = MLMConfig.__dataclass_fields__[name].metadata.get("help", "") if name in ours else ""
            print(f"  --{name:36} {what}{' ' if what else ''}(default: {getattr(MLMConfig, name, None)})")


def _quiet_libraries() -> None:
    """Show this library's messages, and only warnings from the others; no progress bar for each file that is read."""
    # setdefault, so that the user's own settings win.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # No telemetry: datasets reports each load to s3.amazonaws.com, and huggingface_hub reports its callers.
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow, as a tracker, reports to its developers
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
    """Return text that is safe to print: without terminal control characters and without credentials in URLs."""
    return terminal(without_credentials(str(what)))


def _leave_process_group() -> None:
    if "torch" in sys.modules:
        from .training.distributed.processes import leave_process_group

        leave_process_group()
