"""Fusion blocks between named layers of networks that exist already, pretrained ones above all."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fusionkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Exchange:
    """One point at which networks exchange features.

    Args:
        layers: network -> qualified name of the layer whose output takes part, such as
            ``layer3`` or ``features.5``; in the order of the block's modalities.
        block: called with the list of outputs, channels on axis 1 (and the list of lengths, where
            there are any); gives the list that the networks go on with. `SplitAttention` and
            `SqueezeExcitationFusion` are such blocks.
        channel_axis: of the layers' outputs; -1 for sequences (B, T, D). One for all or one each.
    """

    layers: Mapping[str, str]
    block: nn.Module
    channel_axis: int | Mapping[str, int] = 1


class LayerFusion(nn.Module):
    """Run several networks side by side and let them exchange features after named layers.

    The networks stay what they are: the same modules, state dictionaries and modes. Each runs up to
    its layer of the first exchange, the block puts its output in the place of the layers' outputs,
    and each goes on from there to the next exchange and its end. Every layer runs exactly once a
    forward pass, so gradients, batch statistics and dropout are those of one network.

    To be able to wait in the middle, the code *around* the named layers is traced by `torch.fx`:
    the forward methods of the modules that hold them, nothing inside the layers or beside them.
    Control flow that depends on values is not possible there; hooks of these modules do not run.

    Args:
        networks: name -> network; names are identifiers.
        exchanges: in the order in which they happen. A network may be absent from some.

    Raises:
        ConfigError: no such network or layer; a layer that does not run exactly once or in this
            order; code that cannot be traced.

    >>> import torch
    >>> from fusionkit.nn.split_attention import SplitAttention
    >>> video = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten())
    >>> audio = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten())
    >>> exchange = Exchange({"video": "1", "audio": "0"}, SplitAttention([8, 4], 4))
    >>> both = LayerFusion({"video": video, "audio": audio}, [exchange])
    >>> outputs = both({"video": torch.zeros(2, 3, 5, 5), "audio": torch.zeros(2, 2, 8)})
    >>> {name: tuple(x.shape) for name, x in outputs.items()}
    {'video': (2, 72), 'audio': (2, 24)}
    """

    def __init__(self, networks: Mapping[str, nn.Module], exchanges: Sequence[Exchange]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.blocks = nn.ModuleList(exchange.block for exchange in exchanges)
        self._axes: list[dict[str, int]] = []
        self._layers: dict[str, list[str]] = {name: [] for name in self.networks}
        for exchange in exchanges:
            axis = exchange.channel_axis
            for name, layer in exchange.layers.items():
                if name not in self._layers:
                    raise ConfigError(
                        f"layers: no network {name!r}; there are {', '.join(self._layers)}"
                    )
                self._layers[name].append(layer)
            if not isinstance(axis, int) and set(axis) != set(exchange.layers):
                raise ConfigError(
                    f"channel_axis: names {', '.join(axis)}, the layers are of "
                    f"{', '.join(exchange.layers)}; give one number for all, or one each"
                )
            self._axes.append(
                {n: axis if isinstance(axis, int) else axis[n] for n in exchange.layers}
            )
        self._holders = {name: _holders(layers) for name, layers in self._layers.items()}
        self._graphs: dict[tuple[str, tuple[bool, ...]], fx.Graph] = {}
        for name in self.networks:
            self._graph(name)

    def forward(
        self,
        inputs: Mapping[str, Tensor | tuple[Any, ...]],
        lengths: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Any]:
        """Run all networks.

        Args:
            inputs: network -> its input, or a tuple of its positional arguments.
            lengths: network -> (B,) valid steps of axis 2 of what its layers give, for all blocks.

        Returns:
            Network -> its output.

        Raises:
            DataError: inputs of other networks than there are, or a layer that gives no tensor.
        """
        if set(inputs) != set(self._layers):
            raise DataError(f"inputs: got {', '.join(inputs)}, need {', '.join(self._layers)}")
        runs = {}
        for name, network in self.networks.items():
            given = inputs[name]
            arguments = given if isinstance(given, tuple) else (given,)
            runs[name] = _Run(network, self._graph(name), arguments, self._layers[name])
        for block, axes in zip(self.blocks, self._axes):
            features = [runs[name].next_feature().movedim(axis, 1) for name, axis in axes.items()]
            if lengths is None:
                fused = block(features)
            else:
                fused = block(features, [lengths.get(name) for name in axes])
            for (name, axis), x in zip(axes.items(), fused):
                runs[name].replace(x.movedim(1, axis))
        return {name: run.finish() for name, run in runs.items()}

    def _graph(self, name: str) -> fx.Graph:
        """What surrounds a network's layers, traced once for each mode that its holders are in."""
        network, holders = self.networks[name], self._holders[name]
        mode = tuple(network.get_submodule(holder).training for holder in holders)
        if (name, mode) not in self._graphs:
            self._graphs[name, mode] = _trace(name, network, holders, self._layers[name])
        return self._graphs[name, mode]

    def __getstate__(self) -> dict[str, Any]:
        # Graphs cannot be pickled, and are quickly made again.
        return {**self.__dict__, "_graphs": {}}


