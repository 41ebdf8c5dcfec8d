"""The training step as CUDA graphs: captured once a static shape, replayed from then on.

A CUDA graph starts the whole step (noise, forward, loss, backward, clipping, optimizer) at once, in
place of many short kernels one by one. It holds addresses and shapes: batches are copied into
static buffers of few padded lengths, and every shape has a graph of its own. What a graph holds is
`main_step`, the code of the uncaptured loop. What a schedule changes is set from outside; losses
are read at the end of an epoch.

Against the uncaptured loop: without dropout and noise the results are the same up to rounding
(padded lengths, and the optimizers' capturable forms, order their sums in another way; what a
schedule changes is rounded to float32, and in ``64-true`` Adam's bias correction, too). With
dropout or ``train.input_noise`` the masks and the noise are other ones: they are drawn for the
padded shapes. Every replay draws anew, from torch's generator of the device.

Not run so far: everything that needs a GPU, that is `capture_step`, the side stream, and the
optimizers with ``capturable`` or ``fused``. Tests run the rest on the CPU with a direct call in
place of a capture, look for host reads in every method's step by fake tensors on a CUDA device, and
hold a comparison of captured with uncaptured training that needs a CUDA device and has not had one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.store import SequenceStore
from fusionkit.errors import ConfigError
from fusionkit.registry.method import Method
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig
from fusionkit.training.device_rates import DeviceRates
from fusionkit.training.epoch import Trainer, main_step, noisy, not_finite
from fusionkit.training.objective import Schedule, cycles_momentum
from fusionkit.training.settings import Settings

WARM_UP = 3
"""Steps of a shape that are taken uncaptured: libraries and the optimizer set themselves up."""


_LEAVE = "leave --cuda-graph (train.cuda_graph) out"


def bucket(steps: int, longest: int) -> int:
    """The padded length of a batch: the next power of two, at most the data's longest.

    Few graphs, log2 of the longest at most. A batch of many samples has nearly always one close to
    the longest, so most batches have the same length and little is wasted.

    >>> [bucket(steps, 50) for steps in (0, 1, 3, 32, 33, 50)]
    [1, 1, 4, 32, 50, 50]
    """
    return min(1 << max(steps - 1, 0).bit_length(), max(longest, 1))


def longest_steps(store: SequenceStore) -> dict[str, int]:
    """Modality -> steps of its longest sequence."""
    return {m: int(n.max(initial=0)) for m, n in store.lengths.items()}


def check_cuda_graph(
    method: Method, model: nn.Module, settings: Settings, store: SequenceStore, device: torch.device
) -> None:
    """Refuse ``--cuda-graph`` where it cannot be right; does nothing where it is not asked for.

    Args:
        model: on the CPU. store: the training data.

    Raises:
        ConfigError: says why, and what to do.
    """
    train = settings.train
    if not train.cuda_graph:
        return
    if device.type != "cuda":
        raise ConfigError(
            f"--cuda-graph needs a CUDA device, and the run is on {device.type}; give --device "
            f"cuda, or {_LEAVE}"
        )
    if train.precision == "16-mixed":
        raise ConfigError(
            "--cuda-graph: train.precision=16-mixed scales gradients by decisions on the host; "
            "take bf16-mixed"
        )
    if train.accumulate > 1:
        raise ConfigError(
            f"--cuda-graph: a graph is one whole step, train.accumulate={train.accumulate} has "
            "several batches in one; set train.accumulate=1 and a larger train.batch_size"
        )
    if train.optimizer == "sgd" and cycles_momentum(train):
        raise ConfigError(
            f"--cuda-graph: train.scheduler={train.scheduler} changes the momentum at every step, "
            "and a graph of train.optimizer=sgd would repeat one; set train.optimizer=adamw or "
            f"train.scheduler=cosine, or {_LEAVE}"
        )
    auxiliary = list(Auxiliary(method, model).objectives)
    if auxiliary:
        raise ConfigError(
            f"--cuda-graph: {method.name} has several optimizers (auxiliary objectives "
            f"{', '.join(auxiliary)}), a graph holds one; {_LEAVE}"
        )
    if method.memory is not None:
        raise ConfigError(
            f"--cuda-graph: {method.name} remembers samples from step to step on the host, which a "
            f"graph would not do; {_LEAVE}"
        )
    if not method.traceable:
        raise ConfigError(
            f"--cuda-graph: the forward pass of {method.name} depends on values, a graph would "
            f"repeat one case; {_LEAVE}"
        )
    if not _ignores_padding(model, store):
        guilty = [
            f"{name}={value}"
            for name, value in settings.model
            if value == "padded" or ("padding" in name and value is True)
        ]
        cause = f" with {', '.join(guilty)}" if guilty else ""
        raise ConfigError(
            f"--cuda-graph pads batches to few lengths, and the outputs of {method.name}{cause} "
            f"depend on the padding; {f'change {guilty[0]}, or ' if guilty else ''}{_LEAVE}"
        )


def _ignores_padding(model: nn.Module, store: SequenceStore) -> bool:
    """Whether the shortest sample's outputs are the same alone and padded beside the longest."""
    longest = longest_steps(store)
    share: Any = sum(n / max(longest[m], 1) for m, n in store.lengths.items())
    rows = [int(share.argmin()), int(share.argmax())]
    was_training = model.training
    model.eval()
    outputs = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for batch in (store.batch(rows[:1]), store.batch(rows).padded_to(longest)):
            # Released codes drop at evaluation: the same seeds for both, on the CPU alone.
            torch.default_generator.manual_seed(0)
            outputs.append(model(batch)[0])
    model.train(was_training)
    return torch.allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)


