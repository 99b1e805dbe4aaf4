"""Tokens a second that a collator masks, transformers' and ours: run by `make bench`.

Each gets the same rows of token ids, of the lengths that the corpus has and of 64 times 512. Turn by turn, the median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from result_file import add_output_argument, write_result
from transformers import DataCollatorForLanguageModeling
from workload import TEXT, packed_rows, rows_of

from mlm_recipes.masking.collator import DataCollatorForMaskedLM

TURNS = 60


def seconds(collators: dict[str, Callable[..., Any]], batches: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Return the median seconds that each collator takes for all `batches`."""
    found: dict[str, list[float]] = {name: [] for name in collators}
    for _ in range(TURNS):
        for name, collate in collators.items():
            started = time.perf_counter()
            for batch in batches:
                collate(batch)
            found[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=TEXT)
    add_output_argument(parser)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer, ids = rows_of(options.text)
    long = packed_rows(ids)[:64]
    special = tokenizer.get_special_tokens_mask
    result: dict[str, Any] = {"text": options.text.name, "shapes": {}}
    print(f"{'':34}{'batches of 16':>16}{'64 x 512':>16}   tokens/s")
    for shape, chosen, size in (("batches of 16", ids, 16), ("64 x 512", long, 64)):
        # As a tokenizer leaves them; and an epoch, as MLMTrainer's rows have it.
        rows = [
            {"input_ids": row, "special_tokens_mask": special(row, already_has_special_tokens=True)} for row in chosen
        ]
        stock = [rows[at : at + size] for at in range(0, len(rows) - size + 1, size)][:8]
        numbered = [[row | {"example_id": i, "epoch": 0} for i, row in enumerate(batch)] for batch in stock]
        tokens = sum(len(row["input_ids"]) for batch in stock for row in batch)
        theirs = {"DataCollatorForLanguageModeling": DataCollatorForLanguageModeling(tokenizer)}
        ours = {
            "DataCollatorForMaskedLM, padded": DataCollatorForMaskedLM(tokenizer),
            "DataCollatorForMaskedLM, joined": DataCollatorForMaskedLM(tokenizer, padding_free=True),
        }
        times = seconds(theirs, stock) | seconds(ours, numbered)
        result["shapes"][shape] = {name: tokens / spent for name, spent in times.items()}
    for name in times:
        rates = [result["shapes"][shape][name] for shape in result["shapes"]]
        print(f"{name:34}" + "".join(f"{rate:16,.0f}" for rate in rates))
    write_result(options.output, "collator", result)


if __name__ == "__main__":
    main()
