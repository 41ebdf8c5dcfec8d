"""``fusionkit predict``: outputs for new samples, prepared as the training data were."""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from fusionkit.training.inference import Predictions


@click.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("samples", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="CSV file to write  [default: standard output]")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option("--nonfinite", type=click.Choice(["error", "zero"]), default="error",
              show_default=True, help="NaN or infinite features: refuse, or set to 0")  # fmt: skip
def command(run: Path, samples: Path, out: Path | None, device: str, nonfinite: Any) -> None:
    """Predict the samples of INPUT, an .npz file with the modalities RUN was trained on.

    For every modality NAME the file holds NAME (T, D) for one sample, or NAME (total frames, D)
    with NAME_len (N,) for several. The arrays that data.context named in training may be there too;
    without them they count as unknown.
    """
    from fusionkit import api
    from fusionkit.errors import MisuseError

    if out is not None and out.exists():
        raise MisuseError(f"{out}: exists already and is never overwritten; choose another --out")
    if out is not None and not out.absolute().parent.is_dir():
        raise MisuseError(f"{out}: the folder {out.absolute().parent} does not exist")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        predictions = api.predict(run, samples, device=device, nonfinite=nonfinite)
    for note in notes:
        if note.category is UserWarning:
            click.echo(f"note: {note.message}", err=True)
    if out is None:
        _write(sys.stdout, predictions)
        return
    with open(out, "w", newline="") as file:
        _write(file, predictions)
    click.echo(f"{len(predictions.ids)} predictions in {out}")


def _write(file: TextIO, predictions: Predictions) -> None:
    probabilities = predictions.probabilities
    values = predictions.outputs if probabilities is None else probabilities
    names = predictions.class_names or [str(k) for k in range(values.shape[1])]
    kind = "value" if probabilities is None else "probability"
    writer = csv.writer(file)
    writer.writerow(["id", "prediction", *(f"{kind} of {name}" for name in names)])
    for sample, label, row in zip(predictions.ids, predictions.labels, values.tolist()):
        writer.writerow([sample, label, *(f"{value:.6g}" for value in row)])
