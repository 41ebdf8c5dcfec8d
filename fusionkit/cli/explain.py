"""``fusionkit explain``: a picture of the masks that a run's model puts on one sample."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import click


@click.command("explain")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--sample", metavar="ID", help="which sample; needed where there are several")
@click.option("--split", default="test", show_default=True,
              type=click.Choice(["train", "validation", "test"]), help="of its data")  # fmt: skip
@click.option("--samples", metavar="INPUT", type=click.Path(path_type=Path),
              help="own samples, an .npz file as `fusionkit predict` takes it")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="PNG file to write  [default: RUN/explanations/SPLIT-ID.png]")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option("--nonfinite", type=click.Choice(["error", "zero"]), default="error",
              show_default=True, help="NaN or infinite features: refuse, or set to 0")  # fmt: skip
def command(
    run: Path,
    sample: str | None,
    split: Any,
    samples: Path | None,
    out: Path | None,
    device: str,
    nonfinite: Any,
) -> None:
    """Draw the learnt masks of RUN's model for one sample, as a PNG.

    The arrays (steps, features) are written beside it, as .npz. Only methods with masks have
    something to show, such as mmlatch.
    """
    import numpy as np

    from fusionkit.errors import MisuseError
    from fusionkit.report.mask_figure import check_matplotlib, draw_explanation
    from fusionkit.training.explain import explain_run

    check_matplotlib()
    source = click.get_current_context().get_parameter_source("split")
    if samples is not None and source is not click.core.ParameterSource.DEFAULT:
        raise MisuseError("--split and --samples exclude each other; leave one out")
    if out is not None:
        _check_out(out)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        found = explain_run(
            run, sample, split=split, samples=samples, device=device, nonfinite=nonfinite
        )
    for note in notes:
        if note.category is UserWarning:
            click.echo(f"note: {note.message}", err=True)
    if out is None:
        name = re.sub(r"[^\w.-]+", "_", f"{found.origin}-{found.sample}")
        out = run / "explanations" / f"{name}.png"
        out.parent.mkdir(exist_ok=True)
        _check_out(out)
    draw_explanation(found, out)
    np.savez(out.with_suffix(".npz"), allow_pickle=False, **found.arrays)
    click.echo(f"{', '.join(found.arrays)} of {found.sample!r} in {out}")
    click.echo(f"the arrays in {out.with_suffix('.npz')}")


def _check_out(out: Path) -> None:
    from fusionkit.errors import MisuseError

    if out.suffix.lower() != ".png":
        raise MisuseError(f"{out}: pictures are PNG files; let --out end in .png")
    if not out.absolute().parent.is_dir():
        raise MisuseError(f"{out}: the folder {out.absolute().parent} does not exist")
    for file in (out, out.with_suffix(".npz")):
        if file.exists():
            raise MisuseError(
                f"{file}: exists already and is never overwritten; choose another --out"
            )
