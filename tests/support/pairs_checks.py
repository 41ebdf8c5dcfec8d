"""What the kernels of several cross-attentions are held to, whichever GPU backend has them.

Every check takes the name of the backend and the device that its tensors are made on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs, force_backend

from attention_cases import NAN, Case, Inputs, build, lay_out, poison
from attention_checks import operator
from attention_devices import draw_small, moved, normal, upstream_of
from attention_truth import find_truth, must_be_zero, rows_without_result
from compiled_attention import check_compiled_for_any_size
from fuzz import two_generators

LAYOUTS = ("heads_split", "every_second", "reversed_axes", "dense")
SEEDS = (7, torch.tensor(-8), 2**50, -1)


def several(
    device: str,
    sizes: Sequence[tuple[int, ...]],  # (B, H, Tq, Tk, D, Dv)
    *,
    lengths: bool = True,
    dtype: torch.dtype = torch.float32,
) -> list[AttentionPair]:
    """Of these sizes in unlike layouts; some have lengths, and NaN in the padding."""
    pairs = []
    for i, ((b, h, tq, tk, d, dv), layout) in enumerate(zip(sizes, LAYOUTS)):
        query, key, value = (
            normal(b, h, *rest, seed=10 * i + j, device="cpu")
            for j, rest in enumerate(((tq, d), (tk, d), (tk, dv)))
        )
        keys = rows = None
        if lengths and i != 1:
            keys = torch.tensor([tk // 2, 0, tk])[:b]
            for n, *padded in zip(keys.tolist(), key, value):
                for x in padded:
                    x[:, n:] = NAN
        if lengths and i != 2:
            rows = torch.tensor([tq // 3, tq, 0])[:b]
            for n, x in zip(rows.tolist(), query):
                x[:, n:] = NAN
        leaves = (lay_out(x.to(dtype), layout).requires_grad_() for x in (query, key, value))
        given = (*leaves, keys, rows, SEEDS[i])
        pairs.append(AttentionPair(*(moved(x, device) for x in given)))
    return pairs


def tensors(pairs: list[AttentionPair]) -> list[Tensor]:
    return [x for pair in pairs for x in pair[:3]]


def one_by_one(pairs: list[AttentionPair], **options: Any) -> list[Tensor]:
    return [
        cross_attention(
            p.query, p.key, p.value, key_lengths=p.key_lengths, query_lengths=p.query_lengths,
            seed=p.seed, **options,
        )
        for p in pairs
    ]  # fmt: skip


def with_gradients(
    function: Any, backend: str, pairs: list[AttentionPair], **options: Any
) -> list[Tensor]:
    """Outputs, and gradients of all tensors."""
    with force_backend(backend):
        outputs = function(pairs, **options)
    upstream = [
        normal(*out.shape, seed=i, device=str(out.device)).to(out.dtype)
        for i, out in enumerate(outputs)
    ]
    return [*outputs, *torch.autograd.grad(outputs, tensors(pairs), upstream)]


def check_bits_of_single_calls(backend: str, pairs: list[AttentionPair], **options: Any) -> None:
    found = with_gradients(cross_attention_pairs, backend, pairs, **options)
    assert_same_bits(found, with_gradients(one_by_one, backend, pairs, **options))


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == b.dtype and a.isfinite().all() and a.equal(b), i


def draw_cases(
    seed: int, most_dim: int, builds: int | None = None
) -> tuple[list[Case], float | None]:
    """One to six calls that can be made together, and their scale.

    Half of the lists have one head dim and one value dim, so that they fit into one launch.

    Args:
        builds: as `two_generators` takes it.
    """
    build, r = two_generators(seed, builds)
    compiled = [draw_small(build.randrange(10**6), most_dim) for _ in range(build.randint(1, 6))]
    widest = build.choice(compiled)
    has_keys, has_queries, alike = (build.random() < share for share in (0.8, 0.8, 0.5))
    # Wide heads have few steps, so that an emulator is done with them soon.
    most = 140 if max(widest.head_dim, widest.value_dim) <= 16 else 60
    cases = []
    for i, own in enumerate(compiled):
        sizes, like = draw_small(1000 * seed + i, most_dim), widest if alike else own
        cases.append(
            replace(
                own, seed=sizes.seed, dtype=widest.dtype, dropout_p=widest.dropout_p, bias_axes="",
                batch=sizes.batch, num_queries=min(sizes.num_queries, most),
                num_keys=min(sizes.num_keys, most), spread=sizes.spread,
                head_dim=min(like.head_dim, widest.head_dim),
                value_dim=min(like.value_dim, widest.value_dim),
                has_key_lengths=has_keys and own.has_key_lengths,
                has_query_lengths=has_queries and own.has_query_lengths,
            )
        )  # fmt: skip
    return cases, r.choice([None, 0.3])


def check_accuracy(backend: str, device: str, cases: list[Case], scale: float | None) -> None:
    """Each pair: at most twice the error of plain PyTorch, plus 2 units.

    NaN stands in all padding and in gradients that arrive at rows without result, whose own results
    are zeros.
    """
    inputs, truths, zeros, upstream = [], [], [], [upstream_of(case) for case in cases]
    for case, arriving in zip(cases, upstream):
        given = build(case)
        given.options["scale"] = scale
        empty = rows_without_result(case, given)
        zeros.append(must_be_zero(case, given, empty))
        truths.append(find_truth(given, [arriving]))
        poison(given)
        arriving[empty] = NAN
        inputs.append(given)
    found = _run(backend, device, inputs, upstream, scale, cases[0].dropout_p)
    for i, (case, got) in enumerate(zip(cases, found, strict=True)):
        where = f"pair {i} of {len(cases)}, {case}"
        for name, rows in zeros[i].items():
            assert not got[name][rows].any(), f"{name}, {where}"
        truths[i].check(got, where)


def _run(
    backend: str, device: str, inputs: list[Inputs], upstream: list[Tensor],
    scale: float | None, dropout_p: float,
) -> list[dict[str, Tensor]]:  # fmt: skip
    """Results and gradients of each pair by name, back on the CPU."""
    pairs = []
    for i, given in enumerate(inputs):
        seed = given.options["seed"]
        if seed is not None and i % 2:
            seed = torch.tensor(seed)
        lengths = given.options["key_lengths"], given.options["query_lengths"]
        arguments = (*given.leaves.values(), *lengths, seed)
        pairs.append(AttentionPair(*(moved(x, device) for x in arguments)))
    with force_backend(backend):
        outputs = cross_attention_pairs(pairs, scale=scale, dropout_p=dropout_p)
    gradients = torch.autograd.grad(outputs, tensors(pairs), [moved(x, device) for x in upstream])
    names = ["output", *(f"gradient of {name}" for name in ("query", "key", "value"))]
    return [
        dict(zip(names, (x.detach().cpu() for x in (out, *gradients[3 * i : 3 * i + 3]))))
        for i, out in enumerate(outputs)
    ]


def check_empty_axes(backend: str, device: str) -> None:
    """Beside pairs that have something in them, and alone."""
    full, empty, nobody = (
        normal(b, 1, t, 4, seed=0, device=device).requires_grad_()
        for b, t in ((2, 3), (2, 0), (0, 3))
    )
    pairs = [AttentionPair(full, empty, empty), AttentionPair(empty, full, full),
             AttentionPair(nobody, nobody, nobody), AttentionPair(full, full, full)]  # fmt: skip
    results = []
    for which in (backend, "reference"):
        with force_backend(which):
            out = cross_attention_pairs(pairs)
            (only,) = cross_attention_pairs(pairs[1:2])
        gradients = torch.autograd.grad([x.sum() for x in out], [full, empty, nobody])
        results.append([*out, only, *gradients])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not results[0][0].any() and results[0][3].all()


def check_shared_tensors(backend: str, device: str, steps: tuple[int, ...]) -> None:
    """All directions between modalities of these lengths: gradients of all pairs are summed."""
    leaves = [normal(1, 1, n, 6, seed=n, device=device).requires_grad_() for n in steps]
    pairs = [AttentionPair(x, y, y) for x, y in permutations(leaves, 2)]
    results = []
    for which in (backend, "reference"):
        with force_backend(which):
            outputs = cross_attention_pairs(pairs)
        upstream = [normal(*x.shape, seed=i, device=device) for i, x in enumerate(outputs)]
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, upstream)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def check_wanted_gradients(backend: str, pairs: list[AttentionPair]) -> None:
    """One tensor of one pair wants a gradient, and only that pair's output is used."""
    pairs = [
        p._replace(query=p.query.detach(), key=p.key.detach(), value=p.value.detach())
        for p in pairs
    ]
    leaf = pairs[0].key.requires_grad_()
    found: list[Tensor] = []
    for which in (backend, "reference"):
        with force_backend(which):
            outputs = cross_attention_pairs(pairs)
        found += torch.autograd.grad(outputs[0].sum(), leaf)
    torch.testing.assert_close(*found)


