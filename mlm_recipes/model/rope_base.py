"""The base of rotary positions, and how much it is raised for longer rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Base:
    """A base in a model's config: where it is, of which layers, and how many dimensions of a head are rotated."""

    holder: Any  # the config, or a mapping in it
    layers: str
    dimensions: int
    before: float
    after: float = 0.0

    def raise_for(self, scale: float) -> None:
        """Write the base for rows that are `scale` times as long."""
        self.after = raised_base(self.before, scale, self.dimensions)
        if isinstance(self.holder, dict):
            self.holder["rope_theta"] = self.after
        else:
            self.holder.rope_theta = self.after

    def said(self) -> str:
        """Return the old and the new base, and the layers that it is for, for the screen."""
        return f"{self.before:,.0f} -> {self.after:,.0f}{self.layers and f' in {self.layers}'}"


def raised_base(base: float, scale: float, dimensions: int) -> float:
    """Return the base for rows that are `scale` times as long.

    The slowest rotation then turns as far over the new length as it did over the old one, and the fastest, which tells
    near tokens apart, is unchanged. This is the NTK-aware formula (bloc97 2023; Peng et al. 2023, equation 16,
    https://arxiv.org/abs/2309.00071); transformers' `rope_type: dynamic` uses it too. Raising the base and training on
    long rows is how Xiong et al. 2023 (https://arxiv.org/abs/2309.16039) and ModernBERT (10,000 to 160,000 for 1,024 to
    8,192 positions; Warner et al. 2024, https://arxiv.org/abs/2412.13663) were extended.

    >>> raised_base(10_000, scale=8, dimensions=64)
    85550.0
    """
    return float(round(base * scale ** (dimensions / (dimensions - 2))))


def rotary_bases(config: Any) -> Iterator[Base]:
    """Find the bases in a config that are raised for longer rows: those of layers that see the whole row.

    Sliding layers never see tokens further apart than their window, so they keep theirs.

    Raises: ValueError if positions are scaled by another rule already, such as YaRN.

    >>> from transformers import ModernBertConfig
    >>> [(base.layers, base.before, base.dimensions) for base in rotary_bases(ModernBertConfig())]
    [('full_attention', 160000.0, 64)]
    """
    parameters: Any = getattr(config, "rope_parameters", None) or {}
    if not parameters and getattr(config, "rope_theta", None) is not None:  # ESM's config
        yield Base(config, "", _rotated(config), float(config.rope_theta))
        return
    nested = {kind: values for kind, values in parameters.items() if isinstance(values, dict)}
    kinds = getattr(config, "layer_types", None) or nested
    whole = {kind: values for kind, values in nested.items() if "sliding" not in kind and kind in kinds}
    for layers, values in (whole if nested else {"": parameters} if parameters else {}).items():
        if values.get("rope_type", "default") != "default":
            raise ValueError(
                "extend_positions: the rotary positions of this model are scaled already (rope_type "
                f"{values['rope_type']}). Accepted: the rope_type default, whose base is raised. Change the scaling in "
                "the model's config.json instead."
            )
        yield Base(values, layers, _rotated(config, values.get("partial_rotary_factor", 1.0)), values["rope_theta"])


def _rotated(config: Any, share: float = 1.0) -> int:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head * share)
