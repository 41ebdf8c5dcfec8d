"""Train a list of runs, one after another or several at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import torch

from fusionkit.errors import CheckpointError, FusionKitError
from fusionkit.registry import registry
from fusionkit.training.result import RunResult
from fusionkit.training.run import resume_run, start_run
from fusionkit.training.settings import Settings


@dataclass(frozen=True)
class Job:
    """One run: picklable, so that another process can do it. Names are looked up there."""

    label: str
    method: str
    source: str
    settings: Settings
    data: str
    seed: int
    metrics: str
    folder: Path
    device: str

    @property
    def failure_file(self) -> Path:
        """Where the traceback of a failed run is written."""
        return self.folder.with_name(f"{self.folder.name}.failed.txt")


def train_jobs(
    jobs: Sequence[Job],
    at_a_time: int,
    metric: str,
    tell: Callable[[str], None],
    callbacks: Sequence[object] = (),
) -> dict[Path, str]:
    """Train or continue all jobs.

    Args:
        metric: whose validation value the lines show. tell: gets one line a job.
        callbacks: of the runs, if they are done here and not in other processes.

    Returns:
        Folder -> what went wrong, of the runs that failed by their own fault.

    Raises:
        CheckpointError, OSError, MemoryError: what would stop the other runs, too.
    """
    failures: dict[Path, str] = {}
    for number, (job, outcome) in enumerate(_outcomes(jobs, at_a_time, callbacks), start=1):
        name = f"[{number}/{len(jobs)}] {job.label}, seed {job.seed}"
        if isinstance(outcome, str):
            failures[job.folder] = outcome
            tell(f"{name}: failed: {outcome}")
            continue
        score = outcome.validation.get(metric)
        value = "" if score is None else f"validation {metric} {score.value:.4f}, "
        tell(f"{name}: {value}{sum(record['seconds'] for record in outcome.history):.0f} s")
    return failures


def _outcomes(
    jobs: Sequence[Job], at_a_time: int, callbacks: Sequence[object]
) -> Iterator[tuple[Job, RunResult | str]]:
    if at_a_time == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, complete(job, callbacks)
        return
    threads = max(1, torch.get_num_threads() // at_a_time)
    with ProcessPoolExecutor(
        min(at_a_time, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_process,
        initargs=(threads,),
    ) as pool:
        futures = {pool.submit(complete, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise FusionKitError(
                "a process that trained a run was killed, perhaps for want of memory; the same "
                "command with fewer --jobs continues"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def complete(job: Job, callbacks: Sequence[object] = ()) -> RunResult | str:
    """Train one run, or continue it where it was interrupted; or say what went wrong in it."""
    job.failure_file.unlink(missing_ok=True)
    try:
        if (job.folder / "run.json").exists():
            return resume_run(job.folder, device=job.device, callbacks=callbacks)
        return start_run(
            registry().get("method", job.method),
            registry().get("data set", job.source),
            job.settings,
            data=job.data,
            seed=job.seed,
            metrics=job.metrics,
            out=job.folder,
            device=job.device,
            callbacks=callbacks,
        )
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:
        job.failure_file.parent.mkdir(parents=True, exist_ok=True)
        job.failure_file.write_text(traceback.format_exc())
        if isinstance(error, FusionKitError):
            return str(error)
        return f"{type(error).__name__}: {error} (traceback: {job.failure_file})"


def _start_process(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed comparison must not go on training behind the back of the one that continues it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
