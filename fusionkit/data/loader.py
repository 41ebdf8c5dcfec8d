"""Batches in an order that depends on (seed, epoch) alone, so that a resumed run sees the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.store import SequenceStore


def epoch_order(count: int, *, shuffle: bool, seed: int, epoch: int) -> list[int]:
    """The order in which epoch ``epoch`` visits ``count`` samples; each comes exactly once."""
    if not shuffle:
        return list(range(count))
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


class EpochBatches(Sampler[list[int]]):
    """Lists of sample indices, a batch each; the last batch may be smaller, nothing is dropped.

    With several processes, each takes every ``world_size``-th sample; the order is first filled up
    from its start, so that all processes have equally many batches.

    Lightning Fabric resets the epoch of any sampler that it finds in a loader to the number of
    passes since ``setup_dataloaders``, which is wrong after a resume. It does not look here.

    Args:
        count: number of samples. batch_size: samples a batch and process, at least 1.
        shuffle: a new order every epoch. seed: >= 0, of that order.
        rank, world_size: this process and the number of processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, at least 1 is needed")
        self.count, self.batch_size = count, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first_batch = 0

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next passes, and how many of its batches are done already."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        own = -(-self.count // self.world_size)
        return max(0, -(-own // self.batch_size) - self.first_batch)

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self.count, shuffle=self.shuffle, seed=self.seed, epoch=self.epoch)
        own = -(-self.count // self.world_size)
        order = [
            order[i % self.count] for i in range(self.rank, own * self.world_size, self.world_size)
        ]
        for start in range(self.first_batch * self.batch_size, own, self.batch_size):
            yield order[start : start + self.batch_size]


class EpochLoader(DataLoader[MultimodalBatch]):
    """A loader of padded batches; see `make_loader`."""

    batch_sampler: EpochBatches


def make_loader(
    store: SequenceStore,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> EpochLoader:
    """A loader that visits the store in the order of an `EpochBatches`.

    Call ``loader.batch_sampler.set_epoch(epoch)`` before each pass, and pass
    ``use_distributed_sampler=False`` to Fabric's ``setup_dataloaders``. Iterating does not touch
    torch's global generator.
    """
    batches = EpochBatches(
        len(store), batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
    )
    return EpochLoader(
        cast("Dataset[MultimodalBatch]", range(len(store))),
        batch_sampler=batches,
        collate_fn=store.batch,
        generator=torch.Generator(),
        num_workers=0,
    )
