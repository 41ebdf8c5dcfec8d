"""The order of batches depends on seed and epoch alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from fusionkit.data.loader import EpochBatches, epoch_order, make_loader
from fusionkit.data.store import SequenceStore


def _store(count: int = 11) -> SequenceStore:
    lengths = np.arange(1, count + 1)
    return SequenceStore(
        features={"a": np.arange(lengths.sum(), dtype=np.float32)[:, None]},
        lengths={"a": lengths},
        targets=np.arange(count),
        ids=[str(i) for i in range(count)],
    )


def test_every_sample_comes_once_an_epoch() -> None:
    batches = EpochBatches(11, 4, shuffle=True, seed=3)
    seen = list(batches)
    assert [len(b) for b in seen] == [4, 4, 3]
    assert len(batches) == 3
    assert sorted(i for b in seen for i in b) == list(range(11))


def test_without_shuffle_the_order_is_that_of_the_store() -> None:
    assert list(EpochBatches(5, 2, shuffle=False, seed=0)) == [[0, 1], [2, 3], [4]]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = epoch_order(50, shuffle=True, seed=1, epoch=2)
    assert epoch_order(50, shuffle=True, seed=1, epoch=2) == first
    assert epoch_order(50, shuffle=True, seed=1, epoch=3) != first
    assert epoch_order(50, shuffle=True, seed=2, epoch=1) != first


def test_an_epoch_can_be_entered_in_the_middle() -> None:
    whole, rest = (
        EpochBatches(11, 4, shuffle=True, seed=3),
        EpochBatches(11, 4, shuffle=True, seed=3),
    )
    whole.set_epoch(5)
    rest.set_epoch(5, first_batch=1)
    assert list(rest) == list(whole)[1:]
    assert len(rest) == 2


@pytest.mark.parametrize("count", [1, 10, 11, 12])
def test_processes_share_the_samples_evenly(count: int) -> None:
    ranks = [
        list(EpochBatches(count, 2, shuffle=True, seed=0, rank=r, world_size=3)) for r in range(3)
    ]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    seen = [i for batches in ranks for b in batches for i in b]
    assert set(seen) == set(range(count))
    assert len(seen) == -(-count // 3) * 3


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        EpochBatches(3, 0, shuffle=False, seed=0)


def test_loader_gives_padded_batches_of_the_right_samples() -> None:
    store = _store()
    loader = make_loader(store, 4, shuffle=True, seed=7)
    assert len(loader) == 3
    for batch in loader:
        assert batch.targets is not None
        indices = batch.targets.tolist()
        assert batch.ids == [str(i) for i in indices]
        assert batch.lengths["a"].tolist() == [i + 1 for i in indices]
        for row, index in enumerate(indices):
            sequence = torch.from_numpy(store.sequence("a", index))
            assert torch.equal(batch.features["a"][row, : index + 1], sequence)
            assert not batch.features["a"][row, index + 1 :].any()


def test_iterating_leaves_the_global_generator_alone() -> None:
    loader = make_loader(_store(), 4, shuffle=True, seed=7)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_fabric_does_not_reset_the_epoch() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    plain = make_loader(_store(), 4, shuffle=True, seed=7)
    plain.batch_sampler.set_epoch(9)
    expected = [batch.ids for batch in plain]
    loader = make_loader(_store(), 4, shuffle=True, seed=7)
    wrapped: Any = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    for _ in range(2):
        loader.batch_sampler.set_epoch(9)
        assert [batch.ids for batch in wrapped] == expected
