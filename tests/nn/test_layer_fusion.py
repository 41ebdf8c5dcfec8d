"""Fusion between named layers of networks that exist: their weights stay, every layer runs once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.errors import ConfigError, DataError
from fusionkit.nn.layer_fusion import Exchange, LayerFusion
from fusionkit.nn.split_attention import SplitAttention
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion


class Residual(nn.Module):
    """A branch beside the fused layer, and dropout by function in the traced code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        h = F.dropout(h + self.body(h), 0.5, self.training)
        return self.head(h.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Layers that give (output, state)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(5, 6, batch_first=True)
        self.second = nn.LSTM(6, 6, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.first(x)
        x, _ = self.second(x)
        return self.head(x[:, -1])  # type: ignore[no-any-return]


class Doubling(nn.Module):
    """A block that shows what came from whom: features times 2, and the sum of the other's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))

    def forward(self, features: list[Tensor], *lengths: Any) -> list[Tensor]:
        total = torch.stack([x.mean() for x in features]).sum()
        return [2 * x + self.shift * total for x in features]


AXES = {"picture": 1, "sequence": -1}


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "picture": torch.randn(4, 3, 8, 8, generator=generator),
        "sequence": torch.randn(4, 7, 5, generator=generator),
    }


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"picture": Residual(), "sequence": Recurrent()}


def fused(nets: dict[str, nn.Module], blocks: Sequence[nn.Module] | None = None) -> LayerFusion:
    first, second = blocks or [SplitAttention([8, 6], 4), SqueezeExcitationFusion([8, 6])]
    return LayerFusion(
        nets,
        [
            Exchange({"picture": "norm", "sequence": "first"}, first, AXES),
            Exchange({"picture": "body.1", "sequence": "second"}, second, AXES),
        ],
    )


def by_hand(nets: Any, blocks: Sequence[nn.Module], x: dict[str, Tensor]) -> dict[str, Tensor]:
    picture, sequence = nets["picture"], nets["sequence"]
    p, s = picture.norm(picture.stem(x["picture"])), sequence.first(x["sequence"])[0]
    p, s = blocks[0]([p, s.transpose(1, 2)])
    p = p.relu()
    skipped = p
    p, s = picture.body[1](picture.body[0](p)), sequence.second(s.transpose(1, 2))[0]
    p, s = blocks[1]([p, s.transpose(1, 2)])
    p = F.dropout(skipped + picture.body[2](p), 0.5, picture.training)
    s = s.transpose(1, 2)
    return {"picture": picture.head(p.mean(dim=(2, 3))), "sequence": sequence.head(s[:, -1])}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_networks_cut_by_hand(training: bool) -> None:
    """Outputs, gradients, batch statistics; the same dropout masks, drawn once."""
    nets = networks()
    blocks: list[nn.Module] = [Doubling(), Doubling()]
    model = fused(nets, blocks).train(training)
    twins, twin_blocks = copy.deepcopy(nets), copy.deepcopy(blocks)
    torch.manual_seed(3)
    found = model(inputs())
    torch.manual_seed(3)
    want = by_hand(twins, twin_blocks, inputs())
    for name, out in want.items():
        torch.testing.assert_close(found[name], out, rtol=0, atol=0)
    torch.stack([x.square().sum() for x in found.values()]).sum().backward()
    torch.stack([x.square().sum() for x in want.values()]).sum().backward()
    pairs = [(nets[name], twins[name]) for name in nets] + list(zip(blocks, twin_blocks))
    for module, twin in pairs:
        for p, q in zip(module.parameters(), twin.parameters()):
            assert p.grad is not None and q.grad is not None and p.grad.equal(q.grad)
        for buffer, other in zip(module.buffers(), twin.buffers()):
            assert buffer.equal(other)
    assert nets["picture"].get_buffer("norm.num_batches_tracked").item() == int(training)


def test_pretrained_weights_keep_names_and_values() -> None:
    nets = networks()
    before = {
        name: {key: value.clone() for key, value in net.state_dict().items()}
        for name, net in nets.items()
    }
    model = fused(nets)
    for name, state in before.items():
        assert model.networks[name] is nets[name]
        after = {
            key.removeprefix(f"networks.{name}."): value
            for key, value in model.state_dict().items()
            if key.startswith(f"networks.{name}.")
        }
        assert list(after) == list(state)
        assert all(after[key].equal(value) for key, value in state.items())
        model.networks[name].load_state_dict(state)
    model.eval()(inputs())
    for name, state in before.items():
        assert all(nets[name].state_dict()[key].equal(v) for key, v in state.items())


def test_a_floor_of_one_leaves_the_networks_alone() -> None:
    nets = networks()
    model = fused(nets, [SplitAttention([8, 6], 4, floor=1.0) for _ in range(2)]).eval()
    found = model(inputs())
    for name, x in inputs().items():
        assert found[name].equal(nets[name](x))


def test_the_mode_may_change_and_layers_may_be_replaced() -> None:
    nets = networks()
    model = fused(nets)
    model.train()(inputs())
    first, second = (model.eval()(inputs())["picture"] for _ in range(2))
    assert first.equal(second)
    torch.manual_seed(0)
    assert not model.train()(inputs())["picture"].equal(model(inputs())["picture"])
    nets["picture"].head = nn.Linear(8, 9)  # type: ignore[assignment]
    assert model.eval()(inputs())["picture"].shape == (4, 9)


def test_copies_and_pickles() -> None:
    model = fused(networks()).eval()
    want = model(inputs())
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = other(inputs())
        assert all(found[name].equal(out) for name, out in want.items())


def test_one_network_for_two_modalities() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    block = SqueezeExcitationFusion([6, 6])
    model = LayerFusion(
        {"left": network, "right": network}, [Exchange({"left": "1", "right": "1"}, block)]
    )
    x = torch.randn(3, 5), torch.randn(3, 5)
    found = model({"left": x[0], "right": x[1]})
    hidden = block([network[:2](own) for own in x])
    assert found["left"].equal(network[2](hidden[0]))
    assert found["right"].equal(network[2](hidden[1]))


def test_networks_that_sit_out_and_several_arguments() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor, scale: Tensor, shift: float = 1.0) -> Tensor:
            return self.layer(x) * scale + shift  # type: ignore[no-any-return]

    nets = {"scaled": Scaled(), "alone": nn.Linear(3, 2)}
    model = LayerFusion(nets, [Exchange({"scaled": "layer"}, Doubling())])
    x, scale = torch.randn(2, 3), torch.tensor(3.0)
    found = model({"scaled": (x, scale), "alone": x})
    assert found["alone"].equal(nets["alone"](x))
    hidden = nets["scaled"].layer(x)  # type: ignore[operator]
    assert found["scaled"].equal((2 * hidden + hidden.mean()) * scale + 1.0)


def test_lengths_reach_the_block() -> None:
    nets = {"a": nn.Sequential(nn.Linear(3, 4), nn.ReLU()), "b": nn.Sequential(nn.Linear(2, 4))}
    block = SqueezeExcitationFusion([4, 4])
    model = LayerFusion(nets, [Exchange({"a": "1", "b": "0"}, block, channel_axis=-1)])
    x = {"a": torch.randn(2, 5, 3), "b": torch.randn(2, 6, 2)}
    lengths = {"a": torch.tensor([5, 2]), "b": torch.tensor([3, 6])}
    found = model(x, lengths)
    want = block([nets[m](x[m]).transpose(1, 2) for m in x], [lengths["a"], lengths["b"]])
    for out, own in zip(found.values(), want):
        assert out.equal(own.transpose(1, 2))
    assert not found["a"][1, 2:].any()


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x if x.sum() > 0 else -x  # type: ignore[no-any-return]


class Twice(Looking):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        (nn.Sequential(nn.Linear(3, 3)), {"other": "0"}, "no network 'other'; there are one"),
        (nn.Sequential(nn.Linear(3, 3)), {"one": "7"}, "'one' has no layer '7'; it has 0"),
        (nn.Sequential(nn.Linear(3, 3)), {"one": ""}, "has no layer ''"),
        (Looking(), {"one": "layer"}, "torch.fx cannot trace the code around layer"),
        (Twice(), {"one": "layer"}, "runs its layers as layer, layer"),
    ],
)
def test_bad_layers(network: nn.Module, layers: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LayerFusion({"one": network}, [Exchange(layers, Doubling())])


def test_exchanges_in_the_wrong_order() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    exchanges = [Exchange({"one": layer}, Doubling()) for layer in ("2", "0")]
    with pytest.raises(ConfigError, match="as 0, 2, the exchanges name 2, 0"):
        LayerFusion({"one": network}, exchanges)


def test_axes_of_other_networks() -> None:
    exchange = Exchange({"one": "0"}, Doubling(), {"other": 1})
    with pytest.raises(ConfigError, match="channel_axis: names other, the layers are of one"):
        LayerFusion({"one": nn.Sequential(nn.Linear(3, 3))}, [exchange])


def test_bad_inputs() -> None:
    model = fused(networks())
    with pytest.raises(DataError, match="inputs: got picture, need picture, sequence"):
        model({"picture": inputs()["picture"]})
