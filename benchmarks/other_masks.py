"""How a model's loss depends on how many other tokens of a row are masked: from none to half of them.

A model that only saw rows with many masks may fail at a row with one (docs/LOG.md, "`mini`, trained further"). The same
tokens of packed rows are predicted at each share, always as [MASK]; other tokens of the row are masked beside them, the
same ones for each model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, disable_progress_bars
from result_file import add_output_argument, write_result

from mlm_recipes import load_corpus, load_model, load_tokenizer
from mlm_recipes.data.rows import pack

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


def losses(model: Any, rows: torch.Tensor, special: torch.Tensor, mask_id: int, share: float, each: int) -> list[float]:
    """Return the loss of `each` tokens of each row, one after the other, where a share of the others are masked.

    Args:
        model: a masked-language model.
        rows: token ids, shape `(rows, length)`.
        special: whether a token is never masked, of the same shape.
        mask_id: the id of [MASK].
        share: the probability with which each other token is masked.
        each: how many tokens of each row are predicted.
    """
    draws = torch.Generator().manual_seed(0)
    targets = torch.rand(rows.shape, generator=draws).masked_fill(special, -1.0).topk(each).indices
    line, found = torch.arange(len(rows)), []
    for column in targets.unbind(1):
        masked = (torch.rand(rows.shape, generator=draws) < share) & ~special
        masked[line, column] = True
        with torch.no_grad():
            logits = model(input_ids=rows.masked_fill(masked, mask_id)).logits
        found += torch.nn.functional.cross_entropy(logits[line, column], rows[line, column], reduction="none").tolist()
    return found


def measure(name: str, corpus: Dataset, length: int, count: int, each: int) -> list[dict[str, float]]:
    """Return a model's mean loss in nats at each share, and its standard error over the tokens."""
    tokenizer = load_tokenizer(name)
    packed = pack(corpus, tokenizer, length)["input_ids"]
    whole = [row for row in packed if len(row) == length]
    if not whole:
        raise SystemExit(f"the held-out text has no row of {length} tokens: choose a longer text, or a lower --length")
    # Spread over the whole text; all rows have one length, so nothing is padded.
    rows = torch.tensor([whole[place] for place in np.linspace(0, len(whole) - 1, min(count, len(whole)), dtype=int)])
    special = torch.isin(rows, torch.tensor(tokenizer.all_special_ids))
    model = load_model(name, tokenizer).eval()
    found = []
    for share in SHARES:
        nats = np.array(losses(model, rows, special, tokenizer.mask_token_id, share, each))
        error = nats.std(ddof=1) / len(nats) ** 0.5
        found.append({"share": share, "loss": float(nats.mean()), "standard_error": float(error), "tokens": len(nats)})
    return found


def markdown(table: dict[str, list[dict[str, float]]]) -> str:
    """Return a row for each model and a column for each share, with the loss."""
    shares = " | ".join(f"{share:.0%}" if share else "none" for share in SHARES)
    lines = [f"| model | {shares} |", f"|---{'|---' * len(SHARES)}|"]
    for name, row in table.items():
        cells = " | ".join(f"{cell['loss']:.2f}" for cell in row)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--text", required=True, help="a file, or a known corpus; the part is measured that a run holds out"
    )
    parser.add_argument("--model", action="append", help="a name, or a folder; may be repeated (default: mini)")
    parser.add_argument("--length", type=int, default=128, help="the tokens of a row")
    parser.add_argument("--rows", type=int, default=128, help="at most how many rows")
    parser.add_argument("--each", type=int, default=8, help="how many tokens of each row are predicted")
    add_output_argument(parser)
    options = parser.parse_args()
    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    corpus = load_corpus(options.text)["validation"]
    table = {
        Path(name).name: measure(name, corpus, options.length, options.rows, options.each)
        for name in options.model or ["mini"]
    }
    settings = {"text": Path(options.text).stem, "length": options.length}
    write_result(options.output, "other-masks", {**settings, "models": table})
    print(markdown(table))


if __name__ == "__main__":
    main()
