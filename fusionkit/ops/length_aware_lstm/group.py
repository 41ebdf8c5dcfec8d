"""`length_aware_lstm_group`: several independent LSTMs over sequences of the same lengths."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.cuda_runtime import cuda_absence
from fusionkit.ops.extension import absence
from fusionkit.ops.length_aware_lstm.cpu import cpu_group_reasons, run_cpu_group
from fusionkit.ops.length_aware_lstm.cuda import (
    group_reasons,
    group_slower_reasons,
    run_cuda_group,
)
from fusionkit.ops.length_aware_lstm.reference import reference_reasons
from fusionkit.ops.length_aware_lstm.single import in_dtype_of_weights, length_aware_lstm
from fusionkit.ops.length_aware_lstm.streams import run_streams, streams_reasons
from fusionkit.ops.length_aware_lstm.validate import check_arguments


def run_one_by_one(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[Tensor]:
    """Takes the checked arguments of `length_aware_lstm_group`; each LSTM has a backend chosen."""
    return [
        length_aware_lstm(x, lengths, own, bidirectional=bidirectional)[0]
        for x, own in zip(inputs, weights)
    ]


register_backend(
    Backend(
        op="length_aware_lstm_group",
        name="reference",
        run=run_one_by_one,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="length_aware_lstm for one after the other; takes everything",
    )
)
register_backend(
    Backend(
        op="length_aware_lstm_group",
        name="cpu",
        run=run_cpu_group,
        not_supported_reasons=cpu_group_reasons,
        priority=10,
        summary="compiled kernel, float32; all directions of all LSTMs share the threads",
        unavailable=absence(),
    )
)
register_backend(
    Backend(
        op="length_aware_lstm_group",
        name="streams",
        run=run_streams,
        not_supported_reasons=streams_reasons,
        priority=20,
        summary="cuDNN as in flip, each LSTM on a CUDA stream of its own; not measured on a device "
        "yet",
    )
)
register_backend(
    Backend(
        op="length_aware_lstm_group",
        name="cuda",
        run=run_cuda_group,
        not_supported_reasons=group_reasons,
        priority=30,
        summary="CUDA kernel, float32; all directions of all LSTMs in one launch; not measured on "
        "a device yet",
        unavailable=cuda_absence(),
        slower_reasons=group_slower_reasons,
    )
)


def length_aware_lstm_group(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[Tensor]:
    """Run several LSTMs of one layer each over sequences that share their lengths.

    The results are those of `length_aware_lstm` for one after the other; run together, none waits
    for the others.

    Args:
        inputs: one or more (B, T, D), each with a D of its own.
        lengths: (B,) int64 in [0, T], or None where every sequence has T steps.
        weights: for each input w_ih, w_hh, b_ih, b_hh of each direction, as `torch.nn.LSTM` has
            them.
        bidirectional: run both directions, of all.

    Returns:
        For each input its output (B, T, H * directions), exact zeros on padding.

    Raises:
        DataError: a shape, dtype, device, length or the number of weights does not fit.
        BackendError: the forced backend cannot take these inputs.
    """
    if not inputs or len(weights) != len(inputs):
        raise DataError(
            "inputs must be one or more tensors with one list of weights each, "
            f"got {len(inputs)} inputs and {len(weights)} lists"
        )
    inputs = [in_dtype_of_weights(x, own) for x, own in zip(inputs, weights)]
    for i, (x, own) in enumerate(zip(inputs, weights)):
        if x.shape[:2] != inputs[0].shape[:2]:
            raise DataError(
                f"inputs[{i}] {tuple(x.shape)} and inputs[0] {tuple(inputs[0].shape)} differ in "
                "batch or steps"
            )
        check_arguments(x, lengths, own, 1, bidirectional, 0.0, "lstm")
    if not inputs[0].shape[0] or not inputs[0].shape[1]:
        return run_one_by_one(inputs, lengths, weights, bidirectional=bidirectional)
    options = {"bidirectional": bidirectional}
    backend = choose("length_aware_lstm_group", inputs, lengths, weights, **options)
    outputs: list[Tensor] = backend.run(inputs, lengths, weights, **options)
    return outputs
