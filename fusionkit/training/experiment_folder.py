"""The folder of a comparison: what it holds, whether it may be continued, and who works on it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusionkit.errors import CheckpointError, MisuseError
from fusionkit.training.checkpoint import write_atomically

_RECORD = "comparison.json"


def is_finished(folder: Path) -> bool:
    """Whether a run is done; remains of one that was killed at its very start are removed.

    Raises:
        MisuseError: the folder is no run.
    """
    if (folder / "results.json").exists():
        return True
    if folder.exists() and not (folder / "run.json").exists():
        # Killed between making the folder and describing the run, or not ours.
        if any(not file.name.startswith(".writing-") for file in folder.iterdir()):
            raise MisuseError(
                f"{folder}: is no run of this comparison; move it away or choose another --out"
            )
        shutil.rmtree(folder)
    return False


def check_space(folder: Path, needed: int, runs: int) -> None:
    """Refuse to start what cannot be stored.

    Args:
        needed: bytes that the checkpoints of ``runs`` runs will take.

    Raises:
        CheckpointError: the disk has less.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise CheckpointError(
            f"{folder}: {runs} runs need about {needed / 2**20:.0f} MiB for their checkpoints, "
            f"{free / 2**20:.0f} MiB are free; free some space or choose another --out"
        )


def make_folder(folder: Path) -> None:
    """Make the folder, or accept that of an earlier comparison.

    Raises:
        MisuseError: it holds something else. CheckpointError: it cannot be made.
    """
    if (folder / "run.json").exists():
        raise MisuseError(f"{folder}: is the folder of a single run; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise MisuseError(f"{folder}: is a file; choose another --out")
    foreign = folder.exists() and any(not f.name.startswith(".") for f in folder.iterdir())
    if foreign and not (folder / _RECORD).exists():
        raise MisuseError(f"{folder}: holds something else already; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be made: {error.strerror}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out; the lock goes with the process.

    Raises:
        MisuseError: another process is at work here.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MisuseError(
                f"{folder}: another process is working on this comparison; wait for it"
            ) from None
        yield


def claim(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``comparison.json``; further variants and seeds may join, options may not change.

    What was asked for once, but never began, binds nobody.

    Args:
        record: ``format``, ``data``, ``metrics``, ``variants`` (label -> options and ``folder``)
            and ``jobs``.

    Returns:
        The record of all that the folder holds, with the most jobs at a time.

    Raises:
        MisuseError: the folder was made with other options. CheckpointError: it cannot be read or
            written.
    """
    file, new = folder / _RECORD, dict(record)
    if file.exists():
        try:
            old = json.loads(file.read_bytes())
            begun = {
                label: variant
                for label, variant in old["variants"].items()
                if any((folder / variant["folder"]).glob("seed-*/run.json"))
            }
            shared = {label: begun.get(label, v) for label, v in new["variants"].items()}
            most_jobs = max(old["jobs"] if begun else 1, new["jobs"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{file}: not as FusionKit wrote it: {error}") from error
        unlike = _difference({**old, "variants": shared, "jobs": 0}, {**new, "jobs": 0})
        if begun and unlike is not None:
            raise MisuseError(f"{folder}: holds another comparison: {unlike}; choose another --out")
        new["variants"], new["jobs"] = {**begun, **new["variants"]}, most_jobs
    try:
        write_atomically(file, json.dumps(new, indent=1).encode())
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be written: {error.strerror}") from error
    return new


def _difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first difference of two records, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            where = f"{name}.{key}" if name else str(key)
            if key not in old or key not in new:
                return f"{where} is {'new' if key in new else 'not there any more'}"
            found = _difference(old[key], new[key], where)
            if found is not None:
                return found
        return None
    return None if old == new else f"{name.removeprefix('variants.')} is {old!r} there, {new!r} now"
