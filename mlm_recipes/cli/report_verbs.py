"""The verbs that read the files of finished runs: report, compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from .screen import shown
from .verb_kinds import PlainVerb


def _report_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", metavar="RUN", help="a run folder, such as runs/meditations")


def _report(options: argparse.Namespace) -> None:
    from ..report.run_report import write

    for path in write(options.folder):
        print(shown(path))


def _compare_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folders", nargs="+", metavar="RUN", help="two or more run folders, such as runs/meditations")
    verb.add_argument("--output", metavar="FILE", help="also write an HTML page, such as compare.html")


def _compare(options: argparse.Namespace) -> int:
    from ..report.side_by_side import compare_runs

    found = compare_runs(options.folders)
    print(shown(found))
    if options.output is not None:
        page = Path(options.output)
        if page.suffix != ".html":
            raise ValueError(f"--output: received {options.output!r}. Accepted: a name that ends in .html.")
        page.write_text(found.html(), encoding="utf-8")
        print(shown(f"\nAlso written as a page: {page}"))
    return 0 if found.comparable else 1


REPORT = PlainVerb("write a run's report.html and README.md again", _report, _report_arguments)
COMPARE = PlainVerb("show runs side by side", _compare, _compare_arguments)
