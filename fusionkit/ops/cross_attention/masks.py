"""Which keys and which query rows count, from the lengths."""

from __future__ import annotations

from torch import Tensor

from fusionkit.ops.lengths import within


def rows_without_result(
    key_lengths: Tensor | None, query_lengths: Tensor | None, num_queries: int
) -> Tensor | None:
    """(B, 1, Tq or 1, 1) bool: query rows that the lengths make zero; None if no lengths given."""
    empty = None
    if key_lengths is not None:
        empty = (key_lengths == 0)[:, None, None, None]
    if query_lengths is not None:
        padded = ~within(query_lengths, num_queries)[:, None, :, None]
        empty = padded if empty is None else empty | padded
    return empty


def as_four_dimensions(bias: Tensor) -> Tensor:
    """``bias`` with axes of size 1 in front, so that it has the axes (B, H, Tq, Tk)."""
    return bias.reshape((1,) * (4 - bias.dim()) + tuple(bias.shape))
