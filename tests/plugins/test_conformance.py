"""Every built-in method keeps the contract that third parties are held to."""

from __future__ import annotations

from typing import Any

import pytest

from fusionkit.testing import assert_conforms

MULT: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 2}
TFN: dict[str, Any] = {"recurrent_hidden_size": 4, "recurrent_output_size": 3}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mmlatch", {}),
    ("mmlatch", {"mask": "linear"}),
    ("mmlatch", {"mask": "boom", "mask_includes_own": True}),
    ("mmlatch", {"mask": "downup", "frontend_size": 6}),
    ("mmlatch", {"mask_includes_own": True}),
    ("mmlatch", {"mask": None, "encoder": "gru", "bidirectional": False}),
    ("mmlatch", {"encoder_layers": 2, "pooling": "mean_max", "frontend_size": 6, "residual": True}),
    ("mult", {**MULT}),
    ("mult", {**MULT, "attn_mask": True}),
    ("mult", {**MULT, "feedback": "lstm"}),
    ("mult", {**MULT, "feedback": "linear", "pooling": "mean"}),
    ("mult", {**MULT, "frontend_size": 6, "pooling": "mean_max", "kernel_size": 3}),
    ("mult", {**MULT, "positions": "released", "pooling": "max"}),
    ("msaf", {"block_size": 4}),
    ("msaf", {"block_size": 4, "bidirectional": True, "num_layers": 3, "num_segments": 1}),
    ("msaf", {"block_size": 4, "frontend_size": 6, "pooling": "mean_max", "num_segments": 3}),
    ("msaf", {"fusion": False, "encoder": "gru", "pooling": "attention_max"}),
    ("mmtm", {}),
    ("mmtm", {"encoder": "conv", "num_layers": 3, "pooling": "last"}),
    ("mmtm", {"encoder": "gru", "bidirectional": True, "frontend_size": 6}),
    ("mmtm", {"fusion": False, "pooling": "max", "gate_scale": 2}),
    ("mmmie", {"num_heads": 5}),
    ("mmmie", {"num_heads": 5, "encoder": "transformer", "frontend_size": 4}),
    ("mmmie", {"num_heads": 1, "encoder": "gru", "fusion_layers": 0, "identity": None}),
    ("mmmie", {"num_heads": 1, "maximise": "mine", "minimise": "l1out"}),
    ("tfn", {**TFN, "post_fusion_size": 4}),
    ("tfn", {"encoder": "conv_bilstm", "frontend_size": 4}),
    ("tfn", {"recurrent": []}),
    ("lmf", {**TFN}),
    ("lmf", {"encoder": "conv_bilstm", "frontend_size": 4, "rank": 1}),
    ("self_mm", {"head_size": 5, "fusion_size": 6}),
    ("self_mm", {"head_size": 5, "main_vector": "first", "labels": "released"}),
    ("self_mm", {"head_size": 5, "encoder": "conv_bilstm", "frontend_size": 4}),
    ("mag", {}),
    ("mag", {"encoder": "gru", "bidirectional": False, "pooling": "mean_max"}),
    ("mag", {"encoder": "conv_bilstm"}),
    ("mag", {"main": "audio", "pooling": "attention_max"}),
    ("early_fusion", {}),
    ("early_fusion", {"encoder_kind": "sequence", "time_axis": "shortest"}),
    ("early_fusion", {"encoder_layers": 2}),
    ("late_fusion", {}),
    ("late_fusion", {"fusion": "mean_logits", "frontend_stride": 0}),
    ("unimodal", {"encoder_kind": "sequence"}),
    ("misa", {"heads": 1}),
    ("misa", {"heads": 1, "cell": "gru", "rnn_size": 3, "similarity": "adversarial"}),
    ("misa", {"heads": 1, "encoder": "mean", "transformer_layers": 2}),
    ("misa", {"heads": 5, "encoder": "conv_bilstm", "frontend_size": 6}),
    ("mmim", {}),
    ("mmim", {"main_encoder": "mean", "bidirectional": True, "all_pairs": True}),
    ("mmim", {"main_encoder": "first", "encoder_layers": 2}),
    ("mmim", {"encoder": "conv_bilstm", "frontend_size": 6}),
    ("unimodal", {"residual": True}),
    ("unimodal", {"pooling": "max", "frontend_size": 6, "encoder_layers": 2}),
]


@pytest.mark.parametrize(
    ("method", "options"), CASES, ids=[f"{m}-{'-'.join(o) or 'default'}" for m, o in CASES]
)
def test_method_conforms(method: str, options: dict[str, Any]) -> None:
    own_size = {"width", "head_size"} & set(options)
    assert_conforms(method, **({} if own_size else {"hidden_size": 5}), **options)
