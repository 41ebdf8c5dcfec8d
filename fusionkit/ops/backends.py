"""Which implementation of an operator takes these inputs, and why not the others.

Every operator has a `reference` backend in plain PyTorch that takes everything and defines what is
right. Faster backends come first in the order of their priority; the first one that can take the
inputs, and is not known to be slower on such inputs, runs: by measurement on CPUs
(`fusionkit.ops.crossovers`), by estimates on GPUs (``cross_attention/cost.py`` and
``length_aware_lstm/cuda_plan.py``).
``FUSIONKIT_BACKEND=NAME`` or ``with force_backend(NAME)`` chooses one by hand: a forced backend
that cannot take the inputs raises instead of falling back, one that is merely slower there runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusionkit.errors import ConfigError, FusionKitError, UnknownNameError
from fusionkit.ops.crossovers import crossover, has_crossover


class BackendError(FusionKitError):
    """A forced backend cannot take the inputs."""


@dataclass(frozen=True)
class Backend:
    """One implementation of one operator.

    Args:
        op: name of the operator.
        name: name of the backend; ``reference`` is the one that must always be there.
        run: takes the operator's arguments, already checked.
        not_supported_reasons: takes the same arguments; an empty list means that it can run.
        priority: the highest is asked first; the reference has 0.
        summary: one line for ``fusionkit list`` and `explain`, with the measurement behind the
            priority where there is one.
        unavailable: why it can never run in this process (empty where it can).
        slower_reasons: takes the same arguments; what was measured, or is estimated and says so,
            against running here although it can. Only asked where the backend can run and none is
            forced. Not for the reference, which has to take what is left.
    """

    op: str
    name: str
    run: Callable[..., Any]
    not_supported_reasons: Callable[..., list[str]]
    priority: int = 0
    summary: str = ""
    unavailable: str = ""
    slower_reasons: Callable[..., list[str]] | None = None

    def reasons(self, *args: Any, **kwargs: Any) -> list[str]:
        """Why it cannot run on these inputs."""
        if self.unavailable:
            return [self.unavailable]
        return self.not_supported_reasons(*args, **kwargs)

    def refusals(self, *args: Any, **kwargs: Any) -> list[str]:
        """Why it is not chosen unless forced: it cannot run, or another one is faster."""
        reasons = self.reasons(*args, **kwargs)
        if reasons or self.slower_reasons is None:
            return reasons
        return self.slower_reasons(*args, **kwargs)


_backends: dict[str, list[Backend]] = {}
_forced: list[str] = [name for name in [os.environ.get("FUSIONKIT_BACKEND", "")] if name]


def register_backend(backend: Backend) -> None:
    """Add an implementation of an operator.

    Raises:
        ConfigError: the operator has a backend of that name already, or a reference has
            ``slower_reasons``.
    """
    if backend.name == "reference" and backend.slower_reasons is not None:
        raise ConfigError(f"{backend.op}: the reference takes everything; no slower_reasons")
    known = _backends.setdefault(backend.op, [])
    if any(b.name == backend.name for b in known):
        raise ConfigError(f"{backend.op} has a backend {backend.name!r} already")
    known.append(backend)
    known.sort(key=lambda b: -b.priority)


def available_backends() -> dict[str, list[Backend]]:
    """Operator -> its backends, the preferred one first."""
    return {op: list(backends) for op, backends in sorted(_backends.items())}


@contextmanager
def force_backend(name: str) -> Iterator[None]:
    """Run operators on the named backend inside the ``with`` block, or raise.

    It counts for all threads of the process.

    An operator that has no backend of that name runs on its reference.

    Raises:
        UnknownNameError: no operator has such a backend.
    """
    _check_known(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


@contextmanager
def temporary_backends(*backends: Backend) -> Iterator[None]:
    """Have backends, the first of their operators, inside the ``with`` block alone."""
    before = {op: list(known) for op, known in _backends.items()}
    try:
        for backend in backends:
            _backends[backend.op] = [backend, *_backends.get(backend.op, [])]
        yield
    finally:
        _backends.clear()
        _backends.update(before)


def check_forced() -> None:
    """Raise UnknownNameError if ``FUSIONKIT_BACKEND`` names what no operator has."""
    if _forced:
        _check_known(_forced[-1])


def _check_known(name: str) -> None:
    names = {b.name for backends in _backends.values() for b in backends}
    if name not in names:
        raise UnknownNameError("backend", name, names)


def choose(op: str, *args: Any, **kwargs: Any) -> Backend:
    """The backend that takes these inputs.

    Raises:
        BackendError: the forced backend cannot, with its reasons.
        UnknownNameError: no operator has the backend that ``FUSIONKIT_BACKEND`` names.
    """
    backends = _backends[op]
    if _forced:
        for backend in backends:
            if backend.name == _forced[-1]:
                reasons = backend.reasons(*args, **kwargs)
                if reasons:
                    raise BackendError(
                        f"{op}: the forced backend {backend.name!r} cannot run: "
                        + "; ".join(reasons)
                    )
                return backend
        _check_known(_forced[-1])
        return backends[-1]
    for backend in backends:
        if not backend.refusals(*args, **kwargs):
            return backend
    raise BackendError(f"{op}: no backend takes these inputs")


def explain(op: str, *args: Any, **kwargs: Any) -> str:
    """One line a backend of the operator: chosen, or why not; and any measurement behind it.

    Arguments as the operator's own.

    >>> import torch, fusionkit.ops
    >>> x = torch.zeros(1, 2, 3, dtype=torch.float16)
    >>> print(explain("gated_mask", x, [x]))  # doctest: +ELLIPSIS
    gated_mask
    ...
    """
    if op not in _backends:
        raise UnknownNameError("operator", op, _backends)
    chosen = choose(op, *args, **kwargs)
    lines = [op]
    for backend in _backends[op]:
        if backend is chosen:
            verdict = "chosen" + (" (forced)" if _forced else "")
        else:
            refusals = backend.refusals(*args, **kwargs)
            verdict = "; ".join(refusals) or "a backend of higher priority is chosen"
        lines.append(f"  {backend.name:<10} {verdict}  [{backend.summary}]")
    if has_crossover(op):
        elsewhere = "on CPUs only; for other devices the choice is by priority and estimates"
        found = crossover(op) if _on_cpu([args, kwargs]) else elsewhere
        lines.append(f"  {'measured':<10} {found}")
    return "\n".join(lines)


def _on_cpu(arguments: Any) -> bool:
    """Whether all tensors among them are on the CPU."""
    if isinstance(arguments, Tensor):
        return arguments.is_cpu
    if isinstance(arguments, Mapping):
        return _on_cpu(list(arguments.values()))
    return not isinstance(arguments, (list, tuple)) or all(map(_on_cpu, arguments))
