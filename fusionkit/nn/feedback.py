"""Top-down masks: what the other modalities made of the input gates a modality's raw features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fusionkit.nn.dropout import Dropout, dropout_seed
from fusionkit.nn.recurrent import LengthAwareRNN, run_together
from fusionkit.ops import gated_mask

MaskKind = Literal["lstm", "linear", "boom", "downup"]

# Of the released code for the LSTMs, of the authors' library slp for the two-layer networks.
_DROPOUT: dict[MaskKind, float] = {"lstm": 0.1, "linear": 0.0, "boom": 0.2, "downup": 0.2}


class FeedbackMask(nn.Module):
    """Masks the features of one modality by the mean of sigmoids, one sigmoid a source.

    ``x * mean_i sigmoid(f_i(h_i))`` (MMLatch, section 2, eq. 4). With D features of x and d of a
    source, f_i is by ``kind``:

    - ``lstm``: a one-directional LSTM with D units;
    - ``linear``: a linear layer at every step;
    - ``boom``: two linear layers at every step, d -> 2d -> D, with GELU and dropout between them;
    - ``downup``: the same with d -> d/5 (rounded down, at least 1) -> D.

    Args:
        target_size: features D of the modality that is masked.
        source_size: features d of every source. num_sources: how many sources.
        kind: of the mask networks.
        dropout: on the output of the mask LSTMs, or inside the two-layer networks; a linear layer
            has none. None: 0.1 for LSTMs, 0.2 for two layers.
        mask_dropout: on the averaged mask.
        mask_dropout_at_eval: keep the mask dropout on in evaluation, as the released code does.
        scale: what the mask is multiplied by, > 0. At 1, the paper's, an untrained mask halves its
            input; at 2 (ours) it leaves the input as it is on average.
    """

    def __init__(
        self,
        target_size: int,
        source_size: int,
        num_sources: int,
        *,
        kind: MaskKind = "lstm",
        dropout: float | None = None,
        mask_dropout: float = 0.2,
        mask_dropout_at_eval: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.kind: MaskKind = kind
        self.scale = scale
        self.mask_dropout, self.mask_dropout_at_eval = mask_dropout, mask_dropout_at_eval
        p = _DROPOUT[kind] if dropout is None else dropout
        self.dropout = Dropout(p if kind == "lstm" else 0.0)
        self.gates = nn.ModuleList(
            _mask_network(kind, source_size, target_size, p) for _ in range(num_sources)
        )

    def gate_logits(
        self,
        sources: Sequence[Tensor],
        lengths: Tensor | None,
        hidden: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """One (B, T, D) tensor of logits for every source (B, T, source_size).

        ``hidden`` are the outputs of the mask LSTMs on the sources, where they ran already.
        """
        if self.kind != "lstm":
            return [gate(source) for gate, source in zip(self.gates, sources)]
        if hidden is None:
            hidden = run_together(self.recurrent_gates(), sources, lengths)
        return [self.dropout(h) for h in hidden]

    def recurrent_gates(self) -> list[LengthAwareRNN]:
        """The mask LSTMs, none with another kind."""
        return [gate for gate in self.gates if isinstance(gate, LengthAwareRNN)]

    def mask(self, sources: Sequence[Tensor], lengths: Tensor | None = None) -> Tensor:
        """The averaged mask (B, T, D) in (0, 1), before scale and dropout: for pictures."""
        logits = self.gate_logits(sources, lengths)
        return torch.stack(logits).sigmoid().mean(dim=0)

    def forward(
        self,
        x: Tensor,
        sources: Sequence[Tensor],
        lengths: Tensor | None = None,
        *,
        keep_padding: bool = False,
        hidden: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Mask x (B, T, D); padded steps give zeros, or x times its mask with ``keep_padding``.

        ``hidden`` is as in `gate_logits`.
        """
        dropout_p, seed = dropout_seed(self, self.mask_dropout, x.device, self.mask_dropout_at_eval)
        scaled = x if self.scale == 1.0 else self.scale * x
        return gated_mask(
            scaled, self.gate_logits(sources, lengths, hidden),
            lengths=None if keep_padding else lengths, dropout_p=dropout_p, seed=seed,
        )  # fmt: skip


def _mask_network(kind: MaskKind, source_size: int, target_size: int, dropout: float) -> nn.Module:
    if kind == "lstm":
        return LengthAwareRNN(source_size, target_size)
    if kind == "linear":
        return nn.Linear(source_size, target_size)
    inner = 2 * source_size if kind == "boom" else max(1, source_size // 5)
    return nn.Sequential(
        nn.Linear(source_size, inner),
        nn.GELU(),
        Dropout(dropout),
        nn.Linear(inner, target_size),
    )
