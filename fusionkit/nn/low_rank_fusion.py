"""Low-rank fusion: a linear map of the tensor fusion that never builds the tensor (LMF)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowRankFusion(nn.Module):
    """``sum_r w_r prod_m [1; h_m] F_m[r] + b`` (Liu et al., ACL 2018).

    It equals a linear layer on `fusionkit.nn.tensor_fusion.tensor_fusion` of the same vectors whose
    weight is the sum over r of ``w_r`` times the outer product of all ``F_m[r]``.

    Args:
        sizes: H_m of every vector. rank: of the weight. output_size: of the output.
    """

    def __init__(self, sizes: Sequence[int], rank: int, output_size: int) -> None:
        super().__init__()
        # Row 0 of a factor belongs to the one before the vector.
        self.factors = nn.ParameterList(
            nn.Parameter(nn.init.xavier_normal_(torch.empty(rank, size + 1, output_size)))
            for size in sizes
        )
        self.weights = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, rank)))
        self.bias = nn.Parameter(torch.zeros(1, output_size))
        self.rank, self.output_size = rank, output_size

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """One (B, H_m) for each size to (B, output_size)."""
        product: Tensor | None = None
        for vector, factor in zip(vectors, self.factors, strict=True):
            # All ranks and outputs in one product of matrices: (B, rank * output_size).
            weight = factor[:, 1:].transpose(1, 2).flatten(0, 1)
            projected = F.linear(vector, weight, factor[:, 0].flatten())
            product = projected if product is None else product * projected
        assert product is not None
        by_rank = product.view(-1, self.rank, self.output_size)
        fused: Tensor = torch.einsum("r,bro->bo", self.weights[0], by_rank) + self.bias
        return fused

    def extra_repr(self) -> str:
        """For ``print(module)``."""
        return f"rank={self.rank}, output_size={self.output_size}"
