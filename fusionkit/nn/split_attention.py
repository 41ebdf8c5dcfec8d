"""Split attention between modalities (MSAF): channel blocks weighted by what all of them hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.errors import ConfigError, DataError
from fusionkit.nn.dropout import Dropout
from fusionkit.ops.split_attention import segment_mean, segment_scale

BlockDropoutMode = Literal["corrected", "released"]


class SplitAttention(nn.Module):
    """Split, join and highlight: the MSAF module (Su et al., arXiv 2012.07175).

    Every modality's channels are split into blocks of ``block_size``; a last block that is not full
    is filled with zero channels, which are cut off again. The blocks of all modalities are summed
    and averaged over all trailing axes to one descriptor; from it comes one attention vector a
    block, a softmax over all blocks of all modalities for each channel. A block is multiplied by
    ``floor + (1 - floor) * attention``. There is no residual: with a floor of 0 the mean gain is
    one over the number of blocks.

    With ``num_segments`` > 1 the time axis is cut into that many parts, each with weights of its
    own. Released code cuts the padded axis. Ours, where ``lengths`` are given: every sample's own
    valid steps are cut, and only they are averaged, so that padding has no influence. A part
    without steps (a sequence shorter than the number of parts) has a descriptor of 0.

    A training batch of one has no batch statistics: the running ones are used for it and stay as
    they are (released code: an error).

    Args:
        sizes: channels of every modality, in the order of the features.
        block_size: channels C of a block.
        reduction: the descriptor is squeezed to ``C // reduction`` features.
        floor: lambda, least gain of a block, in [0, 1]; 1 leaves all features as they are.
        block_dropout: probability in [0, 1) that a sample's block is dropped in training, from the
            descriptor and from the output; the others grow by 1 / (1 - p).
        block_dropout_mode: ``released`` multiplies the output by the mask a second time, so kept
            blocks grow by 1 / (1 - p)**2 there.
        num_segments: parts of the time axis (q).

    Raises:
        ConfigError: an argument is out of range, or ``reduction`` leaves no feature.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        block_size: int,
        *,
        reduction: int = 4,
        floor: float = 0.0,
        block_dropout: float = 0.0,
        block_dropout_mode: BlockDropoutMode = "corrected",
        num_segments: int = 1,
    ) -> None:
        super().__init__()
        _check_options(sizes, block_size, reduction, floor, block_dropout, num_segments)
        self.sizes, self.block_size = tuple(sizes), block_size
        self.num_blocks = tuple(-(-size // block_size) for size in sizes)
        self.floor, self.num_segments = floor, num_segments
        self.block_dropout, self.block_dropout_mode = Dropout(block_dropout), block_dropout_mode
        self.segments = nn.ModuleList(
            BlockAttention(sum(self.num_blocks), block_size, block_size // reduction)
            for _ in range(num_segments)
        )

    def forward(
        self, features: Sequence[Tensor], lengths: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """Weight the features of every modality.

        Args:
            features: one tensor a modality, (B, C_m, T_m, ...) with any or no axes after the
                channels; with several segments there must be a time axis.
            lengths: for every modality (B,) valid steps of its time axis, or None where all count.

        Returns:
            Tensors of the same shapes; zero on padding.

        Raises:
            DataError: number or shapes of the features do not fit.
        """
        lengths = check_features(self.sizes, features, lengths)
        mask = self._block_mask(features[0])
        attention = self._attention(features, lengths, mask)
        gains = self.floor + (1.0 - self.floor) * attention
        if mask is not None:
            gains = gains * (mask if self.block_dropout_mode == "corrected" else mask.square())
        # (B, Q, blocks, C) to each modality's (B, channels, Q), without the channels of the filling
        parts = torch.split(gains, list(self.num_blocks), dim=2)
        return [
            segment_scale(x, part.flatten(2)[..., :size].mT.to(x.dtype), lengths=n)
            for x, part, size, n in zip(features, parts, self.sizes, lengths)
        ]

    def attention(
        self, features: Sequence[Tensor], lengths: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """The softmax over blocks, (B, num_segments, all blocks, block_size): for pictures.

        Blocks are in the order of the modalities; no block is dropped. Arguments as `forward`.
        """
        lengths = check_features(self.sizes, features, lengths)
        return self._attention(features, lengths, None)

    def _attention(
        self,
        features: Sequence[Tensor],
        lengths: Sequence[Tensor | None],
        mask: Tensor | None,
    ) -> Tensor:
        means = []
        for x, size, blocks, n in zip(features, self.sizes, self.num_blocks, lengths):
            mean = segment_mean(x, num_segments=self.num_segments, lengths=n).mT
            filled = F.pad(mean, (0, blocks * self.block_size - size))
            means.append(filled.reshape(*filled.shape[:2], blocks, self.block_size))
        blocks_of_all = torch.cat(means, dim=2)
        if mask is not None:
            blocks_of_all = blocks_of_all * mask
        descriptors = blocks_of_all.sum(dim=2)
        found = [segment(descriptors[:, k]) for k, segment in enumerate(self.segments)]
        return torch.stack(found, dim=1)

    def _block_mask(self, like: Tensor) -> Tensor | None:
        """(B, Q, blocks, 1) of 0 and 1 / (1 - p); None where nothing is dropped."""
        if not self.training or self.block_dropout.p == 0.0:
            return None
        shape = (len(like), self.num_segments, sum(self.num_blocks), 1)
        mask: Tensor = self.block_dropout(like.new_ones(shape))
        return mask


class BlockAttention(nn.Module):
    """From one joint descriptor to an attention vector a block (join and highlight).

    Args:
        num_blocks: blocks of all modalities. block_size: channels of each.
        reduced_size: features after the squeeze.
    """

    def __init__(self, num_blocks: int, block_size: int, reduced_size: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(block_size, reduced_size)
        self.norm = BatchNorm(reduced_size)
        self.highlights = nn.ModuleList(
            nn.Linear(reduced_size, block_size) for _ in range(num_blocks)
        )

    def forward(self, descriptor: Tensor) -> Tensor:
        """(B, block_size) to (B, num_blocks, block_size), a softmax over the blocks."""
        reduced = F.relu(self.norm(self.squeeze(descriptor)))
        highlights = [cast(nn.Linear, layer) for layer in self.highlights]
        # All layers in one product.
        weight = torch.cat([layer.weight for layer in highlights])
        bias = torch.cat([layer.bias for layer in highlights])
        logits = F.linear(reduced, weight, bias)
        return logits.reshape(len(logits), len(highlights), -1).softmax(dim=1)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of vectors that takes a training batch of one by running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) to (B, C)."""
        if not self.training or len(x) != 1:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def check_features(
    sizes: Sequence[int],
    features: Sequence[Tensor],
    lengths: Sequence[Tensor | None] | None,
) -> Sequence[Tensor | None]:
    """The lengths, None for each modality where none are given.

    Raises:
        DataError: not one tensor (B, size, ...) for each of ``sizes``, or not as many lengths.
    """
    if lengths is None:
        lengths = [None] * len(sizes)
    if len(features) != len(sizes) or len(lengths) != len(sizes):
        raise DataError(
            f"a fusion of {len(sizes)} modalities got {len(features)} features and {len(lengths)} "
            "lengths"
        )
    for k, (x, size) in enumerate(zip(features, sizes)):
        if x.dim() < 2 or x.shape[1] != size:
            raise DataError(
                f"features[{k}] must be (B, {size}, ...), channels on axis 1; got {tuple(x.shape)}"
            )
    return lengths


def _check_options(
    sizes: Sequence[int],
    block_size: int,
    reduction: int,
    floor: float,
    block_dropout: float,
    num_segments: int,
) -> None:
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"sizes must be the channels of each modality, got {list(sizes)}")
    if block_size < 1 or num_segments < 1:
        raise ConfigError(
            f"block_size and num_segments must be at least 1, got {block_size} and {num_segments}"
        )
    if not 1 <= reduction <= block_size:
        raise ConfigError(
            f"reduction must be in [1, block_size = {block_size}], got {reduction}; it divides the "
            "channels of a block"
        )
    if not 0.0 <= floor <= 1.0:
        raise ConfigError(f"floor must be in [0, 1], got {floor}")
    if not 0.0 <= block_dropout < 1.0:
        raise ConfigError(f"block_dropout must be in [0, 1), got {block_dropout}")
