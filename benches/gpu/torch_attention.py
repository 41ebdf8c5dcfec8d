"""What PyTorch and xformers have for attention, one contender for each backend, by force."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benches.gpu.contenders import Function, compiled, contender
from fusionkit.bench.case import Contender, Inputs, NotAvailableError
from fusionkit.bench.cases.plain_attention import key_mask, plain_attention
from fusionkit.bench.goals import EAGER

FLASH = "SDPA flash"
SDPA_BACKENDS = {FLASH: "FLASH_ATTENTION", "SDPA efficient": "EFFICIENT_ATTENTION",
                 "SDPA cuDNN": "CUDNN_ATTENTION", "SDPA math": "MATH"}  # fmt: skip
_REFUSALS = ("No available kernel", "No viable backend", "Invalid backend")
_NAMES = ("query", "key", "value")


def torch_contenders(device: torch.device, *, slow: bool) -> list[Contender]:
    """All that can attend (B, H, T, D); with ``slow`` those that compile for seconds, too."""
    found = [
        contender(EAGER, _eager, own_dropout=True),
        contender("SDPA", sdpa(None), own_dropout=True),
    ]
    if device.type == "cuda":
        found += [contender(name, sdpa(name), own_dropout=True) for name in SDPA_BACKENDS]
        found += [contender("varlen, packing included", _varlen), contender("xformers", _xformers)]
    if slow:
        found.append(contender("torch.compile", _compiled, own_dropout=True, slow_start=True))
        found.append(contender("FlexAttention", _flex, slow_start=True))
    return found


def three(leaves: Mapping[str, Tensor], suffix: str = "") -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, of names that end in ``suffix``."""
    query, key, value = (leaves[name + suffix] for name in _NAMES)
    return query, key, value


def mask_of(inputs: Inputs, suffix: str = "") -> Tensor | None:
    """Of the valid keys, (B, 1, 1, Tk), None where all are."""
    return key_mask(inputs.lengths.get(f"key{suffix}"), inputs.tensors[f"key{suffix}"].shape[2])


def sdpa(name: str | None, suffixes: Sequence[str] = ("",)) -> Callable[[Inputs], Function]:
    """One call for each suffix, with one of the backends alone, or with torch's choice for None."""

    def make(inputs: Inputs) -> Function:
        masks, p = [mask_of(inputs, suffix) for suffix in suffixes], inputs.dropout_p

        def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
            return [
                F.scaled_dot_product_attention(*three(leaves, suffix), mask, p)
                for suffix, mask in zip(suffixes, masks)
            ]

        if name is None:
            return run
        return _forced(name, run, inputs)

    return make


def _forced(name: str, run: Function, inputs: Inputs) -> Function:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, SDPA_BACKENDS[name])
    # Why a backend refuses is in warnings, of which the error has not a word.
    with warnings.catch_warnings(record=True) as told, torch.no_grad(), sdpa_kernel([backend]):
        warnings.simplefilter("always")
        try:
            run(inputs.tensors)
        except RuntimeError as error:
            if not str(error).startswith(_REFUSALS):
                raise
            words = [str(warning.message).partition(" (Triggered")[0].strip() for warning in told]
            # The other backends tell that they are disabled; a title ends in a colon.
            reasons = [w for w in words if "disabled" not in w and not w.endswith(":")]
            raise NotAvailableError("; ".join(reasons) or str(error)) from error

    def forced(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        with sdpa_kernel([backend]):
            return run(leaves)

    return forced


def _eager(inputs: Inputs) -> Function:
    mask, p = mask_of(inputs), inputs.dropout_p
    return lambda leaves: [plain_attention(*three(leaves), mask, p)]


def _compiled(inputs: Inputs) -> Function:
    mask, p = mask_of(inputs), inputs.dropout_p
    return lambda leaves: [compiled(plain_attention)(*three(leaves), mask, p)]


def _flex(inputs: Inputs) -> Function:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if inputs.dropout_p:
        raise NotAvailableError("FlexAttention has no dropout")
    query, key, _ = three(inputs.tensors)
    block_mask = None
    if inputs.lengths:
        lengths = inputs.lengths["key"]

        def valid(batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
            return column < lengths[batch]

        steps = (query.shape[2], key.shape[2])
        block_mask = create_block_mask(valid, len(lengths), None, *steps, device=query.device)

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        tensors = three(leaves)
        if not torch.is_grad_enabled():
            # It refuses tensors that ask for gradients even where none are taken.
            tensors = (tensors[0].detach(), tensors[1].detach(), tensors[2].detach())
        return [compiled(flex_attention)(*tensors, block_mask=block_mask)]

    return run


def _varlen(inputs: Inputs) -> Function:
    if find_spec("torch.nn.attention.varlen") is None:
        raise NotAvailableError("this torch has no torch.nn.attention.varlen")
    from torch.nn.attention.varlen import varlen_attn

    if inputs.dropout_p:
        raise NotAvailableError("varlen_attn has no dropout")
    query, key, _ = three(inputs.tensors)
    batch, _, queries, _ = query.shape
    lengths = inputs.lengths.get("key", torch.full((batch,), key.shape[2], device=query.device))
    valid = (torch.arange(key.shape[2], device=query.device) < lengths[:, None]).flatten()
    rows = valid.nonzero()[:, 0]
    key_starts = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    query_starts = torch.arange(batch + 1, device=query.device, dtype=torch.int32) * queries
    longest = int(lengths.max())

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in three(leaves))
        if inputs.lengths:
            k, v = k[rows], v[rows]
        out: Any = varlen_attn(q, k, v, query_starts, key_starts, queries, longest)
        return [out.unflatten(0, (batch, queries)).transpose(1, 2)]

    return run


def _xformers(inputs: Inputs) -> Function:
    if find_spec("xformers") is None:
        raise NotAvailableError("xformers is not installed")
    from xformers.ops import memory_efficient_attention

    if inputs.lengths or inputs.dropout_p:
        raise NotAvailableError("measured at full lengths and without dropout only")

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        q, k, v = (x.transpose(1, 2) for x in three(leaves))
        return [memory_efficient_attention(q, k, v).transpose(1, 2)]

    return run
