"""Training on the console: a bar and a line an epoch; only the lines where it is no terminal."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from fusionkit.data.dataset import MultimodalDataset
    from fusionkit.training.loop import FitState
    from fusionkit.training.work import Work


class ConsoleProgress:
    """A training callback; use it as a context manager, so that the bar goes away on an error."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None
        self.folder: Path | None = None

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def on_run_start(self, dataset: MultimodalDataset, folder: Path, work: Work) -> None:
        """Say what is trained on what."""
        self.folder = folder
        spec = dataset.spec
        modalities = ", ".join(f"{name} ({size})" for name, size in spec.modalities.items())
        counts = f"{len(dataset.train)} / {len(dataset.validation)} / {len(dataset.test)}"
        self._line(f"{work.method.name} on {work.data}, seed {work.seed}, run folder {folder}")
        self._line(f"  {modalities}; {spec.task}, {spec.num_outputs} outputs")
        self._line(f"  samples {counts} (train / validation / test): {dataset.split_rule}")
        for note in dataset.notes:
            self._line(f"  note: {note}")

    def on_fit_start(self, state: FitState) -> None:
        """Show the bar."""
        if not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._progress.start()
        total = state.total_epochs * state.batches_per_epoch
        done = state.progress.epoch * state.batches_per_epoch
        self._progress.add_task("training", total=total, completed=done)

    def on_batch_end(self, state: FitState) -> None:
        """One step further."""
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def on_epoch_end(self, state: FitState) -> None:
        """One line: losses, validation values, seconds."""
        record = state.progress.history[-1]
        width = len(str(state.total_epochs))
        values = "  ".join(
            f"{name.removeprefix('validation_')} {value:.4f}"
            for name, value in record.items()
            if name.startswith("validation_")
        )
        best = "  *" if state.progress.best_epoch == state.progress.epoch else ""
        self._line(
            f"epoch {state.progress.epoch:>{width}}/{state.total_epochs}  "
            f"train loss {record['train_loss']:.4f}  validation: {values}  "
            f"{record['seconds']:.1f} s{best}"
        )

    def on_fit_end(self, state: FitState) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if state.progress.stopped:
            self._line(f"stopped early: best epoch {state.progress.best_epoch}")

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
