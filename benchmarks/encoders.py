"""Which encoders of the installed transformers can be trained, and what works with each: `make models`.

Every class that AutoModelForMaskedLM knows is built small, with random weights, and asked in a process of its own, by
this library's own loader and trainer. The table goes to benchmarks/results, row by row, and as Markdown to the
terminal. A row that is in the day's JSON already is not asked again, unless --only names it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from encoder_checks import CHECKS, check
from encoder_configs import masked_lm_types
from result_file import result_path, write_result

_CLASS = re.compile(r"\w+(ForMaskedLM|ForConditionalGeneration|LMHeadModel)\b")

#: Seconds that one encoder may take.
_LIMIT = 300


def ask(model_type: str) -> dict[str, str]:
    """Return the answers for one encoder, found out in a process of its own, which may crash or hang."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "answers.json"
        command = [sys.executable, __file__, "--only", model_type, "--into", str(found)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            return {"built": f"no: it took more than {_LIMIT} seconds"}
        if not found.exists():
            return {"built": f"no: the process ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
        answers: dict[str, str] = json.loads(found.read_text("utf-8"))
        return answers


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return the answers as a Markdown table; reasons are listed below it, those of several encoders together."""
    lines = [f"| encoder | {' | '.join(CHECKS)} |", f"|---|{'---|' * len(CHECKS)}"]
    reasons: dict[str, list[str]] = {}
    for name, row in rows.items():
        cells = ["no" if "built" in row else row.get(column, "").partition(":")[0] for column in CHECKS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        for column, answer in row.items():
            if why := answer.partition(": ")[2]:
                why = _CLASS.sub("this model", why).partition(". Accepted")[0].removesuffix(".")
                asked = "trains" if column == "built" else column
                reasons.setdefault(f"{asked}: {why}", []).append(name)
    return "\n".join([*lines, "", *(f"- {why} ({', '.join(names)})" for why, names in sorted(reasons.items()))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="TYPE", help="a model_type, such as bert; may be repeated")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--output", type=Path, help="the JSON's folder; by default benchmarks/results, if all are asked"
    )
    options = parser.parse_args()
    if options.into is not None:
        options.into.write_text(json.dumps(check(options.only[0])), encoding="utf-8")
        return
    folder = options.output or (None if options.only else Path(__file__).parent / "results")
    rows: dict[str, dict[str, str]] = {}
    if folder is not None and (path := result_path(folder, "encoders")).exists():
        rows = json.loads(path.read_text("utf-8"))["rows"]  # of today: what was interrupted goes on
    for model_type in options.only or masked_lm_types():
        if model_type in rows and model_type not in (options.only or ()):
            continue
        started = time.monotonic()
        rows[model_type] = ask(model_type)
        print(f"{model_type:22} {time.monotonic() - started:4.0f} s  {rows[model_type]}", flush=True)
        if folder is not None:
            write_result(folder, "encoders", {"rows": dict(sorted(rows.items()))})
    print(table(rows))


if __name__ == "__main__":
    main()
