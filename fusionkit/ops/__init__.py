"""Operators with a reference in plain PyTorch and faster backends, chosen by their inputs."""

from fusionkit.ops.backends import available_backends, explain, force_backend
from fusionkit.ops.cross_attention import cross_attention
from fusionkit.ops.cross_attention_pairs import AttentionPair, cross_attention_pairs
from fusionkit.ops.dropout import dropout
from fusionkit.ops.gated_mask import gated_mask
from fusionkit.ops.info_nce import info_nce
from fusionkit.ops.length_aware_lstm import length_aware_lstm, length_aware_lstm_group
from fusionkit.ops.split_attention import segment_mean, segment_scale

__all__ = [
    "AttentionPair",
    "available_backends",
    "cross_attention",
    "cross_attention_pairs",
    "dropout",
    "explain",
    "force_backend",
    "gated_mask",
    "info_nce",
    "length_aware_lstm",
    "length_aware_lstm_group",
    "segment_mean",
    "segment_scale",
]
