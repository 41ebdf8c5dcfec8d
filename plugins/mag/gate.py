"""The multimodal adaptation gate: the other modalities shift the main one, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusionkit.nn import Dropout

_EPS = 1e-6


class MultimodalAdaptationGate(nn.Module):
    """``LayerNorm(e + alpha h)`` with ``h = sum_m relu(G_m [x_m; e]) * P_m x_m`` (MAG).

    ``alpha = min(beta |e| / |h|, 1)`` keeps the shift within ``beta`` times the norm of the main
    features.

    Args:
        size: main features e. others: name -> features of each other modality, in the order in
            which their shifts are summed. beta: see above. dropout: on the output.
    """

    def __init__(
        self, size: int, others: Mapping[str, int], *, beta: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({m: nn.Linear(n + size, size) for m, n in others.items()})
        self.projections = nn.ModuleDict({m: nn.Linear(n, size) for m, n in others.items()})
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)
        self.beta = beta

    def forward(self, main: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """(B, T, size) and, on the same steps, (B, T, D_m) of each other, to (B, T, size)."""
        parts = []
        for name, project in self.projections.items():
            x = others[name]
            gate = torch.relu(self.gates[name](torch.cat([x, main], dim=-1)))
            parts.append(gate * project(x))
        shift = torch.stack(parts).sum(dim=0)
        main_norm = torch.linalg.vector_norm(main, dim=-1, keepdim=True)
        shift_norm = torch.linalg.vector_norm(shift, dim=-1, keepdim=True)
        # A shift of exactly 0 stays 0, whatever it is divided by.
        shift_norm = torch.where(shift_norm == 0, torch.ones_like(shift_norm), shift_norm)
        alpha = (self.beta * main_norm / (shift_norm + _EPS)).clamp(max=1.0)
        shifted: Tensor = self.dropout(self.norm(main + alpha * shift))
        return shifted
