"""The accelerators that `mlm-recipes plan` knows, with what their makers state."""

from __future__ import annotations

from dataclasses import dataclass

from ...sources.names import did_you_mean


@dataclass(frozen=True)
class Accelerator:
    """A GPU as its data sheet describes it.

    Attributes:
        name: what `--gpu` calls it.
        memory: bytes, as sold: 80 GB are 80e9.
        peak: operations per second of dense matrix products (without sparsity) in `dtype`, with sums in float32.
        dtype: the 16-bit type that it multiplies.
        source: where the figures come from.
    """

    name: str
    memory: float
    peak: float
    dtype: str
    source: str


ACCELERATORS = (
    Accelerator("A100-80", 80e9, 312e12, "bf16", "NVIDIA A100 80GB data sheet, SXM (2021)"),
    Accelerator("H100", 80e9, 989.4e12, "bf16", "NVIDIA H100 architecture white paper, SXM5 (2022)"),
    Accelerator("H200", 141e9, 989.4e12, "bf16", "NVIDIA H200 data sheet, SXM, half of the rate with sparsity (2024)"),
    Accelerator("L4", 24e9, 121e12, "bf16", "NVIDIA L4 data sheet, half of the rate with sparsity (2023)"),
    Accelerator("RTX-4090", 24e9, 165.2e12, "bf16", "NVIDIA Ada architecture white paper, sums in float32 (2022)"),
    Accelerator("T4", 16e9, 65e12, "fp16", "NVIDIA T4 data sheet (2018); it multiplies no bfloat16"),
)


def find_accelerator(name: str) -> Accelerator:
    """Return the accelerator of a name, whatever its case; blanks count as hyphens.

    Raises: ValueError for one that is not in the table.

    >>> find_accelerator("rtx 4090").name, find_accelerator("A100-80").peak
    ('RTX-4090', 312000000000000.0)
    """
    known = {each.name.lower(): each for each in ACCELERATORS}
    asked = name.strip().lower().replace(" ", "-")
    if asked not in known:
        raise ValueError(
            f"gpu: received {name!r}.{did_you_mean(asked, known)} Accepted: "
            f"{', '.join(each.name for each in ACCELERATORS)}. For another GPU, take the nearest, and scale --share by "
            "the ratio of their rates."
        )
    return known[asked]
