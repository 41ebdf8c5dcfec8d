"""Splits by column, by group and by drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.data.formats.splits import by_column, by_groups, cut
from fusionkit.errors import ConfigError, DataError

_GROUPS = np.array([1, 1, 2, 3, 3, 10])


def _by_groups(train: Any = None, validation: Any = None, test: Any = None) -> Any:
    return by_groups(_GROUPS, train, validation, test, name="subject", where="my.npz")


def test_by_column() -> None:
    words = np.array(["train", "dev", "Test", "valid", "train", "validation", "val"])
    plan = by_column(words, name="split", where="my.npz")
    assert plan.train.tolist() == [0, 4]
    assert plan.validation is not None and plan.validation.tolist() == [1, 3, 5, 6]
    assert plan.test.tolist() == [2]
    assert plan.rule == "as 'split' says"
    assert by_column(np.array(["train", "test"]), name="s", where="f").validation is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "test", "holdout"], "my.npz: 'fold' says 'holdout'; use train"),
        (["train", "dev"], "my.npz: 'fold' marks no sample as 'test'; mark some"),
    ],
)
def test_by_column_errors(words: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        by_column(np.array(words), name="fold", where="my.npz")


def test_by_groups() -> None:
    plan = _by_groups([1], [2], [3, "10"])
    assert plan.train.tolist() == [0, 1]
    assert plan.validation.tolist() == [2]
    assert plan.test.tolist() == [3, 4, 5]
    assert plan.rule == "by 'subject': train 1; validation 2; test 3, 10"


def test_a_list_that_is_left_out_means_the_rest() -> None:
    assert _by_groups(None, [2], [3]).train.tolist() == [0, 1, 5]
    assert _by_groups([1, 10], None, None).test.tolist() == [2, 3, 4]
    assert _by_groups([1], None, [3]).rule == "by 'subject': train 1; test 3; unused 2, 10"


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            ([1, 2], None, [2]),
            "test_groups: group '2' is in train_groups as well; give a group to one split",
        ),
        (([1], [4], [2]), "validation_groups: '4' is no group in 'subject' of my.npz; known: 1, 2"),
        ((None, [1], None), "train_groups and test_groups are both missing; give at least one"),
        (([1, 2, 3, 10], None, None), "test_groups: the test split gets no group of 'subject'"),
        (([], None, [1]), "train_groups: the train split gets no group of 'subject' of my.npz"),
    ],
)
def test_by_groups_errors(lists: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _by_groups(*lists)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 1000),
)
def test_a_cut_is_a_partition_with_every_class_in_proportion(
    classes: list[int], fraction: float, seed: int
) -> None:
    strata = np.array(classes)
    candidates = np.arange(len(classes))
    rest, drawn = cut(candidates, strata, fraction, np.random.default_rng(seed))
    assert sorted([*rest, *drawn]) == candidates.tolist()
    assert len(drawn) == int(np.floor(fraction * len(classes) + 1e-9))
    for c in set(classes):
        share = (strata[drawn] == c).sum() - fraction * (strata == c).sum()
        assert abs(share) <= 1 + 1e-6


def test_a_cut_depends_on_the_generator_alone() -> None:
    first, again, other = (
        cut(np.arange(40), None, 0.3, np.random.default_rng(s))[1].tolist() for s in (0, 0, 1)
    )
    assert first == again != other
