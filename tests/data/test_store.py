"""Ragged sequences: views, padded batches, selection and hash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.store import SequenceStore


@pytest.fixture
def store() -> SequenceStore:
    return SequenceStore(
        features={
            "a": np.arange(12, dtype=np.float32).reshape(6, 2),
            "b": np.arange(4, dtype=np.float32).reshape(4, 1),
        },
        lengths={"a": np.array([1, 3, 2]), "b": np.array([2, 1, 1])},
        targets=np.array([5, 6, 7]),
        ids=["x", "y", "z"],
        groups=np.array(["g", "g", "h"]),
    )


def test_sequence_is_the_samples_own_rows(store: SequenceStore) -> None:
    assert store.sequence("a", 1).tolist() == [[2, 3], [4, 5], [6, 7]]
    assert store.sequence("b", 2).tolist() == [[3]]
    assert len(store) == 3


def test_batch_pads_each_modality_with_zeros(store: SequenceStore) -> None:
    batch = store.batch([2, 0])
    assert isinstance(batch, MultimodalBatch)
    assert len(batch) == 2
    assert batch.features["a"].tolist() == [[[8, 9], [10, 11]], [[0, 1], [0, 0]]]
    assert batch.features["b"].tolist() == [[[3], [0]], [[0], [1]]]
    assert batch.lengths["a"].tolist() == [2, 1]
    assert batch.lengths["b"].tolist() == [1, 2]
    assert batch.targets is not None and batch.targets.tolist() == [7, 5]
    assert batch.ids == ["z", "x"]


def test_a_batch_does_not_share_memory_with_the_store(store: SequenceStore) -> None:
    before = store.sha256()
    batch = store.batch([0, 1, 2])
    for tensor in (*batch.features.values(), *batch.lengths.values()):
        tensor.fill_(9)
    assert store.sha256() == before


def test_batch_to_converts_features_only(store: SequenceStore) -> None:
    batch = store.batch([0, 1]).to("cpu", torch.float64)
    assert batch.features["a"].dtype == torch.float64
    assert batch.lengths["a"].dtype == torch.int64
    assert batch.targets is not None and batch.targets.dtype == torch.int64
    assert batch.ids == ["x", "y"]


def test_select_keeps_order_and_everything_of_a_sample(store: SequenceStore) -> None:
    chosen = store.select([2, 0])
    assert chosen.sequence("a", 0).tolist() == store.sequence("a", 2).tolist()
    assert chosen.sequence("b", 1).tolist() == store.sequence("b", 0).tolist()
    assert chosen.ids == ["z", "x"]
    assert chosen.targets is not None and chosen.targets.tolist() == [7, 5]
    assert chosen.groups is not None and chosen.groups.tolist() == ["h", "g"]
    empty = store.select([])
    assert len(empty) == 0
    assert empty.features["a"].shape == (0, 2)


def test_context_stays_with_its_samples(store: SequenceStore) -> None:
    known = replace(store, context={"speaker": np.array([4, 0, 9])})
    batch = known.select([2, 0]).batch([1, 0, 1])
    assert batch.ids == ["x", "z", "x"]
    for same in (batch, batch.to("cpu", torch.float16), batch.as_padded()):
        assert same.context["speaker"].tolist() == [4, 9, 4]
        assert same.context["speaker"].dtype == torch.int64
    assert batch.to("meta").context["speaker"].is_meta
    assert store.batch([0]).context == {}
    shuffled = replace(store, context={"speaker": np.array([0, 4, 9])})
    assert len({store.sha256(), known.sha256(), shuffled.sha256()}) == 3
    assert known.select([0, 1, 2]).sha256() == known.sha256()


def test_hash_depends_on_content_and_order(store: SequenceStore) -> None:
    assert store.select([0, 1, 2]).sha256() == store.sha256()
    assert store.select([1, 0, 2]).sha256() != store.sha256()
