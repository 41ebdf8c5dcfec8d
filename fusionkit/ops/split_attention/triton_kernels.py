"""Means and gains by segment on a GPU: one launch each way for each operator.

A program takes CHANNELS channels of one sample and one segment of its time axis, BLOCK numbers of
each at a time, in a fixed order. The numbers of a segment follow each other on the flattened axis,
``inner`` of them a step. LAST says that channels lie next to each other in memory. What does so
comes in UNIT numbers: ``channels``, or else ``inner``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from fusionkit.ops.triton_runtime import DTYPE_NAMES, KernelBuild, unit_of

TILE = 1024
NUM_WARPS = 4
SIZES = ["channels", "steps", "inner", "num_segments"]


@triton.jit
def _counts(channels, inner, LAST: tl.constexpr, UNIT: tl.constexpr):
    """Channels, and numbers in a step of one."""
    if LAST:
        channels *= UNIT
    else:
        inner *= UNIT
    return channels, inner


@triton.jit
def _segment(
    lengths, channels, steps, inner, num_segments,
    HAS_LENGTHS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The program's channels; where it is in (B, Q); numbers from, below and up to the padding."""
    segment = tl.program_id(0) % num_segments
    tile = tl.program_id(0) // num_segments
    tiles = tl.cdiv(channels, CHANNELS)
    sample = (tile // tiles).to(tl.int64)
    channel = tile % tiles * CHANNELS + tl.arange(0, CHANNELS)[:, None]
    length = steps
    if HAS_LENGTHS:
        # Out of range nothing can raise here, and nothing else may be read.
        length = tl.minimum(tl.maximum(tl.load(lengths + sample).to(tl.int32), 0), steps)
    part = tl.maximum(length // num_segments, 1)
    last = segment == num_segments - 1
    start = tl.minimum(segment * part, length)
    stop = tl.where(last, length, tl.minimum(start + part, length))
    # The last segment has the padding after it, to be filled with zeros.
    end = tl.where(last, steps, stop)
    if WIDE:
        channel = channel.to(tl.int64)
        start, stop, end = start.to(tl.int64), stop.to(tl.int64), end.to(tl.int64)
    return sample, channel, segment, start * inner, stop * inner, end * inner


@triton.jit
def _places(channel, element, channels, size, LAST: tl.constexpr):
    """Offsets in one sample."""
    if LAST:
        return element * channels + channel
    else:
        return channel * size + element


@triton.jit(do_not_specialize=SIZES)
def segment_mean_forward(
    x, out, lengths, channels, steps, inner, num_segments,
    HAS_LENGTHS: tl.constexpr, LAST: tl.constexpr, UNIT: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    channels, inner = _counts(channels, inner, LAST, UNIT)
    sample, channel, segment, start, stop, _ = _segment(
        lengths, channels, steps, inner, num_segments, HAS_LENGTHS, CHANNELS, WIDE
    )
    x += sample * channels * steps * inner
    total = tl.zeros([CHANNELS, BLOCK], tl.float32)
    for block in range(start, stop, BLOCK):
        element = block + tl.arange(0, BLOCK)[None, :]
        place = _places(channel, element, channels, steps * inner, LAST)
        there = (channel < channels) & (element < stop)
        total += tl.load(x + place, mask=there, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=1)[:, None] / tl.maximum(stop - start, 1)
    out += (sample * channels + channel) * num_segments + segment
    tl.store(out, mean, mask=channel < channels)


@triton.jit(do_not_specialize=SIZES)
def segment_mean_backward(
    grad_out, grad_x, lengths, channels, steps, inner, num_segments,
    HAS_LENGTHS: tl.constexpr, LAST: tl.constexpr, UNIT: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    channels, inner = _counts(channels, inner, LAST, UNIT)
    sample, channel, segment, start, stop, end = _segment(
        lengths, channels, steps, inner, num_segments, HAS_LENGTHS, CHANNELS, WIDE
    )
    grad_x += sample * channels * steps * inner
    grad_out += (sample * channels + channel) * num_segments + segment
    share = tl.load(grad_out, mask=channel < channels, other=0.0).to(tl.float32)
    share /= tl.maximum(stop - start, 1)
    for block in range(start, end, BLOCK):
        element = block + tl.arange(0, BLOCK)[None, :]
        place = _places(channel, element, channels, steps * inner, LAST)
        there = (channel < channels) & (element < end)
        tl.store(grad_x + place, tl.where(element < stop, share, 0.0), mask=there)


@triton.jit(do_not_specialize=SIZES)
def segment_scale_forward(
    x, gains, out, lengths, channels, steps, inner, num_segments,
    HAS_LENGTHS: tl.constexpr, LAST: tl.constexpr, UNIT: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    channels, inner = _counts(channels, inner, LAST, UNIT)
    sample, channel, segment, start, stop, end = _segment(
        lengths, channels, steps, inner, num_segments, HAS_LENGTHS, CHANNELS, WIDE
    )
    x += sample * channels * steps * inner
    out += sample * channels * steps * inner
    gains += (sample * channels + channel) * num_segments + segment
    gain = tl.load(gains, mask=channel < channels, other=0.0).to(tl.float32)
    for block in range(start, end, BLOCK):
        element = block + tl.arange(0, BLOCK)[None, :]
        place = _places(channel, element, channels, steps * inner, LAST)
        valid = (channel < channels) & (element < stop)
        result = tl.load(x + place, mask=valid, other=0.0).to(tl.float32) * gain
        there = (channel < channels) & (element < end)
        tl.store(out + place, tl.where(valid, result, 0.0), mask=there)


@triton.jit(do_not_specialize=SIZES)
def segment_scale_backward(
    grad_out, x, gains, grad_x, grad_gains, lengths, channels, steps, inner, num_segments,
    HAS_LENGTHS: tl.constexpr, LAST: tl.constexpr, NEEDS: tl.constexpr, UNIT: tl.constexpr,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Bit 0 of NEEDS asks for the gradient of x, bit 1 for that of the gains."""
    channels, inner = _counts(channels, inner, LAST, UNIT)
    sample, channel, segment, start, stop, end = _segment(
        lengths, channels, steps, inner, num_segments, HAS_LENGTHS, CHANNELS, WIDE
    )
    grad_out += sample * channels * steps * inner
    x += sample * channels * steps * inner
    grad_x += sample * channels * steps * inner
    at_gain = (sample * channels + channel) * num_segments + segment
    gain = tl.load(gains + at_gain, mask=channel < channels, other=0.0).to(tl.float32)
    total = tl.zeros([CHANNELS, BLOCK], tl.float32)
    for block in range(start, end, BLOCK):
        element = block + tl.arange(0, BLOCK)[None, :]
        place = _places(channel, element, channels, steps * inner, LAST)
        valid = (channel < channels) & (element < stop)
        grad = tl.load(grad_out + place, mask=valid, other=0.0).to(tl.float32)
        if NEEDS & 2:
            total += grad * tl.load(x + place, mask=valid, other=0.0).to(tl.float32)
        if NEEDS & 1:
            there = (channel < channels) & (element < end)
            tl.store(grad_x + place, tl.where(valid, grad * gain, 0.0), mask=there)
    if NEEDS & 2:
        found = tl.sum(total, axis=1)[:, None]
        tl.store(grad_gains + at_gain, found, mask=channel < channels)


def tiles(
    batch: int, channels: int, steps: int, inner: int, num_segments: int, channels_last: bool,
    dtype: torch.dtype,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the constants of a launch over (batch, channels, steps * inner) numbers."""
    size = steps * inner
    power = triton.next_power_of_2
    if channels_last:
        columns = min(32, power(channels))
        block = min(TILE // columns, power(size))
    else:
        block = min(TILE, max(16, power(triton.cdiv(size, num_segments))))
        columns = min(TILE // block, power(channels))
    constants = {
        "LAST": channels_last, "UNIT": unit_of(dtype, channels if channels_last else inner),
        "CHANNELS": columns, "BLOCK": block, "WIDE": channels * size >= 2**31 - TILE,
    }  # fmt: skip
    return (batch * triton.cdiv(channels, columns) * num_segments,), constants


def builds() -> list[KernelBuild]:
    """Every kernel in every dtype, for both layouts."""
    found = []
    sizes = dict.fromkeys(SIZES, "i32")
    for dtype, last, wide in (
        ("fp32", False, False), ("fp32", True, False), ("fp16", False, True), ("bf16", True, False)
    ):  # fmt: skip
        pointer = f"*{dtype}"
        name = f"{dtype}, channels {'last' if last else 'first'}"
        constants = {
            **tiles(8, 64, 1, 784, 1, last, DTYPE_NAMES[dtype])[1],
            "WIDE": wide,
            "HAS_LENGTHS": True,
        }
        for kernel, tensors, more in (
            (segment_mean_forward, ("x", "out"), {}),
            (segment_mean_backward, ("grad_out", "grad_x"), {}),
            (segment_scale_forward, ("x", "gains", "out"), {}),
            (
                segment_scale_backward,
                ("grad_out", "x", "gains", "grad_x", "grad_gains"),
                {"NEEDS": 3},
            ),
        ):
            signature = {**dict.fromkeys(tensors, pointer), "lengths": "*i64", **sizes}
            found.append(
                KernelBuild(
                    f"{kernel.__name__}, {name}", kernel, signature, {**constants, **more},
                    NUM_WARPS,
                )
            )  # fmt: skip
    return found
