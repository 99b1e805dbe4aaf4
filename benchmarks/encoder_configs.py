"""Small configs of every encoder that AutoModelForMaskedLM knows."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

_WIDTH, _LAYERS, _HEADS, _INNER, _POSITIONS = 32, 2, 2, 64, 130

#: Sizes under the names that most configs use.
_SMALL = {
    **dict.fromkeys(("hidden_size", "d_model", "dim", "emb_dim", "embedding_size", "true_hidden_size"), _WIDTH),
    **dict.fromkeys(("input_embedding_size", "output_embedding_size", "pooler_hidden_size", "embedding_rank"), _WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "encoder_layers", "decoder_layers"), _LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_key_value_heads"), _HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_inner", "encoder_ffn_dim", "decoder_ffn_dim"), _INNER),
    **dict.fromkeys(("feed_forward_size",), _INNER),
    **dict.fromkeys(("head_dim", "d_head", "attention_head_size"), _WIDTH // _HEADS),
    "max_position_embeddings": _POSITIONS,
}

#: What else an architecture needs to be small, or to be a masked-language model.
_MORE: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "num_decoder_layers": 1},
    "layoutlm": {"max_2d_position_embeddings": 16},
    "longformer": {"attention_window": [8, 8]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "mobilebert": {"intra_bottleneck_size": 32, "num_feedforward_networks": 1},
    "modernbert": {"layer_types": ["full_attention", "sliding_attention"], "local_attention": 12},
    "mvp": {"prompt_length": 4, "prompt_mid_dim": 16},
    "neomme": {"layer_types": ["sliding_attention", "full_attention"]},
    "nystromformer": {"num_landmarks": 4, "segment_means_seq_len": 4, "conv_kernel_size": 5},
    "perceiver": {
        **{"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 2},
        **{"num_self_attention_heads": 2, "num_cross_attention_heads": 2, "qk_channels": 32, "v_channels": 32},
    },
    "reformer": {
        **{"is_decoder": False, "attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 16], "lsh_num_chunks_after": 0},
        **{"axial_pos_embds_dim": [16, 16], "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8},
        **{"max_position_embeddings": 128, "num_buckets": 4, "hash_seed": 0, "local_num_chunks_after": 0},
    },
    "roc_bert": {"pronunciation_vocab_size": 10, "shape_vocab_size": 10, "pronunciation_embed_dim": 16}
    | {"shape_embed_dim": 16},
    "squeezebert": dict.fromkeys(("q_groups", "k_groups", "v_groups", "intermediate_groups", "output_groups"), 1)
    | {"post_attention_groups": 1},
    "tapas": {"max_num_rows": 8, "max_num_columns": 8},
    "ultrabert": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 12},
    "xlm": {"causal": False},
    "xmod": {"default_language": "en_XX"},
    "yoso": {"num_hash": 8},
}


def masked_lm_types() -> list[str]:
    """Return the sorted model types of all encoders that AutoModelForMaskedLM knows."""
    return sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES)


def small_config(model_type: str, dropout: bool) -> Any:
    """Return a small config of an encoder; without `dropout`, all of its probabilities are 0."""
    return AutoConfig.for_model(model_type, **_small_values(model_type, dropout))


def _small_values(model_type: str, dropout: bool) -> dict[str, Any]:
    usual = AutoConfig.for_model(model_type)
    # Some names are sums of others, such as Funnel's number of layers: a property, which cannot be set.
    values = {
        name: value
        for name, value in _SMALL.items()
        if hasattr(usual, name) and not isinstance(getattr(type(usual), name, None), property)
    }
    values |= _MORE.get(model_type, {})
    if not dropout:
        chances = ("dropout", "dropout_prob", "layerdrop")
        named = [name for name, value in usual.to_dict().items() if isinstance(value, float) and name.endswith(chances)]
        values |= dict.fromkeys(named, 0.0)
    for part in usual.sub_configs:  # a model that sees images too has a config for each of its encoders
        values[part] = _small_values(getattr(usual, part).model_type, dropout)
    return values
