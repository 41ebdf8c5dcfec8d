"""Training steps of MMLatch and MulT, beside the same models in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor

from benches.gpu.contenders import DEVICE_BACKENDS, OURS
from benches.gpu.needs import HELP, missing
from benches.gpu.setting import Setting
from benches.gpu.torch_lstm import exact_cudnn
from fusionkit.bench.case import FULL, PARTIAL, Bound, Case, Contender, Inputs, Suite, Task
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.goals import PACKED, PADDED
from fusionkit.ops import force_backend

STEP = "step"
REFERENCE = "reference backends"
_FEATURES = {"text": 300, "audio": 74, "vision": 35}
_UNALIGNED = {"text": 50, "audio": 375, "vision": 500}
# Through whole models errors of rounding grow by the model, and cuDNN's LSTMs take TF32.
_BOUND, _OTHERS = Bound(2.0, 2e-2), Bound(2.0, 5e-2)

Context = Callable[[], AbstractContextManager[None]]
Steps = Mapping[str, int]


def suite(setting: Setting) -> Suite:
    """B 32: MMLatch and MulT at 50 steps, MulT at 50, 375 and 500 steps; full, and at 70 %."""
    if missing("models"):
        reason = f"needs {', '.join(missing('models'))}, not installed here: {HELP}"
        return Suite("training_step", (), {"training_step": reason})
    same = dict.fromkeys(_FEATURES, setting.pick(50, 50, 4))
    own = setting.pick(_UNALIGNED, _UNALIGNED, {"text": 3, "audio": 4, "vision": 5})
    kinds: list[tuple[str, Steps, str]] = [
        ("mmlatch", same, PARTIAL),
        ("mult", own, PARTIAL),
        ("mmlatch", same, FULL),
        ("mult", own, FULL),
        ("mult", same, PARTIAL),
        ("mult", same, FULL),
    ]
    kinds = setting.pick(kinds, kinds[:2], kinds[:1])
    cases = [_case(*kind, setting) for kind in kinds]
    if setting.scope == "full":
        # Apart and last: compiling a whole model can take longer than there is time.
        cases += [_case(*kind, setting, compiled=True) for kind in kinds if kind[2] == FULL]
    return Suite("training_step", tuple(cases))


def _case(
    name: str, steps: Steps, variant: str, setting: Setting, *, compiled: bool = False
) -> Case:
    """With ``compiled`` only torch.compile of plain PyTorch, beside plain PyTorch and ours."""
    full = variant == FULL
    over_padding = "" if full else "it computes over the padding"
    reference, batch = partial(force_backend, "reference"), setting.pick(32, 32, 2)
    padded = partial(_plain, padded=True)
    ours = _contender(name, OURS, nullcontext, role="ours")
    contenders = [
        _contender(name, PACKED, partial(_plain, padded=False)),
        _contender(name, PADDED, padded, not_comparable=over_padding),
        _contender(name, REFERENCE, reference, role="other"),
        ours,
        *(
            _contender(name, f"{OURS} {backend}", partial(force_backend, backend), role="ours")
            for backend in DEVICE_BACKENDS[setting.device.type]
        ),
    ]
    title = f"{name} B{batch} T{'/'.join(dict.fromkeys(map(str, steps.values())))}"
    if compiled:
        title += ", torch.compile"
        slow = _contender(name, f"{PADDED}, torch.compile", padded, compiled=True, slow_start=True)
        contenders = [_contender(name, PADDED, padded), slow, ours]
    return Case(
        name=title,
        group=f"{name} {'aligned' if len(set(steps.values())) == 1 else 'unaligned'}",
        variant=variant,
        inputs=partial(_inputs, steps, batch, full, setting.device),
        reference=partial(_reference, name),
        contenders=tuple(contenders),
        work={STEP: None},
        bound=_BOUND,
        bound_others=_OTHERS,
    )


def _contender(
    name: str, title: str, context: Context, *, compiled: bool = False, **options: object
) -> Contender:
    prepare = partial(_train, name, context, compiled)
    return Contender(title, prepare, **options)  # type: ignore[arg-type]


def _plain(*, padded: bool) -> AbstractContextManager[None]:
    from fusionkit.bench.plain_backends import plain_pytorch

    return plain_pytorch(padded=padded)


def _inputs(steps: Steps, batch: int, full: bool, device: torch.device) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    tensors, lengths = {}, {}
    for name, size in _FEATURES.items():
        count = steps[name]
        lengths[name] = torch.full((batch,), count)
        if not full:
            lengths[name] = forty_to_hundred_percent(count, batch)
        x = torch.randn(batch, count, size, generator=generator)
        tensors[name] = x * (torch.arange(count) < lengths[name][:, None])[:, :, None]
    tensors["targets"] = torch.randn(batch, generator=generator)
    return Inputs(tensors, lengths).to(torch.float32, device)


def _reference(name: str, inputs: Inputs, phase: str) -> dict[str, Tensor]:
    with exact_cudnn():
        return _train(name, partial(force_backend, "reference"), False, inputs, phase).results()


def _train(name: str, context: Context, compiled: bool, inputs: Inputs, phase: str) -> Task:
    """Loss, gradients and an optimizer step; the check is without dropout, in evaluation mode."""
    from fusionkit import api
    from fusionkit.data.batch import MultimodalBatch
    from fusionkit.data.spec import DataSpec

    features = {n: x for n, x in inputs.tensors.items() if n != "targets"}
    targets = inputs.tensors["targets"]
    aligned = len({x.shape[1] for x in features.values()}) == 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = DataSpec(_FEATURES, "regression", 1, aligned=aligned)
        model: torch.nn.Module = api.create(name, spec).to(targets)
    batch = MultimodalBatch(features, inputs.lengths, targets)
    on_device = targets.is_cuda
    optimizer = torch.optim.Adam(model.parameters(), capturable=on_device, fused=on_device)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def loss_and_gradients(run: Callable[[MultimodalBatch], Tensor]) -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.l1_loss(run(batch).squeeze(1), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step() -> None:
        with context():
            loss_and_gradients(forward)
        optimizer.step()

    def results() -> dict[str, Tensor]:
        model.eval()
        with context():
            loss = loss_and_gradients(model)
        model.train()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return {"loss": loss, "all gradients": torch.cat(gradients)}

    return Task(step, results)
