"""What the source ``npz`` refuses: each message names file, field and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.errors import ConfigError, DataError, FusionKitError

from arrays_file import COUNT, SPEECH, arrays, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _broken(name: str, edit: Any) -> dict[str, Any]:
    content = arrays()
    content[name] = edit(content[name])
    return content


def _with(array: Any, value: float) -> Any:
    array = array.astype(float)
    array[7, 1] = value
    return array


@pytest.mark.parametrize(
    ("content", "options", "kind", "field", "fix"),
    [
        (
            arrays(action=None),
            {},
            ConfigError,
            "target: ",
            "choose one of its arrays with a row a sample: face, subject, mood",
        ),
        (arrays(), {"target": "valence"}, ConfigError, "target: ", "has no array 'valence', only"),
        (
            arrays(action=np.arange(3)),
            {},
            ConfigError,
            "target: 'action'",
            "has 3 rows for 24 samples; choose another array",
        ),
        (
            arrays(),
            {"target": "mood", "task": "classification"},
            ConfigError,
            "target 'mood'",
            "choose another target",
        ),
        (arrays(), {}, ConfigError, "train_groups and test_groups are both", "1, 2, 3, 4, 5, 6"),
        (
            arrays(),
            {"train_groups": [1, 2], "test_groups": [2, 3]},
            ConfigError,
            "test_groups: group '2' is in train_groups",
            "give a group to one split",
        ),
        (arrays(), {"test_groups": [9]}, ConfigError, "test_groups: '9'", "known: 1, 2"),
        (arrays(), {"group": "person"}, ConfigError, "group: ", "no array 'person'"),
        (
            arrays(subject=None),
            {"test_groups": [1]},
            ConfigError,
            "group: ",
            "name the array that the lists of groups refer to",
        ),
        (
            arrays(fold=np.array(["train"] * COUNT)),
            {"split": "fold", "test_groups": [1]},
            ConfigError,
            "split: ",
            "either split or lists",
        ),
        (
            arrays(),
            {"modalities": ["speech"]},
            ConfigError,
            "modalities: 'speech' is no numeric array",
            "it has audio",
        ),
        (
            arrays(),
            {"modalities": ["audio", "audio"]},
            ConfigError,
            "modalities: ",
            "each once; those with lengths are audio, depth",
        ),
        (
            {"audio": np.zeros((3, 2)), "y": np.arange(3)},
            {},
            ConfigError,
            "modalities: ",
            "an array X needs the lengths X_len",
        ),
        (
            _broken("depth_len", lambda n: n[:-1]),
            {"test_groups": [1]},
            DataError,
            "'depth' has 23 samples, 'audio' has 24",
            "lengths in 'depth_len'",
        ),
        (
            _broken("audio", lambda x: x[:-1]),
            {"test_groups": [1]},
            DataError,
            "the lengths of 'audio' add up to",
            "write the length of every sample",
        ),
        (
            _broken("audio", lambda x: _with(x, np.nan)),
            {"test_groups": [1]},
            DataError,
            "modality 'audio', sample '0000",
            "--nonfinite zero",
        ),
        (
            _broken("audio", lambda x: _with(x, 1e300)),
            {"test_groups": [1]},
            DataError,
            "feature 1 is inf",
            "--nonfinite zero",
        ),
        (
            _broken("mood", lambda x: np.where(x > 0, np.nan, x)),
            {"test_groups": [1], "target": "mood"},
            DataError,
            "is nan, not a finite number",
            "drop the sample",
        ),
        (
            arrays(id=np.array(["same"] * COUNT)),
            {"test_groups": [1]},
            DataError,
            "id 'same' is given to 24 samples",
            "own id",
        ),
        (
            arrays(),
            {"test_groups": [1], "validation_fraction": 0.01},
            DataError,
            "the validation split has no samples",
            "change the split options",
        ),
    ],
)
def test_errors_name_file_field_and_fix(
    folder: Path,
    content: dict[str, Any],
    options: dict[str, Any],
    kind: type[FusionKitError],
    field: str,
    fix: str,
) -> None:
    with pytest.raises(kind) as caught:
        load(folder, content, **options)
    message = str(caught.value)
    assert field in message
    assert fix in message
    names_file = "my.npz" in message
    assert names_file or message.startswith(("split: ", "test_groups: group"))


def test_nonfinite_values_can_be_zeroed(folder: Path) -> None:
    content = _broken("audio", lambda x: _with(x, np.nan))
    data = load(folder, content, test_groups=[1], nonfinite="zero")
    assert data.notes == [
        SPEECH,
        f"{folder / 'my.npz'}: 1 NaN or infinite values of 'audio' in 1 samples were set to 0",
    ]
