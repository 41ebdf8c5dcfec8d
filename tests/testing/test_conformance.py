"""The conformance kit finds what it is meant to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fusionkit import DataSpec, Method, MethodConfig, MultimodalBatch
from fusionkit.registry import registry
from fusionkit.registry.manager import Registered
from fusionkit.testing import assert_conforms

Broken = Callable[["Small", MultimodalBatch, Tensor], Tensor]


class Small(nn.Module):
    """Masked mean of the first modality; ``change`` breaks it."""

    def __init__(self, spec: DataSpec, change: Broken) -> None:
        super().__init__()
        self.name, size = next(iter(spec.modalities.items()))
        self.head = nn.Linear(size, spec.num_outputs)
        self.change = change

    def forward(self, batch: MultimodalBatch) -> Tensor:
        x, lengths = batch.features[self.name], batch.lengths[self.name]
        valid = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        mean = (x * valid).sum(dim=1) / lengths[:, None]
        return self.change(self, batch, self.head(mean))


def padded_mean(self: Small, batch: MultimodalBatch, _: Tensor) -> Tensor:
    mean: Tensor = self.head(batch.features[self.name].mean(dim=1))
    return mean


def batch_statistics(self: Small, batch: MultimodalBatch, output: Tensor) -> Tensor:
    return output - output.mean(dim=0)


def padded_gradient(self: Small, batch: MultimodalBatch, output: Tensor) -> Tensor:
    steps, weight = batch.features[self.name].shape[1], self.head.weight.sum()
    return output + steps * (weight - weight.detach())


CASES: list[tuple[str, Broken, str]] = [
    ("shape", lambda s, b, y: y[:, :0], "outputs"),
    ("nan", lambda s, b, y: y / 0 * 0, "not finite"),
    ("no_gradient", lambda s, b, y: y.detach() + torch.zeros((), requires_grad=True), "gradient"),
    ("random", lambda s, b, y: y + torch.rand(()), "two evaluations differ"),
    ("padding", padded_mean, "depends on its batch|padding"),
    ("more padding", padded_gradient, "more padding changes a gradient"),
    ("batch", batch_statistics, "depends on its batch"),
    ("autocast", lambda s, b, y: y if y.dtype == torch.float32 else y / 0, "bfloat16 autocast"),
    ("gap", lambda s, b, y: y / (b.lengths[s.name][:, None] != 1), "a missing modality"),
    ("graph", lambda s, b, y: y * 2 if bool(y.sum() > 1e9) else y, "torch.compile fails"),
    ("traced", lambda s, b, y: y + int(torch.compiler.is_compiling()), "compile changes the out"),
]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Broken], str]]:
    names = registry().names("method")
    assert "kit_test" not in names

    def add(change: Broken) -> str:
        method = Method(
            name="kit_test",
            summary="",
            config=MethodConfig,
            build=lambda config, spec: Small(spec, change),
            min_modalities=1,
        )
        monkeypatch.setitem(registry()._tables["method"], "kit_test", [Registered(method, "test")])
        return "kit_test"

    yield add


def test_a_sound_method_passes(register: Callable[[Broken], str]) -> None:
    assert_conforms(register(lambda self, batch, output: output))


@pytest.mark.parametrize(("change", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_broken_method_is_found(
    register: Callable[[Broken], str], change: Broken, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_conforms(register(change))
