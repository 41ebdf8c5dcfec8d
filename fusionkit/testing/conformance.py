"""The contract of a fusion method, as one call for a plugin's own test suite.

>>> from fusionkit.testing import assert_conforms
>>> assert_conforms("mmlatch", hidden_size=4)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusionkit.api import create
from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.spec import DataSpec
from fusionkit.errors import ConfigError
from fusionkit.registry import Method, registry

_SIZES = {"text": 6, "audio": 4, "vision": 3, "inertial": 5, "depth": 2}
_OUTPUTS = {"regression": 1, "classification": 3, "multilabel": 4}


def assert_conforms(method: str, **options: Any) -> None:
    """Check a registered method, with the given options, against everything the harness relies on.

    For every task the method knows and every number of modalities from its minimum to three (and
    its roles): the output's shape; a gradient for some parameter of every part that the loss
    reaches; no NaN; one sample alone gives what it gives in a batch; what stands on the padding
    has no influence, nor has more padding, on outputs and gradients; evaluation is deterministic; a
    batch of one can be trained on; one frame of zeros, which stands for a missing modality, and
    bfloat16 autocast give finite outputs; the state dictionary restores the outputs; an unknown
    option is refused. The last of these data come once more with a context, which the method may
    ignore. On aligned data with a context, unless ``Method.traceable`` is False: `torch.compile`
    makes one graph, `torch.export` works, and both give the same outputs.

    Raises:
        AssertionError: says which clause is broken, and for which data.
    """
    found: Method = registry().get("method", method)
    for spec in _specs(found):
        for aligned in (True, False):
            _check(method, replace(spec, aligned=aligned), options)
    with_context = replace(_specs(found)[-1], aligned=True, context={"speaker": 4, "turn": 2})
    _check(method, with_context, options)
    if found.traceable:
        _check_tracing(method, with_context, options)
    try:
        create(method, _specs(found)[0], **{**options, "no_such_option_": 1})
    except ConfigError:
        pass
    else:
        raise AssertionError(f"{method}: an unknown option is accepted")


def make_batch(
    spec: DataSpec, lengths: Sequence[int] | Mapping[str, Sequence[int]], *, seed: int = 0
) -> MultimodalBatch:
    """Random features, targets and context for a spec; one list of lengths, or each modality its.

    The first sample's context is unknown.
    """
    generator = torch.Generator().manual_seed(seed)
    per_modality = {
        m: torch.tensor(list(lengths[m] if isinstance(lengths, Mapping) else lengths))
        for m in spec.modalities
    }
    count = len(next(iter(per_modality.values())))
    features = {}
    for m, size in spec.modalities.items():
        steps = int(per_modality[m].max())
        x = torch.randn(count, steps, size, generator=generator)
        valid = torch.arange(steps) < per_modality[m][:, None]
        features[m] = x * valid[..., None]
    if spec.task == "classification":
        targets = torch.randint(spec.num_outputs, (count,), generator=generator)
    elif spec.task == "multilabel":
        targets = torch.randint(2, (count, spec.num_outputs), generator=generator).float()
    else:
        targets = torch.randn(count, spec.num_outputs, generator=generator).squeeze(1)
    context = {
        name: torch.randint(known, (count,), generator=generator)
        for name, known in spec.context.items()
    }
    for index in context.values():
        index[:1] = 0
    ids = [str(k) for k in range(count)]
    return MultimodalBatch(features, per_modality, targets, ids, context)


def _specs(method: Method) -> list[DataSpec]:
    names = [*method.roles, *(name for name in _SIZES if name not in method.roles)]
    most = method.max_modalities or max(3, method.min_modalities)
    counts = range(max(method.min_modalities, len(method.roles), 1), max(most, 1) + 1)
    return [
        DataSpec(
            {name: _SIZES.get(name, 4) for name in islice(names, count)},
            task,  # type: ignore[arg-type]
            _OUTPUTS[task],
        )
        for count in counts
        for task in sorted(method.tasks)
    ]


def _check(method: str, spec: DataSpec, options: Mapping[str, Any]) -> None:
    where = f"{method} on {', '.join(spec.modalities)} ({spec.task}, aligned={spec.aligned})"
    where += " with a context" if spec.context else ""
    torch.manual_seed(0)
    model = create(method, spec, **options)
    lengths = {
        m: [5, 3, 7] if spec.aligned else [5 + k, 3 + k, 7] for k, m in enumerate(spec.modalities)
    }
    batch = make_batch(spec, lengths)

    model.train()
    outputs = model(batch)
    expected = (len(batch), spec.num_outputs)
    _require(
        tuple(outputs.shape) == expected, where, f"outputs {tuple(outputs.shape)}, not {expected}"
    )
    outputs.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    _require(bool(gradients), where, "no parameter gets a gradient")
    _require(all(bool(g.isfinite().all()) for g in gradients), where, "a gradient is not finite")

    model.eval()
    further = batch.padded_to({m: x.shape[1] + 4 for m, x in batch.features.items()})
    with torch.no_grad():
        reference = model(batch)
        _require(bool(reference.isfinite().all()), where, "an output is not finite")
        _require(torch.equal(reference, model(batch)), where, "two evaluations differ")
        _require(_close(_alone(model, batch), reference), where, "a sample depends on its batch")
        _require(_close(model(_junk_padding(batch)), reference), where, "padding has an influence")
        _require(_close(model(further), reference), where, "more padding changes an output")
        copy = create(method, spec, **options).eval()
        copy.load_state_dict(model.state_dict())
        _require(torch.equal(copy(batch), reference), where, "the state dictionary is not enough")

        autocast = torch.autocast("cpu", torch.bfloat16)
        with autocast:
            _require(bool(model(batch).isfinite().all()), where, "bfloat16 autocast is not finite")
        if not spec.aligned:
            gap = model(_without(batch, list(spec.modalities)[-1]))
            _require(bool(gap.isfinite().all()), where, "a missing modality is not finite")

    same = all(map(_close, _gradients(model, further), _gradients(model, batch)))
    _require(same, where, "more padding changes a gradient")

    model.train()
    one = _rows(batch, [0])
    _require(bool(model(one).isfinite().all()), where, "a batch of one cannot be trained on")


class _Plain(nn.Module):
    """A model that takes dictionaries: tracing knows them, it does not know a batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, features: dict[str, Tensor], lengths: dict[str, Tensor], context: dict[str, Tensor]
    ) -> Tensor:
        return cast(Tensor, self.model(MultimodalBatch(features, lengths, context=context)))


