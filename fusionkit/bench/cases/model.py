"""Whole models: a training step, and the latency of one sample, with and without our kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fusionkit import api
from fusionkit.bench.case import FULL, PARTIAL, Bound, Case, Contender, Inputs, Suite, Task
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.goals import PACKED, PADDED
from fusionkit.bench.plain_backends import plain_pytorch
from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.spec import DataSpec
from fusionkit.errors import FusionKitError
from fusionkit.ops import force_backend
from fusionkit.registry import Method, registry
from fusionkit.testing import make_batch
from fusionkit.training.config import TrainConfig
from fusionkit.training.objective import TaskLoss, TrainingModule, build_optimizer

SPEC = DataSpec({"text": 300, "audio": 74, "vision": 35}, "regression", 1, aligned=True)
BATCH, STEPS = 32, 50
STEP, LATENCY = "step", "latency"
# What makes a method compute over all padded steps, as its released code does.
PADDED_OPTIONS: Mapping[str, Mapping[str, Any]] = {"mmlatch": {"lengths": "padded"}}
# Through whole models errors of rounding grow by the model, not by an operator.
_BOUND = Bound(2.0, 1e-4)

Context = Callable[[], AbstractContextManager[None]]


def suite() -> Suite:
    """Every registered method that takes MOSEI-like data (300, 74 and 35 features, aligned)."""
    cases: list[Case] = []
    left_out = {}
    for name in api.list_methods():
        try:
            api.create(name, SPEC)
        except FusionKitError as error:
            left_out[name] = str(error)
            continue
        cases += [_step(name, variant) for variant in (FULL, PARTIAL)]
        cases.append(_latency(name))
    return Suite("model", tuple(cases), left_out)


def _step(name: str, variant: str) -> Case:
    full = variant == FULL
    lengths = [STEPS] * BATCH if full else forty_to_hundred_percent(STEPS, BATCH).tolist()
    contenders = _contenders(name)
    if name in PADDED_OPTIONS:
        reason = "" if full else "it computes over the padding"
        prepare = partial(_train, name, PADDED_OPTIONS[name], partial(plain_pytorch, padded=True))
        contenders.append(Contender(PADDED, prepare, not_comparable=reason))
    return Case(
        name=f"{name} B{BATCH} T{STEPS}",
        group=name,
        variant=variant,
        inputs=partial(_inputs, lengths),
        reference=lambda inputs, phase: _reference(name, inputs, phase).results(),
        contenders=tuple(contenders),
        work={STEP: None},
        bound=_BOUND,
    )


def _latency(name: str) -> Case:
    return Case(
        name=f"{name} B1 T{STEPS}",
        group=name,
        variant=FULL,
        inputs=partial(_inputs, [STEPS]),
        reference=lambda inputs, phase: _reference(name, inputs, phase).results(),
        contenders=tuple(_contenders(name)),
        work={LATENCY: None},
        bound=_BOUND,
        quick=True,
    )


def _contenders(name: str) -> list[Contender]:
    def prepare(context: Context) -> Callable[[Inputs, str], Task]:
        return partial(_prepare, name, {}, context)

    return [
        Contender(PACKED, prepare(partial(plain_pytorch, padded=False))),
        Contender("reference backends", prepare(partial(force_backend, "reference")), role="other"),
        Contender("fusionkit", prepare(nullcontext), role="ours"),
    ]


def _inputs(lengths: list[int]) -> Inputs:
    batch = make_batch(SPEC, lengths)
    assert batch.targets is not None
    return Inputs({**batch.features, "targets": batch.targets}, batch.lengths)


def _batch(inputs: Inputs) -> MultimodalBatch:
    features = {name: x for name, x in inputs.tensors.items() if name != "targets"}
    targets = inputs.tensors["targets"]
    return MultimodalBatch(features, inputs.lengths, targets, [str(k) for k in range(len(targets))])


def _reference(name: str, inputs: Inputs, phase: str) -> Task:
    return _prepare(name, {}, partial(force_backend, "reference"), inputs, phase)


def _prepare(
    name: str, options: Mapping[str, Any], context: Context, inputs: Inputs, phase: str
) -> Task:
    make = _train if phase == STEP else _predict
    return make(name, options, context, inputs, phase)


def _train(
    name: str, options: Mapping[str, Any], context: Context, inputs: Inputs, phase: str
) -> Task:
    """Loss, gradients and an optimizer step, without the steps of auxiliary objectives; the check
    is without dropout, in evaluation mode."""
    batch, config, method = _batch(inputs), TrainConfig(), _method(name)
    model = _model(name, options, inputs)
    if method.memory is not None:
        memory = method.memory(model)
        memory.start(batch.ids, inputs.tensors["targets"])
        memory.start_epoch(1)
    module = TrainingModule(model, method, TaskLoss(SPEC, config)).train()
    optimizer = build_optimizer(module.parameters(), config)
    targets = inputs.tensors["targets"]

    def loss_and_gradients() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = module(batch.features, batch.lengths, targets, batch.ids)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step() -> None:
        with context():
            loss_and_gradients()
        optimizer.step()

    def results() -> dict[str, Tensor]:
        module.eval()
        with context():
            loss = loss_and_gradients()
        module.train()
        gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        return {"loss": loss, "all gradients": torch.cat(gradients)}

    return Task(step, results)


def _predict(
    name: str, options: Mapping[str, Any], context: Context, inputs: Inputs, phase: str
) -> Task:
    model, batch = _model(name, options, inputs).eval(), _batch(inputs)

    def predict() -> Tensor:
        with context(), torch.no_grad():
            output: Tensor = model(batch)
        return output

    return Task(predict, lambda: {"outputs": predict()})


def _model(name: str, options: Mapping[str, Any], inputs: Inputs) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = api.create(name, SPEC, **options)
    return model.to(inputs.tensors["targets"].dtype)


def _method(name: str) -> Method:
    method: Method = registry().get("method", name)
    return method
