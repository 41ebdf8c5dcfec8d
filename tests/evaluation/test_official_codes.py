"""Golden parity: the compatibility sets give what the authors' evaluation codes give.

Every number and every exception of every golden file is checked; a key that no function answers
for is a failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusionkit.evaluation.compatibility import mmlatch, mmsa, msaf, mult
from fusionkit.evaluation.undefined import UndefinedMetricError

Values = Mapping[str, Any]
Resolve = Callable[[str, dict[str, NDArray[Any]], dict[str, Any]], Values]

_GROUP = re.compile(
    r"(old/exclude_zero=\d+|exclude_zero=\d+|single=\d+|weighted|acc_2_f_score|acc_7|validation)/"
)
_LOOSE = {"mae", "MAE", "loss"}


def _option(group: str) -> int:
    return int(group.rsplit("=", 1)[1])


def _tensors(case: dict[str, NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(case["pred"]), torch.from_numpy(case["true"])


def _mmlatch(group: str, case: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Values:
    pair = _tensors(case)
    if group == "weighted":
        return {"weighted_accuracy": mmlatch.weighted_accuracy(*pair)}
    if group.startswith("old/"):
        return mmlatch.eval_mosei_senti_old(*pair, exclude_zero=bool(_option(group)))
    return mmlatch.eval_iemocap(*pair) if pair[0].dim() == 3 else mmlatch.eval_mosei_senti(*pair)


def _mult(group: str, case: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Values:
    predictions, targets = _tensors(case)
    if group == "weighted":
        return {"weighted_accuracy": mult.weighted_accuracy(predictions, targets)}
    if group.startswith("single="):
        emotion = _option(group)
        return mult.eval_iemocap_single(predictions[:, emotion], targets[:, emotion], emotion)
    if group.startswith("exclude_zero="):
        return mult.eval_senti(predictions, targets, exclude_zero=bool(_option(group)))
    return mult.eval_iemocap(predictions, targets)


def _msaf(group: str, case: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Values:
    pair = _tensors(case)
    if group == "acc_2_f_score":
        return dict(zip(("f_score", "acc_2", "cm"), msaf.acc_2_f_score(*pair), strict=True))
    if group == "acc_7":
        return dict(zip(("acc_7", "cm"), msaf.acc_7(*pair), strict=True))
    assert group == "validation"
    return msaf.validation(*pair, batch_size=meta["batch_size"])


def _mmsa(group: str, case: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Values:
    assert group == ""
    if case["mode"] == "classification":
        return mmsa.eval_classification(*_tensors(case))
    sims = str(case["dataset"]).startswith("SIMS")
    return (mmsa.eval_sims_regression if sims else mmsa.eval_mosei_regression)(*_tensors(case))


def _check(path: Path, resolve: Resolve, loose: set[str]) -> None:
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    meta = json.loads(str(arrays.pop("meta")))
    cases: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        case, name = key.split("/", 1)
        cases.setdefault(case, {})[name] = array
    assert cases
    for number, case_arrays in cases.items():
        _check_case(f"{path.stem} {number}", case_arrays, meta, resolve, loose)


def _check_case(
    label: str,
    case: dict[str, NDArray[Any]],
    meta: dict[str, Any],
    resolve: Resolve,
    loose: set[str],
) -> None:
    expected: dict[str, dict[str, NDArray[Any]]] = {}
    raising: set[str] = set()
    for key, array in case.items():
        kind, _, name = key.partition("/")
        if kind == "result":
            match = _GROUP.match(name)
            group = match.group(1) if match else ""
            expected.setdefault(group, {})[name.removeprefix(f"{group}/")] = array
        elif kind == "raises":
            raising.add("" if name == "all" else name)
        else:
            assert key in {"pred", "true", "mode", "dataset"}, f"{label}: nobody reads {key}"
    assert expected or raising, label
    for group in raising:
        with pytest.raises(UndefinedMetricError):
            resolve(group, case, meta)
    for group, wanted in expected.items():
        actual = resolve(group, case, meta)
        assert set(actual) == set(wanted), f"{label} {group}"
        for name, array in wanted.items():
            _compare(
                f"{label} {group}/{name}", actual[name], array, 1e-6 if name in loose else 1e-9
            )


def _compare(label: str, actual: Any, expected: NDArray[Any], tolerance: float) -> None:
    largest = float(np.nanmax(np.abs(expected))) if not np.isnan(expected).all() else 0.0
    np.testing.assert_allclose(
        np.asarray(actual), expected, rtol=0, atol=tolerance * largest + 1e-15, err_msg=label
    )


@pytest.mark.golden("metrics_mmlatch*.npz")
def test_mmlatch(golden_case: Path) -> None:
    _check(golden_case, _mmlatch, _LOOSE)


@pytest.mark.golden("metrics_mult*.npz")
def test_mult(golden_case: Path) -> None:
    _check(golden_case, _mult, _LOOSE)


@pytest.mark.golden("metrics_msaf*.npz")
def test_msaf(golden_case: Path) -> None:
    _check(golden_case, _msaf, _LOOSE | {"corr"})


@pytest.mark.golden("metrics_mmsa*.npz")
def test_mmsa(golden_case: Path) -> None:
    _check(golden_case, _mmsa, _LOOSE)
