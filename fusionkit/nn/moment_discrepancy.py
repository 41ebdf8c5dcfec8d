"""Central moment discrepancy: how far apart two sets of samples are, moment by moment."""

from __future__ import annotations

import torch
from torch import Tensor


def central_moment_discrepancy(
    first: Tensor,
    second: Tensor,
    *,
    moments: int = 5,
    width: float = 1.0,
    nan_at_equality: bool = False,
) -> Tensor:
    """CMD of two sets of samples (Zellinger et al., ICLR 2017), as MISA takes it.

    The distance of the means plus, for k = 2 to ``moments``, the distance of the k-th central
    moments of every feature, each divided by ``width`` to the k. Moments are means over the
    samples (biased).

    Args:
        first: (N, D). second: (M, D), N and M at least 1.
        moments: highest order.
        width: of the interval that the features lie in; 1 for outputs of a sigmoid.
        nan_at_equality: where two moments are equal, the gradient is nan, as it is in the released
            MISA. By default it is 0 there, the distance's smallest subgradient.

    Returns:
        A scalar >= 0, in float32 where the inputs have half precision.

    Raises:
        ValueError: shapes, ``moments`` or ``width`` do not fit.

    >>> central_moment_discrepancy(torch.zeros(3, 2), torch.full((4, 2), 0.5), moments=3)
    tensor(0.7071)
    """
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"two (samples, D) of one D are needed, not {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
    if not (len(first) and len(second)):
        raise ValueError("each set needs at least one sample")
    if moments < 1 or width <= 0:
        raise ValueError(f"moments {moments} must be at least 1 and width {width} above 0")
    first, second = _wide(first), _wide(second)
    first_mean, second_mean = first.mean(dim=0), second.mean(dim=0)
    first, second = first - first_mean, second - second_mean
    differences = [first_mean - second_mean]
    differences += [(first**k).mean(dim=0) - (second**k).mean(dim=0) for k in range(2, moments + 1)]
    if nan_at_equality:
        distances = [difference.square().sum().sqrt() for difference in differences]
    else:
        distances = [torch.linalg.vector_norm(difference) for difference in differences]
    return torch.stack([d / width**k for k, d in enumerate(distances, start=1)]).sum()


def _wide(x: Tensor) -> Tensor:
    """Fifth powers of half-precision numbers would keep no digit."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
