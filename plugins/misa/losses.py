"""The losses on representations: orthogonality and reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor


def difference_loss(first: Tensor, second: Tensor) -> Tensor:
    """How far two representations of one batch are from orthogonal.

    The batch mean is taken off, every row is divided by its norm (no gradient flows through the
    norm), and the squares of the D x D products of features are averaged, as in the released code.

    Args:
        first, second: (B, D).

    Returns:
        A scalar >= 0; 0 for a batch of one.
    """
    return (_normalised_rows(first).T @ _normalised_rows(second)).square().mean()


def _normalised_rows(x: Tensor) -> Tensor:
    x = x - x.mean(dim=0)
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).detach()
    return x / (norm + 1e-6)


def mean_squared_error(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean over all elements of the squared difference."""
    return (predicted - real).square().mean()


def squared_mean_error(predicted: Tensor, real: Tensor) -> Tensor:
    """Square of the mean difference over all elements: what one shift of all would mend.

    The released code calls it SIMSE; domain separation networks (Bousmalis et al. 2016)
    subtract it from the mean squared error.
    """
    return (predicted - real).mean().square()


def reconstruction_loss(predicted: Tensor, real: Tensor, kind: str) -> Tensor:
    """``mse``, or ``scale_invariant``: without what one shift of all elements explains."""
    error = mean_squared_error(predicted, real)
    return error - squared_mean_error(predicted, real) if kind == "scale_invariant" else error