def capture_step(
    step: Callable[[], Tensor], pool: Any, stream: Any
) -> tuple[Callable[[], None], Tensor]:
    """Record a step without running it.

    Args:
        step: returns the loss. pool: memory that all graphs share; each leaves nothing in it but
            its loss, which is copied before another one runs. stream: of the device that the step
            is on; the same for all graphs of the pool.

    Returns:
        What runs it, and the loss that running it writes.
    """
    graph = torch.cuda.CUDAGraph()
    # A graph waits for the current device, and takes its generator.
    with torch.cuda.device(stream.device), torch.cuda.graph(graph, pool=pool, stream=stream):
        loss = step()
    return graph.replay, loss


@dataclass
class _Shape:
    """One static shape: its buffers, the steps taken with it, and its graph once there is one."""

    batch: MultimodalBatch
    taken: int = 0
    replay: Callable[[], None] | None = None
    loss: Tensor | None = None


class GraphedSteps:
    """Takes training steps: the first ones of a shape uncaptured, the others by its graph.

    Args:
        trainer: without auxiliary objectives. longest: modality -> steps of its longest sequence.
    """

    def __init__(self, trainer: Trainer, config: TrainConfig, longest: Mapping[str, int]) -> None:
        self.trainer, self.config, self.longest = trainer, config, longest
        self.device: torch.device = trainer.fabric.device
        self.rates = DeviceRates(
            trainer.optimizer.optimizer, self.device, betas=cycles_momentum(config)
        )
        self.shapes: dict[tuple[int, ...], _Shape] = {}
        on_cuda = self.device.type == "cuda"
        # Torch asks for one stream, not the current one, of the steps before a capture, and for one
        # of all captures that share memory; gradients are added up on the first one they had.
        self.stream: Any = torch.cuda.Stream(self.device) if on_cuda else None  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle() if on_cuda else None

    def __call__(self, batch: MultimodalBatch) -> Tensor:
        """One step with a batch from the loader; the loss, a scalar that nobody waited for."""
        steps = {m: bucket(x.shape[1], self.longest[m]) for m, x in batch.features.items()}
        batch = batch.padded_to(steps)
        shape = self.shapes.get((len(batch), *steps.values()))
        if shape is None:
            # Names are no tensors: a graph would keep those of one batch.
            shape = _Shape(replace(batch.to(self.device), ids=[]))
            self.shapes[(len(batch), *steps.values())] = shape
        _fill(shape.batch, batch)
        self.rates.load()
        if shape.replay is None and shape.taken < WARM_UP:
            shape.taken += 1
            return self._uncaptured(shape.batch)
        if shape.replay is None:
            shape.replay, shape.loss = self._captured(shape.batch)
        shape.replay()
        assert shape.loss is not None
        return shape.loss.clone()

    def _step(self, batch: MultimodalBatch) -> Tensor:
        batch = noisy(batch, self.config.input_noise)
        with self.rates.in_place():
            return main_step(self.trainer, batch, self.config, where=None).detach()

    def _uncaptured(self, batch: MultimodalBatch) -> Tensor:
        if self.stream is None:
            return self._step(batch)
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            loss = self._step(batch)
        current.wait_stream(self.stream)
        # Its memory goes back to the side stream only after this one has read it.
        loss.record_stream(current)
        return loss

    def _captured(self, batch: MultimodalBatch) -> tuple[Callable[[], None], Tensor]:
        try:
            return capture_step(lambda: self._step(batch), self.pool, self.stream)
        except RuntimeError as error:
            # Ending a broken capture raises as well, and hides what broke it.
            reason = str(error.__context__ or error).strip().partition("\n")[0]
            raise ConfigError(
                f"--cuda-graph: a training step cannot be captured: {reason}; {_LEAVE}"
            ) from error


def graphed_epoch(
    steps: GraphedSteps,
    loader: Any,
    schedule: Schedule,
    *,
    epoch: int,
    after_batch: Callable[[], None],
) -> dict[str, float]:
    """What `fusionkit.training.epoch.train_epoch` does, with losses read once, at the end.

    Raises:
        FusionKitError: a loss was not finite; the steps after it were taken all the same.
    """
    steps.trainer.module.train()
    losses, sizes = [], []
    for batch in loader:
        losses.append(steps(batch))
        sizes.append(len(batch))
        schedule.after_step()
        after_batch()
    total, count = 0.0, 0
    for index, (loss, size) in enumerate(zip(torch.stack(losses).tolist(), sizes)):
        if not math.isfinite(loss):
            raise not_finite("training", loss, f"epoch {epoch}, batch {index + 1}")
        total, count = total + loss * size, count + size
    return {"loss": total / count}


def _fill(static: MultimodalBatch, batch: MultimodalBatch) -> None:
    """Copy a batch of the same shapes into the static one."""
    for into, new in (
        (static.features, batch.features),
        (static.lengths, batch.lengths),
        (static.context, batch.context),
    ):
        for name, x in new.items():
            _copy(into[name], x)
    if static.targets is not None and batch.targets is not None:
        _copy(static.targets, batch.targets)


def _copy(into: Tensor, x: Tensor) -> None:
    # From other memory of the host, the host would wait until the device has come to the copy.
    if into.is_cuda and x.is_cpu:
        x = x.pin_memory()
    into.copy_(x, non_blocking=True)
