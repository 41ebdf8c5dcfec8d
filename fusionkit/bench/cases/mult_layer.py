"""A layer of MulT on unaligned data (Tsai et al. 2019): projections around attention.

The same four projections as `nn.MultiheadAttention` in one layout of parameters, so that all
gradients can be compared; heads are views, nothing is copied on the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.bench.case import BOTH, FORWARD, Case, Contender, Inputs, Suite, Task, Work
from fusionkit.bench.cases.plain_attention import attention_work, keyed_attention
from fusionkit.bench.differentiable import differentiable
from fusionkit.bench.goals import ATTENTION_DROPOUT, MULT_LAYER
from fusionkit.ops import cross_attention

BATCH, QUERIES, KEYS, HEADS, SIZE, DROPOUT = 32, 50, 500, 8, 40, 0.1
_INPUTS = ("query", "source")
_WEIGHTS = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def suite() -> Suite:
    """One layer with dropout, as it is trained."""
    case = Case(
        name=f"{QUERIES}x{KEYS} H{HEADS} E{SIZE}",
        group=MULT_LAYER,
        variant=ATTENTION_DROPOUT,
        inputs=_inputs,
        reference=_reference,
        contenders=(
            Contender("nn.MultiheadAttention", partial(_module, True), own_dropout=True),
            Contender("nn.MHA without weights", partial(_module, False), own_dropout=True),
            Contender("fusionkit", _ours, role="ours"),
        ),
        work={phase: layer_work(phase) for phase in (FORWARD, BOTH)},
        quick=True,
    )
    return Suite("mult_layer", (case,))


def layer_work(phase: str) -> Work:
    """Attention, and the projections: two over the queries, two over the source.

    The backward does two products for each one of a projection. Bytes of a projection's input and
    output are moved once forward and twice backward.
    """
    head_dim = SIZE // HEADS
    attention = attention_work(BATCH, HEADS, QUERIES, head_dim, BATCH * KEYS, phase)
    rows = BATCH * 2 * (QUERIES + KEYS)
    passes = {FORWARD: 1, BOTH: 3}[phase]
    return attention + Work(2.0 * passes * rows * SIZE * SIZE, 4.0 * passes * rows * 2 * SIZE)


def _inputs() -> Inputs:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "query": (BATCH, QUERIES, SIZE),
        "source": (BATCH, KEYS, SIZE),
        "in_proj_weight": (3 * SIZE, SIZE),
        "in_proj_bias": (3 * SIZE,),
        "out_proj.weight": (SIZE, SIZE),
        "out_proj.bias": (SIZE,),
    }
    scale = {name: 1.0 if name in _INPUTS else SIZE**-0.5 for name in shapes}
    return Inputs(
        {n: scale[n] * torch.randn(shape, generator=generator) for n, shape in shapes.items()},
        dropout_p=DROPOUT,
    )


def projected(tensors: Mapping[str, Tensor], attend: Attend) -> Tensor:
    """Project, split the heads, attend, join the heads, project: (B, Tq, E)."""
    query, source = tensors["query"], tensors["source"]
    weights = torch.split(tensors["in_proj_weight"], [SIZE, 2 * SIZE])
    biases = torch.split(tensors["in_proj_bias"], [SIZE, 2 * SIZE])
    q = F.linear(query, weights[0], biases[0]).view(BATCH, QUERIES, HEADS, -1)
    pairs = F.linear(source, weights[1], biases[1]).view(BATCH, KEYS, 2, HEADS, -1)
    k, v = pairs.unbind(2)
    mixed = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    joined = mixed.transpose(1, 2).reshape(BATCH, QUERIES, SIZE)
    return F.linear(joined, tensors["out_proj.weight"], tensors["out_proj.bias"])


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    leaves, p, seed = inputs.leaves(), inputs.dropout_p, inputs.seed

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return keyed_attention(query, key, value, None, p, seed)

    return differentiable(lambda: [projected(leaves, attend)], leaves, phase).results()


def _module(need_weights: bool, inputs: Inputs, phase: str) -> Task:
    module = nn.MultiheadAttention(SIZE, HEADS, inputs.dropout_p, batch_first=True)
    module.load_state_dict({name: inputs.tensors[name] for name in _WEIGHTS})
    parameters = dict(module.named_parameters())
    own = inputs.leaves()
    leaves = {name: parameters.get(name, own[name]) for name in inputs.tensors}
    query, source = (leaves[name] for name in _INPUTS)

    def attend() -> Sequence[Tensor]:
        return [module(query, source, source, need_weights=need_weights)[0]]

    return differentiable(attend, leaves, phase)


def _ours(inputs: Inputs, phase: str) -> Task:
    leaves, p = inputs.leaves(), inputs.dropout_p
    seed = inputs.seed if p else None

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return cross_attention(query, key, value, dropout_p=p, seed=seed)

    return differentiable(lambda: [projected(leaves, attend)], leaves, phase)
