"""Random calls of `length_aware_lstm`, what they should give, and how to compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusionkit.ops import length_aware_lstm
from fusionkit.ops.backends import available_backends

# Those that take both cells and both dtypes; the compiled kernels have tests of their own.
_KERNELS = ("cpu", "cuda")
BACKENDS = [b.name for b in available_backends()["length_aware_lstm"] if b.name not in _KERNELS]
NAN = math.nan


@dataclass(frozen=True)
class Case:
    """Shapes and options of one call, drawn from ``seed``."""

    seed: int
    batch: int
    steps: int
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    cell: str
    dtype: torch.dtype
    layout: str
    kind_of_lengths: str
    need_state: bool

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"B{self.batch}-T{self.steps}-D{self.input_size}-H{self.hidden_size}"
            f"-L{self.num_layers}x{1 + self.bidirectional}-{self.cell}-{dtype}-{self.layout}"
            f"-{self.kind_of_lengths}{'-state' * self.need_state}-s{self.seed}"
        )


def picker(seed: int) -> Callable[..., Any]:
    """One of its arguments at every call."""
    g = torch.Generator().manual_seed(seed)
    return lambda *options: options[int(torch.randint(len(options), (), generator=g))]


def draw_for_kernels(
    seed: int,
    pick: Callable[..., Any],
    *,
    batches: Sequence[int],
    steps: Sequence[int],
    input_sizes: Sequence[int],
    hidden_sizes: Sequence[int],
) -> Case:
    """A call that the compiled kernels take: an LSTM in float32 of one of these sizes."""
    return Case(
        seed=seed,
        batch=pick(*batches),
        steps=pick(*steps),
        input_size=pick(*input_sizes),
        hidden_size=pick(*hidden_sizes),
        num_layers=pick(1, 1, 1, 2),
        bidirectional=pick(True, False),
        cell="lstm",
        dtype=torch.float32,
        layout=pick("dense", "time_first", "every_second"),
        kind_of_lengths=pick("none", "full", "with_zero", "any", "shorter"),
        need_state=pick(False, True),
    )


def draw(seed: int) -> Case:
    """Everything that the operator takes."""
    pick = picker(seed)
    return Case(
        seed=seed,
        batch=pick(1, 2, 3, 6),
        steps=pick(1, 2, 3, 5, 12),
        input_size=pick(1, 3, 8),
        hidden_size=pick(1, 2, 5, 16),
        num_layers=pick(1, 1, 2, 3),
        bidirectional=pick(True, True, False),
        cell=pick("lstm", "lstm", "gru"),
        dtype=pick(torch.float32, torch.float32, torch.float64),
        layout=pick("dense", "time_first", "every_second"),
        kind_of_lengths=pick("none", "full", "with_zero", "any", "any", "shorter"),
        need_state=pick(False, True),
    )


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values with other strides."""
    if layout == "time_first":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "every_second":
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), NAN)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


@dataclass
class Inputs:
    """Input, lengths, weights by their names in torch, and the options of the call."""

    x: Tensor
    lengths: Tensor | None
    weights: dict[str, Tensor]
    options: dict[str, Any]

    def cast(self, dtype: torch.dtype) -> Inputs:
        return Inputs(
            self.x.detach().to(dtype).requires_grad_(),
            self.lengths,
            {n: w.detach().to(dtype).requires_grad_() for n, w in self.weights.items()},
            self.options,
        )

    def on(self, device: str) -> Inputs:
        return Inputs(
            self.x.detach().to(device).requires_grad_(),
            None if self.lengths is None else self.lengths.to(device),
            {n: w.detach().to(device).requires_grad_() for n, w in self.weights.items()},
            self.options,
        )