def _check_tracing(method: str, spec: DataSpec, options: Mapping[str, Any]) -> None:
    where = f"{method} on {', '.join(spec.modalities)} ({spec.task}, aligned)"
    model = _Plain(create(method, spec, **options).eval())
    batch = make_batch(spec, [5, 3, 7])
    inputs = (dict(batch.features), dict(batch.lengths), dict(batch.context))
    with torch.no_grad():
        reference = model(*inputs)
    # Both ways of a kernel: with what a backward needs, and without.
    for name, with_gradients, trace in (
        ("torch.compile", True, lambda: torch.compile(model, backend="eager", fullgraph=True)),
        ("torch.export", False, lambda: torch.export.export(model, inputs).module()),
    ):
        torch.compiler.reset()
        with torch.set_grad_enabled(with_gradients):
            try:
                outputs = trace()(*inputs)  # type: ignore[no-untyped-call]
            except Exception as error:
                reason = str(error).strip().splitlines()[0]
                raise AssertionError(f"{where}: {name} fails: {reason}") from error
        _require(_close(outputs.detach(), reference), where, f"{name} changes the outputs")


def _without(batch: MultimodalBatch, modality: str) -> MultimodalBatch:
    """The first sample without a modality: one frame of zeros, as `data.missing` gives."""
    features, lengths = dict(batch.features), dict(batch.lengths)
    features[modality], lengths[modality] = features[modality].clone(), lengths[modality].clone()
    features[modality][0], lengths[modality][0] = 0, 1
    return replace(batch, features=features, lengths=lengths)


def _alone(model: nn.Module, batch: MultimodalBatch) -> Tensor:
    return torch.cat([model(_rows(batch, [row])) for row in range(len(batch))])


def _rows(batch: MultimodalBatch, rows: list[int]) -> MultimodalBatch:
    lengths = {m: n[rows] for m, n in batch.lengths.items()}
    return replace(
        batch,
        features={m: x[rows, : int(lengths[m].max())] for m, x in batch.features.items()},
        lengths=lengths,
        targets=None if batch.targets is None else batch.targets[rows],
        ids=[batch.ids[row] for row in rows],
        context={name: index[rows] for name, index in batch.context.items()},
    )


def _gradients(model: nn.Module, batch: MultimodalBatch) -> list[Tensor]:
    """Of every parameter, for the mean square of the outputs; zeros where there is none."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return list(
        torch.autograd.grad(
            model(batch).square().mean(), parameters, allow_unused=True, materialize_grads=True
        )
    )


def _junk_padding(batch: MultimodalBatch) -> MultimodalBatch:
    features = {}
    for m, x in batch.features.items():
        valid = torch.arange(x.shape[1]) < batch.lengths[m][:, None]
        features[m] = torch.where(valid[..., None], x, torch.full_like(x, 1e3))
    return replace(batch, features=features)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def _require(condition: bool, where: str, what: str) -> None:
    if not condition:
        raise AssertionError(f"{where}: {what}")
