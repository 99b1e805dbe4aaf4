"""The verbs that use a trained model: fill, demo, export, finetune."""

from __future__ import annotations

import argparse

from ..report.printing import say
from .screen import quiet_libraries, shown
from .verb_kinds import PlainVerb


def _fill_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", help="a run folder, another local folder, or a hub id")
    verb.add_argument("prompts", nargs="+", metavar="PROMPT", help='a sentence such as "The [MASK] of man."')
    verb.add_argument("--top_k", type=int, default=5, help="how many tokens to show (default: %(default)s)")
    verb.add_argument("--tokenizer", metavar="NAME", help="a folder or a hub id (default: the model's own)")
    verb.add_argument("--trust_remote_code", metavar="NAME", help="the model's name, to allow its own code to run")


def _fill(options: argparse.Namespace) -> None:
    quiet_libraries()
    from ..recipes.evaluate import fill

    filled = fill(options.model, options.prompts, options.top_k, options.trust_remote_code, options.tokenizer)
    for prompt, masks in zip(options.prompts, filled, strict=True):
        print(shown(prompt))
        for number, guesses in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"  mask {number}")
            for token, probability in guesses:
                print(shown(f"  {probability:6.1%}  {token}"))


def _demo_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")
    verb.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the first free one from 7860)")


def _demo(options: argparse.Namespace) -> None:
    quiet_libraries()
    from ..recipes.demo import serve

    serve(options.folder, options.port)


def _export_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", metavar="RUN", help="a run folder, another local folder, or a hub id")
    verb.add_argument("--to", default="onnx", help="the format: onnx (default: %(default)s)")
    verb.add_argument("--output", metavar="DIR", help="a new or empty folder (default: onnx in the run folder)")
    verb.add_argument("--quantize", metavar="KIND", help="int8: also a smaller file for CPUs, and what it costs")
    verb.add_argument("--prompts", metavar="FILE", help="sentences with one [MASK] each, to compare on")


def _export(options: argparse.Namespace) -> None:
    quiet_libraries()
    from ..recipes.export import export

    print(shown(export(options.folder, options.to, options.output, options.quantize, options.prompts)))


def _finetune_arguments(verb: argparse.ArgumentParser) -> None:
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


def _finetune(options: argparse.Namespace) -> None:
    quiet_libraries()
    from ..recipes.finetune import finetune

    values = {
        name: value for name, value in vars(options).items() if name not in ("verb", "run", "traceback", "folder")
    }
    say(f"\n{shown(finetune(options.folder, **values))}")


FILL = PlainVerb("fill the [MASK]s of a sentence", _fill, _fill_arguments)
DEMO = PlainVerb("try a run's model on a local page, before and after", _demo, _demo_arguments)
EXPORT = PlainVerb("write a run's model as ONNX, and check it", _export, _export_arguments)
FINETUNE = PlainVerb("fine-tune a run's model before and after, and compare", _finetune, _finetune_arguments)
