"""Golden files, and the comparison of a module of ours with what the original code gave.

The rules are those of the README beside the files: float64 to 1e-9 and float32 to 1e-5 of an
array's largest magnitude; trajectories in float64 only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Arrays = dict[str, Tensor]


class Golden:
    """One golden file; floating-point arrays come in ``dtype``."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.meta = json.loads(str(self.arrays.pop("meta")))
        self.config: dict[str, Any] = self.meta.get("config", {})
        self.name, self.dtype = path.stem, dtype

    def group(self, prefix: str) -> Arrays:
        """The arrays ``prefix/NAME`` by NAME."""
        start = prefix + "/"
        return {
            name.removeprefix(start): self._tensor(array)
            for name, array in self.arrays.items()
            if name.startswith(start)
        }

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.array(array))
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


@dataclass
class Built:
    """Our module for a golden file.

    Args:
        module: in the file's mode (training or evaluation), before it has the file's parameters.
        run: (module, inputs by their names in ``in/``) -> outputs by their names in ``out/``.
        name: name of a parameter or buffer in the file -> its name in the module.
        zero_gradients: parameters in the file whose gradient is zero in exact arithmetic.
    """

    module: nn.Module
    run: Callable[[nn.Module, Arrays], Mapping[str, Tensor]]
    name: Callable[[str], str] = str
    zero_gradients: Collection[str] = field(default_factory=frozenset)

    def load(self, golden: Golden) -> Built:
        """The same, with the file's parameters and buffers in the file's dtype."""
        values = {**golden.group("param"), **golden.group("buffer")}
        state = {self.name(name): value for name, value in values.items()}
        self.module.to(golden.dtype).load_state_dict(state)
        return self


def assert_close(name: str, got: Tensor, want: Tensor, relative: float, floor: float = 0.0) -> None:
    """Fail where ``got`` is off by more than ``relative`` of the largest of ``want``."""
    assert got.shape == want.shape, f"{name}: {tuple(got.shape)}, not {tuple(want.shape)}"
    error = (got - want).abs().max().item() if want.numel() else 0.0
    limit = max(relative * want.abs().max().item(), floor) if want.numel() else 0.0
    assert error <= limit, f"{name}: off by {error:.3e}, allowed {limit:.3e}"


def check_outputs_and_gradients(golden: Golden, built: Built) -> None:
    """Outputs, and gradients of every parameter and input, of a module that has its parameters."""
    inputs = golden.group("in")
    wanted_input_gradients = golden.group("gradin")
    for name in wanted_input_gradients:
        inputs[name].requires_grad_()
    outputs = built.run(built.module, inputs)
    exact = golden.dtype == torch.float64
    for name, want in golden.group("out").items():
        assert_close(f"out/{name}", outputs[name].detach(), want, 1e-9 if exact else 1e-5)
    cotangents = golden.group("cot")
    if not cotangents:
        return
    loss = torch.stack([(outputs[name] * cot).sum() for name, cot in cotangents.items()]).sum()
    loss.backward()
    gradients = {name: p.grad for name, p in built.module.named_parameters()}
    largest = max(g.abs().max().item() for g in gradients.values() if g is not None)
    relative, floor = (1e-9, largest * 1e-16) if exact else (1e-5, largest * 1e-6)
    for name, want in golden.group("grad").items():
        got = gradients[built.name(name)]
        if name in golden.meta.get("no_grad", ()):
            assert got is None or not got.any(), name
        elif name in built.zero_gradients:
            assert got is not None and got.abs().max() <= (1e-10 if exact else 1e-5), name
        else:
            assert got is not None, f"grad/{name}: none"
            assert_close(f"grad/{name}", got, want, relative, floor)
    for name, want in wanted_input_gradients.items():
        found = inputs[name].grad
        assert found is not None, f"gradin/{name}: none"
        assert_close(f"gradin/{name}", found, want, relative, floor)


def check_trajectory(
    golden: Golden,
    built: Built,
    loss: Callable[[nn.Module, Arrays], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    group: str = "traj",
    after_backward: Callable[[], None] | None = None,
    loose: Collection[str] = (),
) -> None:
    """Losses before each step and after the last, and the parameters after it; float64.

    Args:
        loss: (module, inputs) -> what the file's optimizer minimises.
        after_backward: clips gradients, where the original code does.
        loose: parameters in the file that only rounding moves; they are compared to 1e-7.
    """
    assert golden.dtype == torch.float64
    wanted, inputs = golden.group(group), golden.group("in")
    losses = []
    for _ in range(len(wanted["loss"]) - 1):
        optimizer.zero_grad()
        value = loss(built.module, inputs)
        losses.append(value.item())
        value.backward()
        if after_backward is not None:
            after_backward()
        optimizer.step()
    losses.append(loss(built.module, inputs).item())
    assert_close(f"{group}/loss", torch.tensor(losses, dtype=torch.float64), wanted["loss"], 1e-9)
    trained = dict(built.module.named_parameters())
    for name, want in golden.group(f"{group}/param").items():
        limit = 1e-7 if name in loose else 1e-9
        assert_close(f"{group}/param/{name}", trained[built.name(name)].detach(), want, limit)