def build(case: Case) -> Inputs:
    g = torch.Generator().manual_seed(case.seed)
    torch.manual_seed(case.seed)
    module = module_of(case.cell, case.input_size, case.hidden_size, case.num_layers,
                       case.bidirectional)  # fmt: skip
    weights = {n: w.detach().to(case.dtype) for n, w in module.named_parameters()}
    x = torch.randn(case.batch, case.steps, case.input_size, generator=g).to(case.dtype)
    any_lengths = torch.randint(case.steps + 1, (case.batch,), generator=g)
    lengths = {
        "none": None,
        "full": torch.full((case.batch,), case.steps),
        "any": any_lengths,
        "with_zero": any_lengths * (torch.arange(case.batch) > 0),
        "shorter": torch.randint(max(1, case.steps // 2), (case.batch,), generator=g),
    }
    return Inputs(
        lay_out(x, case.layout).requires_grad_(),
        lengths[case.kind_of_lengths],
        {n: w.requires_grad_() for n, w in weights.items()},
        {
            "num_layers": case.num_layers,
            "bidirectional": case.bidirectional,
            "cell": case.cell,
            "need_state": case.need_state,
        },
    )


def module_of(
    cell: str, input_size: int, hidden_size: int, num_layers: int, bidirectional: bool
) -> nn.Module:
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    return kind(input_size, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional)


def poison(inputs: Inputs) -> None:
    """NaN into all padding of the input."""
    if inputs.lengths is None:
        return
    x = inputs.x.detach().clone(memory_format=torch.preserve_format)
    for b, n in enumerate(inputs.lengths.tolist()):
        x[b, n:] = NAN
    inputs.x = x.requires_grad_()


def results_by_name(output: Tensor, state: Any, inputs: Inputs) -> dict[str, Tensor]:
    """Outputs, states and gradients of a sum weighted by fixed numbers."""
    states = {} if state is None else {"h_n": state} if isinstance(state, Tensor) else None
    if states is None:
        states = dict(zip(("h_n", "c_n"), state))
    named = {"output": output, **states}
    g = torch.Generator().manual_seed(1)
    upstream = [torch.randn(x.shape, generator=g).to(x) for x in named.values()]
    leaves = {"input": inputs.x, **inputs.weights}
    gradients = torch.autograd.grad(list(named.values()), list(leaves.values()), upstream)
    named = {n: x.detach() for n, x in named.items()}
    return named | {f"gradient of {n}": x for n, x in zip(leaves, gradients)}


def run(inputs: Inputs) -> dict[str, Tensor]:
    output, state = length_aware_lstm(
        inputs.x, inputs.lengths, list(inputs.weights.values()), **inputs.options
    )
    return results_by_name(output, state, inputs)


def packed(inputs: Inputs) -> dict[str, Tensor]:
    """What one writes without the operator: `torch.nn.LSTM` on the packed rows that have a step."""
    options = inputs.options
    batch, steps, input_size = inputs.x.shape
    hidden = inputs.weights["weight_hh_l0"].shape[1]
    directions = 2 if options["bidirectional"] else 1
    slots = options["num_layers"] * directions
    lengths = torch.full((batch,), steps) if inputs.lengths is None else inputs.lengths
    rows = lengths.nonzero().flatten()
    module = module_of(options["cell"], input_size, hidden, options["num_layers"],
                       options["bidirectional"])  # fmt: skip
    output = (inputs.x * 0.0)[:, :, :1].repeat(1, 1, hidden * directions)
    states = [inputs.x.new_zeros(slots, batch, hidden) for _ in range(2)]
    # Every leaf stays in the graph, so that unused ones get zeros and not None.
    output = output + 0.0 * sum(w.sum() for w in inputs.weights.values())
    states = [s + 0.0 * output.sum() for s in states]
    if len(rows):
        sequence = pack_padded_sequence(
            inputs.x[rows], lengths[rows], batch_first=True, enforce_sorted=False
        )
        result, state = torch.func.functional_call(module, inputs.weights, (sequence,))
        padded, _ = pad_packed_sequence(result, batch_first=True, total_length=steps)
        output = output.index_copy(0, rows, padded)
        found = state if isinstance(state, tuple) else (state,)
        states = [s.index_copy(1, rows, f) for s, f in zip(states, found)]
    state = None
    if options["need_state"]:
        state = (states[0], states[1]) if options["cell"] == "lstm" else states[0]
    return results_by_name(output, state, inputs)


def by_loops(inputs: Inputs) -> dict[str, Tensor]:
    """One sequence and one step at a time, with the cell written out."""
    options, weights = inputs.options, list(inputs.weights.values())
    directions = 2 if options["bidirectional"] else 1
    batch, steps, _ = inputs.x.shape
    hidden = weights[1].shape[1]
    lengths = [steps] * batch if inputs.lengths is None else inputs.lengths.tolist()
    outputs, hs, cs = [], [], []
    for b in range(batch):
        sequence = [inputs.x[b, t] for t in range(lengths[b])]
        for layer in range(options["num_layers"]):
            halves = []
            for direction in range(directions):
                first = 4 * (layer * directions + direction)
                w_ih, w_hh, b_ih, b_hh = weights[first : first + 4]
                h = c = inputs.x.new_zeros(hidden)
                out = []
                for x in reversed(sequence) if direction else sequence:
                    from_x, from_h = w_ih @ x + b_ih, w_hh @ h + b_hh
                    if options["cell"] == "lstm":
                        i, f, g, o = (from_x + from_h).chunk(4)
                        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                        h = o.sigmoid() * c.tanh()
                    else:
                        (rx, zx, nx), (rh, zh, nh) = from_x.chunk(3), from_h.chunk(3)
                        r, z = (rx + rh).sigmoid(), (zx + zh).sigmoid()
                        h = (1 - z) * (nx + r * nh).tanh() + z * h
                    out.append(h)
                halves.append(out[::-1] if direction else out)
                hs.append(h)
                cs.append(c)
            sequence = [torch.cat(parts) for parts in zip(*halves)]
        padding = inputs.x.new_zeros(steps - lengths[b], hidden * directions)
        outputs.append(torch.cat([*(s.unsqueeze(0) for s in sequence), padding]))
    h_n, c_n = (torch.stack(s).view(batch, -1, hidden).transpose(0, 1) for s in (hs, cs))
    state: Any = (h_n, c_n) if options["cell"] == "lstm" else h_n
    return results_by_name(
        torch.stack(outputs), state if options["need_state"] else None, inputs
    )  # fmt: skip


def takers(inputs: Inputs) -> list[str]:
    """Those of BACKENDS that take these inputs."""
    weights = list(inputs.weights.values())
    return [
        b.name
        for b in available_backends()["length_aware_lstm"]
        if b.name in BACKENDS and not b.reasons(inputs.x, inputs.lengths, weights, **inputs.options)
    ]


def assert_close(
    got: dict[str, Tensor], want: dict[str, Tensor], plain: dict[str, Tensor] | None, eps: float
) -> None:
    """Error of each result at most twice that of packed torch, plus 16 eps of the largest value."""
    assert got.keys() == want.keys()
    for name, truth in want.items():
        assert got[name].shape == truth.shape, name
        assert got[name].isfinite().all(), name
        if not truth.numel():
            continue
        error = (got[name].double() - truth).abs().max()
        allowed = 0.0 if plain is None else 2 * (plain[name].double() - truth).abs().max()
        assert error <= allowed + 16 * eps * (1 + truth.abs().max()), name