def check_operators(backend: str, device: str) -> None:
    """`torch.library.opcheck` of the forward and the backward operator."""
    sizes = [(2, 1, 3, 4, 3, 4), (2, 1, 4, 3, 6, 6)]
    pairs = [[x.detach() for x in p[:3]] for p in several(device, sizes, lengths=False)]
    inputs = [list(tensors) for tensors in zip(*pairs)]
    lengths = [torch.tensor(n).to(device) for n in ([4, 2], [0, 3])]
    seeds = [torch.tensor(n).to(device) for n in (1, 2)]
    options: Any = (lengths, [], [0.3, 0.4], 0.2, seeds)
    forward = operator(backend, "cross_attention_pairs")
    torch.library.opcheck(forward, (*inputs, *options))
    saved = forward(*inputs, *options)
    torch.library.opcheck(
        operator(backend, "cross_attention_pairs_backward"),
        ([torch.ones_like(out) for out in saved[:2]], *inputs, saved[:2], saved[2:], *options),
    )


def check_numeric_gradients(backend: str, device: str) -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    x, y = (normal(2, 1, n, 3, seed=n, device=device).requires_grad_() for n in (4, 5))
    lengths = torch.tensor([5, 2], device=device)

    def call(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        pairs = [AttentionPair(x, y, y, lengths, None, 7), AttentionPair(y, x, x, None, lengths, 8)]
        with force_backend(backend):
            return tuple(cross_attention_pairs(pairs, scale=0.6, dropout_p=0.3))

    assert torch.autograd.gradcheck(call, (x, y), eps=1e-2, atol=5e-3, rtol=5e-3, fast_mode=True)


def check_compiled(backend: str, device: str) -> None:
    """Two pairs of the same sequences, one with a seed in a tensor, one with a number."""

    def both_ways(x: Tensor, y: Tensor, lengths: Tensor, seed: Tensor) -> list[Tensor]:
        there = AttentionPair(x * 2, y, y, lengths, None, seed)
        back = AttentionPair(y, x, x, None, lengths, 3)
        return cross_attention_pairs([there, back], dropout_p=0.25)

    check_compiled_for_any_size(backend, device, both_ways, heads=1)


def check_tracing(backend: str) -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, y = (torch.empty(2, 1, n, 5, device="cuda", dtype=torch.float16) for n in (3, 7))
        inputs = ([x, y], [y, x], [y, x])
        options: Any = ([], [], [0.5, 0.5], 0.0, [])
        saved = operator(backend, "cross_attention_pairs")(*inputs, *options)
        back = operator(backend, "cross_attention_pairs_backward")(
            saved[:2], *inputs, saved[:2], saved[2:], *options
        )
    assert all(out.device.type == "cuda" for out in (*saved, *back))
    assert [out.dtype for out in saved] == [torch.float16] * 2 + [torch.float32] * 2
    assert [out.shape for out in saved] == [x.shape, y.shape, (2, 2, 1, 3), (2, 2, 1, 7)]
    assert all(out.dtype == torch.float16 for out in back)
    assert [out.shape for out in back] == [t.shape for t in (x, y, y, y, x, x)]
