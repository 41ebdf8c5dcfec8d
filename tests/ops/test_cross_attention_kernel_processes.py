"""The compiled cross-attention from several threads, in forked processes, and its memory."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader, Dataset

from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs, force_backend


def outputs_and_gradients(seed: int, batch: int = 3, steps: int = 60) -> list[Tensor]:
    """Of one call of each operator, with dropout and lengths."""
    g = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(batch, 4, n, 40, generator=g).requires_grad_()
        for n in (steps, steps + 17, steps + 17)
    )
    lengths = torch.randint(steps, (batch,), generator=g)
    with force_backend("cpu"):
        single = cross_attention(
            query, key, value, key_lengths=lengths, query_lengths=lengths, dropout_p=0.1, seed=seed
        )
        pairs = cross_attention_pairs(
            [AttentionPair(query, key, value, lengths), AttentionPair(value, query, query)]
        )
    outputs = [single, *pairs]
    gradients = torch.autograd.grad([x.sum() for x in outputs], (query, key, value))
    return [*(x.detach() for x in outputs), *gradients]


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(found) == len(wanted)
    assert all(a.equal(b) for a, b in zip(found, wanted))


class Attended(Dataset[list[Tensor]]):
    """A data set that uses the operators to make its items."""

    def __getitem__(self, index: int) -> list[Tensor]:
        return outputs_and_gradients(index)

    def __len__(self) -> int:
        return 4


def fill_the_pool() -> None:
    """Work for two threads, so that the pool exists."""
    torch.set_num_threads(2)
    outputs_and_gradients(0, batch=8, steps=120)


def test_in_a_forked_worker(extension: ModuleType, restore: None) -> None:
    """After the parent has used the thread pool, which a forked child does not inherit."""
    fill_the_pool()
    loader = DataLoader(
        Attended(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    items = list(loader)
    assert len(items) == 4
    for index, item in enumerate(items):
        assert_same_bits(item, outputs_and_gradients(index))


def in_child(results: multiprocessing.SimpleQueue) -> None:  # type: ignore[type-arg]
    torch.set_num_threads(1)
    results.put([x.tolist() for x in outputs_and_gradients(5)])


def test_in_a_forked_process_of_one_thread(extension: ModuleType, restore: None) -> None:
    fill_the_pool()
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=in_child, args=(results,))
    process.start()
    found = results.get()
    process.join(60)
    assert process.exitcode == 0
    assert_same_bits([torch.tensor(x) for x in found], outputs_and_gradients(5))


@pytest.mark.parametrize("threads", [1, 2])
def test_from_several_python_threads_at_once(
    isa: str, restore: None, unwritten_is_nan: None, threads: int
) -> None:
    torch.set_num_threads(threads)
    wanted = [outputs_and_gradients(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(outputs_and_gradients, range(4)), wanted):
                assert_same_bits(found, right)


MEASURE = """
import re, torch
from fusionkit.ops import cross_attention, force_backend
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
def run(steps):
    query, key, value = (torch.randn(1, 1, steps, 4, requires_grad=True) for _ in range(3))
    out = cross_attention(query, key, value, dropout_p=0.1, seed=1)
    torch.autograd.grad(out.sum(), (query, key, value))
with force_backend("cpu"):
    run(100)
    before = peak()
    run(10_000)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc/self/status")
def test_no_tensor_of_all_scores(extension: ModuleType) -> None:
    """Forward and backward of 10,000 x 10,000 steps, whose scores would take 400 MB."""
    result = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 100 * 2**20
