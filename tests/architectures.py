"""The encoders that every fast path is held against, each of two layers by 32."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, set_seed

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ROBERTA = SIZE | {"max_position_embeddings": 34, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
ARCHITECTURES = {
    "bert": SIZE,
    "roberta": ROBERTA,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": SIZE | {"embedding_size": 16},
    "xlm-roberta": ROBERTA,
    "albert": SIZE | {"embedding_size": 16},
    "mpnet": ROBERTA,
    "modernbert": SIZE
    | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    | {"local_attention": 12, "global_attn_every_n_layers": 2},
    "deberta-v2": SIZE | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
}
LONGEST = 32
PAD = 1


def make(architecture, **changes):
    set_seed(0)
    values = {"max_position_embeddings": LONGEST, "pad_token_id": PAD} | ARCHITECTURES[architecture] | changes
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, vocab_size=120, **values)).eval()


def batch_of(lengths, masked):
    """Return a padded batch of random tokens and its labels, a share `masked` of which count."""
    generator = torch.Generator().manual_seed(1)
    attended = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 120, attended.shape, generator=generator).where(attended, torch.tensor(PAD))
    chosen = attended & (torch.rand(attended.shape, generator=generator) < masked)
    return {"input_ids": ids, "attention_mask": attended.long()}, ids.where(chosen, torch.tensor(-100))


def assert_same_gradients(expected, found, bound):
    """Hold two dicts of gradients against each other, relative to the largest value of all.

    None, where a weight has no gradient, must be in both.
    """
    size = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
    for name, gradient in expected.items():
        other = found[name]
        assert (gradient is None) == (other is None), name
        if gradient is not None:
            assert torch.isfinite(other).all(), name
            assert (gradient - other).abs().max() <= bound * size, name
