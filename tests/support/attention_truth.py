"""How accurate a backend of `cross_attention` has to be, in units of rounding errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.cross_attention.reference import run_reference

from attention_cases import INF, Case, Inputs, outputs_and_gradients
from attention_formulas import eager

TINY = torch.finfo(torch.float32).tiny


@dataclass
class Truth:
    """What one case should give, and how far off one may be."""

    right: dict[str, Tensor]  # in float64
    plain: dict[str, Tensor]  # by plain PyTorch in the case's dtype
    units: dict[str, float]  # size of a rounding error: eps times the terms, times the scores

    def check(self, got: dict[str, Tensor], where: str) -> dict[str, tuple[float, float]]:
        """Raise unless errors are at most twice those of plain PyTorch, plus 2 units.

        Returns:
            The largest errors by result, in units: those of ``got`` and of plain PyTorch.
        """
        assert got.keys() == self.right.keys()
        errors = {}
        for name, right in self.right.items():
            result = got[name]
            assert result.shape == right.shape, f"{name}, {where}"
            assert result.dtype == self.plain[name].dtype, f"{name}, {where}"
            assert result.isfinite().all(), f"{name}, {where}"
            if result.numel():
                ours, theirs = (self._in_units(name, x) for x in (result, self.plain[name]))
                assert ours <= 2 * theirs + 2, f"{name}, {where}: {ours:.2f} and {theirs:.2f} units"
                errors[name] = (ours, theirs)
        return errors

    def _in_units(self, name: str, result: Tensor) -> float:
        error = (result.double() - self.right[name]).abs().max().item()
        # What is below the smallest normal number may be flushed to zero.
        return 0.0 if error < TINY else error / max(TINY, self.units[name])


def find_truth(inputs: Inputs, upstream: list[Tensor]) -> Truth:
    """Of inputs without NaN in their padding, and the gradients of the results."""
    exact = inputs.cast(torch.float64)
    terms = magnitudes([x.double() for x in upstream], **exact.leaves, **exact.options)
    largest = {name: x.abs().amax().item() if x.numel() else 0.0 for name, x in terms.items()}
    # The error of a score, eps times its size, becomes a relative error of the weights.
    unit = torch.finfo(inputs.leaves["query"].dtype).eps * (1 + largest.pop("scores"))
    return Truth(
        right=outputs_and_gradients(run_reference, exact, [x.double() for x in upstream]),
        plain=outputs_and_gradients(eager, inputs, upstream),
        units={name: unit * size for name, size in largest.items()},
    )


def magnitudes(upstream: list[Tensor], **arguments: Any) -> dict[str, Tensor]:
    """The results with every term replaced by its absolute value: the scale of rounding errors.

    Terms may cancel: the gradient of a bias that moves all scores alike is zero, and so is that of
    a row with one key. What rounding leaves there is small beside the terms only.

    Args:
        upstream: gradients of the output (B, H, Tq, Dv), and of the weights where they return.
        arguments: those of `cross_attention`, in float64.

    Returns:
        By name, and the `scores` of keys that count.
    """
    query, key, value = (arguments[name].detach() for name in ("query", "key", "value"))
    scale = arguments["scale"] or query.shape[3] ** -0.5
    scores = query @ key.mT * scale
    bias = arguments.get("bias")
    if bias is not None:
        scores = scores + bias.detach()
    options = {k: v for k, v in arguments.items() if k not in ("query", "key", "value")}
    weights, dropped = (
        eager(query, key, value, **{**options, "return_weights": True, **dropout})[1].detach()
        for dropout in ({"dropout_p": 0.0, "seed": None}, {})
    )
    mixed = upstream[0].abs() @ value.abs().mT
    for for_weights in upstream[1:]:
        mixed = mixed + for_weights.abs()
    mixed = mixed * (dropped > 0) / (1 - arguments["dropout_p"])
    for_scores = weights * (mixed + (weights * mixed).sum(-1, keepdim=True))
    named = {
        "scores": torch.where(weights > 0, scores, 0.0),
        "output": dropped @ value.abs(),
        "weights": dropped,
        "gradient of query": scale * for_scores @ key.abs(),
        "gradient of key": scale * for_scores.mT @ query.abs(),
        "gradient of value": dropped.mT @ upstream[0].abs(),
    }
    if bias is not None:
        named["gradient of bias"] = for_scores.sum_to_size((1,) * (4 - bias.dim()) + bias.shape)
    return named


def rows_without_result(case: Case, inputs: Inputs) -> Tensor:
    """(B, H, Tq) bool: rows beyond the query lengths, and those that no key is left for."""
    full = (case.batch, case.heads, case.num_queries, case.num_keys)
    given = {**inputs.leaves, **inputs.options}
    bias, key_lengths, query_lengths = (
        given.get(name) for name in ("bias", "key_lengths", "query_lengths")
    )
    allowed = torch.ones(full, dtype=torch.bool)
    if bias is not None:
        allowed &= bias.detach() != -INF
    if key_lengths is not None:
        allowed &= (torch.arange(case.num_keys) < key_lengths[:, None])[:, None, None]
    empty = ~allowed.any(-1)
    if query_lengths is not None:
        empty |= (torch.arange(case.num_queries) >= query_lengths[:, None])[:, None]
    return empty


def must_be_zero(case: Case, inputs: Inputs, empty: Tensor) -> dict[str, Tensor]:
    """By result, the rows (B, H, T) that have to be exactly zero."""
    keys = torch.zeros(case.batch, case.heads, case.num_keys, dtype=torch.bool)
    if inputs.options["key_lengths"] is not None:
        keys |= (torch.arange(case.num_keys) >= inputs.options["key_lengths"][:, None])[:, None]
    keys |= empty.all(-1, keepdim=True)
    return {
        "output": empty,
        "gradient of query": empty,
        "gradient of key": keys,
        "gradient of value": keys,
    }