class _Run:
    """One forward pass of one network that waits at each of its layers."""

    def __init__(
        self, network: nn.Module, graph: fx.Graph, arguments: tuple[Any, ...], layers: list[str]
    ) -> None:
        self._steps = _run(network, graph, arguments, frozenset(layers))
        self._value: Any = None

    def next_feature(self) -> Tensor:
        """Run up to the next layer; a recurrent layer's output is the first of what it gives."""
        layer, self._value = self._steps.send(self._value)
        feature = self._value[0] if isinstance(self._value, tuple) else self._value
        if not isinstance(feature, Tensor):
            raise DataError(f"layer {layer!r} gives {type(feature).__name__}, not a tensor")
        return feature

    def replace(self, fused: Tensor) -> None:
        """What the network goes on with in the place of the feature."""
        old = self._value
        self._value = (fused, *old[1:]) if isinstance(old, tuple) else fused

    def finish(self) -> Any:
        """Run to the end, and give the network's output."""
        try:
            self._steps.send(self._value)
        except StopIteration as end:
            return end.value
        raise AssertionError("a layer is left over")


def _run(
    network: nn.Module, graph: fx.Graph, arguments: tuple[Any, ...], layers: frozenset[str]
) -> Generator[tuple[str, Any], Any, Any]:
    """Interpret the graph; yields each of the layers with its output and is sent the new output."""
    interpreter = fx.Interpreter(network, graph=graph)
    interpreter.args_iter = iter(arguments)
    for node in graph.nodes:
        value = interpreter.run_node(node)
        if node.op == "output":
            return value
        if node.op == "call_module" and node.target in layers:
            value = yield node.target, value
        interpreter.env[node] = value
        for used in interpreter.user_to_last_uses.get(node, []):
            del interpreter.env[used]
    raise AssertionError("a graph has an output")


class _Around(fx.Tracer):
    """Goes into the modules that hold a named layer and takes all others as they are."""

    def __init__(self, holders: Sequence[str]) -> None:
        super().__init__()
        self.holders = frozenset(holders)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.holders


def _holders(layers: Sequence[str]) -> list[str]:
    """Names of the modules that hold the layers; the network itself is the empty name."""
    parts = [layer.split(".") for layer in layers]
    found = {".".join(part[:depth]) for part in parts for depth in range(len(part))}
    return sorted(found | {""})


def _trace(
    name: str, network: nn.Module, holders: Sequence[str], layers: Sequence[str]
) -> fx.Graph:
    known = dict(network.named_modules())
    for layer in layers:
        if layer not in known or not layer:
            raise ConfigError(
                f"layers: network {name!r} has no layer {layer!r}; it has "
                + ", ".join(part for part in known if part)
            )
    try:
        graph = _Around(holders).trace(network)
    except Exception as error:
        raise ConfigError(
            f"network {name!r}: torch.fx cannot trace the code around {', '.join(layers)} "
            f"({error}); move what depends on values into a module of its own"
        ) from error
    order = [n.target for n in graph.nodes if n.op == "call_module" and n.target in layers]
    if order != list(layers):
        raise ConfigError(
            f"network {name!r} runs its layers as {', '.join(map(str, order)) or 'none'}, the "
            f"exchanges name {', '.join(layers)}: each must run once and in this order, and hold "
            "no other"
        )
    return graph
