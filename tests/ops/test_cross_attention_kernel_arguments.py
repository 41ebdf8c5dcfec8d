"""What the raw operators of the compiled cross-attention refuse, so that no kernel reads astray."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch


def arguments() -> dict[str, Any]:
    """A call that is right: B2-H2-T3x5-D4-V6."""
    return {
        "query": torch.zeros(2, 2, 3, 4),
        "key": torch.zeros(2, 2, 5, 4),
        "value": torch.zeros(2, 2, 5, 6),
        "bias": None,
        "key_lengths": None,
        "query_lengths": None,
        "scale": 1.0,
        "dropout_p": 0.0,
        "seed": None,
    }


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"query": torch.zeros(2, 3, 4)}, "query must have 4 axes"),
    ({"query": torch.zeros(2, 2, 3, 4).double()}, "query must be float32"),
    ({"query": torch.zeros(2, 2, 3, 0), "key": torch.zeros(2, 2, 5, 0)}, "head dims must be 1 to"),
    ({"query": torch.zeros(2, 2, 3, 257), "key": torch.zeros(2, 2, 5, 257)}, "head dims must be 1"),
    ({"key": torch.zeros(2, 2, 5, 3)}, "key must have size 4 on axis 3"),
    ({"key": torch.zeros(1, 2, 5, 4)}, "key must have size 2 on axis 0"),
    ({"key": torch.zeros(2, 1, 5, 4)}, "key must have size 2 on axis 1"),
    ({"key": torch.zeros(2, 2, 5, 4).bfloat16()}, "key must be float32"),
    ({"value": torch.zeros(2, 2, 4, 6)}, "value must have size 5 on axis 2"),
    ({"value": torch.zeros(2, 2, 5, 257)}, "head dims must be 1 to 256"),
    ({"value": torch.zeros(3, 2, 5, 6)}, "value must have size 2 on axis 0"),
    ({"bias": torch.zeros(3, 5)}, "bias must have 4 axes"),
    ({"bias": torch.zeros(2, 2, 3, 4)}, "bias must have size 5 on axis 3"),
    ({"bias": torch.zeros(1, 1, 3, 5).double()}, "bias must be float32"),
    ({"key_lengths": torch.tensor([1])}, "key_lengths must hold 2 numbers, got 1"),
    ({"key_lengths": torch.tensor([1.0, 2.0])}, "key_lengths must be int64"),
    ({"key_lengths": torch.tensor([1, 6])}, r"key_lengths must be in \[0, 5\], got 6"),
    ({"key_lengths": torch.tensor([-1, 2])}, r"key_lengths must be in \[0, 5\], got -1"),
    ({"query_lengths": torch.tensor([4, 0])}, r"query_lengths must be in \[0, 3\], got 4"),
    ({"query_lengths": torch.tensor([4, 0, 0])}, "query_lengths must hold 2 numbers, got 3"),
    ({"dropout_p": 0.5}, "seed is required"),
    ({"dropout_p": 0.5, "seed": torch.tensor([1, 2])}, "seed must hold 1 numbers, got 2"),
    ({"dropout_p": 0.5, "seed": torch.tensor(1.0)}, "seed must be int64"),
    ({"dropout_p": 1.0}, r"dropout_p must be in \[0, 1\)"),
    ({"dropout_p": -0.1}, r"dropout_p must be in \[0, 1\)"),
    ({"dropout_p": float("nan")}, r"dropout_p must be in \[0, 1\)"),
]


def name_of(value: Any) -> str | None:
    return "-".join(value) if isinstance(value, dict) else None


@pytest.mark.parametrize(("change", "message"), WRONG, ids=name_of)
def test_forward(extension: ModuleType, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit.cross_attention(**{**arguments(), **change})


UPSTREAM = {
    "grad_out": torch.zeros(2, 2, 3, 6),
    "out": torch.zeros(2, 2, 3, 6),
    "row_sums": torch.zeros(2, 2, 2, 3),
}
WRONG_UPSTREAM: list[tuple[dict[str, Any], str]] = [
    ({"grad_out": torch.zeros(2, 2, 3, 5)}, "grad_out must have size 6 on axis 3"),
    ({"grad_out": torch.zeros(2, 2, 3, 6).double()}, "grad_out must be float32"),
    ({"out": torch.zeros(2, 2, 4, 6)}, "out must have size 3 on axis 2"),
    ({"out": torch.zeros(2, 3, 6)}, "out must have 4 axes"),
    ({"row_sums": torch.zeros(2, 2, 2, 2)}, "row_sums must have size 3 on axis 3"),
    ({"row_sums": torch.zeros(2, 2, 3)}, "row_sums must have 4 axes"),
]


@pytest.mark.parametrize(("change", "message"), [*WRONG, *WRONG_UPSTREAM], ids=name_of)
def test_backward(extension: ModuleType, change: dict[str, Any], message: str) -> None:
    given = {**arguments(), **UPSTREAM, **change}
    names = ("grad_out", "query", "key", "value", "out", "row_sums", "bias", "key_lengths",
             "query_lengths", "scale", "dropout_p", "seed")  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit.cross_attention_backward(*(given[name] for name in names), 0b1111)
