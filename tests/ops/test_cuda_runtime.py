"""Where the CUDA kernels can run, and what is said where they cannot."""

from __future__ import annotations

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fusionkit.errors import FusionKitError
from fusionkit.ops import cuda_runtime, explain, force_backend, gated_mask
from fusionkit.ops.backends import BackendError
from fusionkit.ops.cuda_runtime import cuda_absence, cuda_reasons, cuda_status, runs_on

from every_op import Call, calls_of


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As where the extension is there, without its CUDA part."""
    monkeypatch.setattr(cuda_runtime, "EMULATED", False)
    monkeypatch.setattr(cuda_runtime, "absence", lambda: "")
    monkeypatch.setattr(cuda_runtime, "CUDA_ARCHITECTURES", ())
    return monkeypatch


@pytest.mark.skipif(not cuda_absence(), reason="the CUDA kernels can run here")
def test_a_forced_backend_says_why_it_cannot_run() -> None:
    x = torch.ones(1, 2, 3)
    with force_backend("cuda"), pytest.raises(BackendError) as raised:
        gated_mask(x, [x])
    assert f"the forced backend 'cuda' cannot run: {cuda_absence()}" in str(raised.value)
    assert isinstance(raised.value, FusionKitError)


@pytest.mark.skipif(not cuda_absence(), reason="the CUDA kernels can run here")
@pytest.mark.parametrize(
    "call", [call for call, _ in calls_of("cuda")], ids=lambda c: f"{c.op} {c.name}"
)
def test_tensors_on_a_device_get_the_same_error(call: Call) -> None:
    """From every operator that has CUDA kernels, where they are asked for by name."""
    with FakeTensorMode(), force_backend("cuda"), pytest.raises(BackendError) as raised:
        call.prepared([torch.empty(s, dtype=call.dtype, device="cuda") for s in call.shapes])()
    assert f"the forced backend 'cuda' cannot run: {cuda_absence()}" in str(raised.value)


@pytest.mark.skipif(not cuda_absence(), reason="the CUDA kernels can run here")
def test_otherwise_another_backend_runs() -> None:
    x = torch.ones(1, 2, 3)
    assert gated_mask(x, [x]).shape == x.shape
    assert re.search(rf"cuda +{re.escape(cuda_absence())}", explain("gated_mask", x, [x]))


def test_reason_and_remedy_without_the_kernels(without: pytest.MonkeyPatch) -> None:
    assert cuda_absence().startswith("the compiled extension was built without CUDA: with nvcc")
    status = cuda_status()
    assert not status.available and "FUSIONKIT_BUILD_CUDA=1 pip install" in status.remedy
    without.setattr(cuda_runtime, "absence", lambda: "no extension at all")
    assert cuda_absence() == cuda_status().reason == "no extension at all"


def test_no_device(without: pytest.MonkeyPatch) -> None:
    without.setattr(cuda_runtime, "CUDA_ARCHITECTURES", ("90",))
    without.setattr(torch.cuda, "device_count", lambda: 0)
    assert cuda_absence() == "no CUDA device is there"


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (("80", "90"), 75, False),
        (("80", "90"), 80, True),
        (("80", "90"), 86, True),  # machine code of 8.0
        (("86", "90"), 80, False),
        (("80", "90"), 100, True),  # PTX of 9.0
        (("80", "120"), 100, False),
        ((), 90, False),
    ],
)
def test_which_devices_have_code(
    without: pytest.MonkeyPatch, built: tuple[str, ...], capability: int, runs: bool
) -> None:
    without.setattr(cuda_runtime, "CUDA_ARCHITECTURES", built)
    assert runs_on(capability) is runs


def test_a_device_without_code_is_refused(without: pytest.MonkeyPatch) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    without.setattr(cuda_runtime, "CUDA_ARCHITECTURES", ("80", "90"))
    without.setattr(torch.cuda, "device_count", lambda: 1)
    without.setattr(cuda_runtime, "_capability", lambda device: (7, 5))
    with FakeTensorMode():
        x = torch.empty(2, device="cuda")
    (reason,) = cuda_reasons("x", x, None)
    assert "cuda:0 has compute capability 7.5, and the kernels were built for 80, 90" in reason
    without.setattr(cuda_runtime, "_capability", lambda device: (8, 9))
    assert cuda_reasons("x", x, None) == []
