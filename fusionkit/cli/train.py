"""``fusionkit train``: train a method by name, or continue an interrupted run."""

from __future__ import annotations

from pathlib import Path

import click

from fusionkit.cli.names import RegisteredName


@click.command("train")
@click.argument("method", required=False, type=RegisteredName("method"))
@click.option("--data", default="watch", show_default=True, type=RegisteredName("data set"),
              help="data set: NAME or NAME:PATH")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="option of the method, or train.KEY, data.KEY; repeatable")  # fmt: skip
@click.option("--preset", help="named options of the method (see `fusionkit info METHOD`)")
@click.option("--recipe", help="named training recipe, the same for all methods (docs/compare.md)")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
              help="YAML file with sections model, train and data")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1),
              help="of initialisation, order and dropout")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="new run folder  [default: runs/...]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option("--cuda-graph", is_flag=True,
              help="capture the training step as CUDA graphs (docs/training.md)")  # fmt: skip
@click.option("--metrics", default="default", show_default=True, type=RegisteredName("metric set"),
              help="metric set to report")  # fmt: skip
@click.option("--nonfinite", type=click.Choice(["error", "zero"]),
              help="NaN or infinite features: refuse, or set to 0 and say how many")  # fmt: skip
@click.option("--resume", type=click.Path(path_type=Path),
              help="run folder to continue; all other options come from it")  # fmt: skip
def command(
    method: str | None,
    data: str,
    settings: tuple[str, ...],
    preset: str | None,
    recipe: str | None,
    config: Path | None,
    seed: int,
    out: Path | None,
    device: str,
    cuda_graph: bool,
    metrics: str,
    nonfinite: str | None,
    resume: Path | None,
) -> None:
    """Train METHOD, select the epoch on validation data, score it on the test data."""
    if method is None and resume is None:
        raise click.UsageError(
            "name a METHOD to train (see `fusionkit list`), or give --resume RUN"
        )
    if resume is not None:
        _only_resume()
    from fusionkit import api
    from fusionkit.report.console import make_console
    from fusionkit.report.progress import ConsoleProgress
    from fusionkit.report.results_table import print_result
    from fusionkit.training.settings import parse_overrides

    console = make_console()
    sections = parse_overrides(settings)
    if nonfinite is not None:
        sections["data"]["nonfinite"] = nonfinite
    with ConsoleProgress(console) as progress:
        try:
            result = api.train(
                method, data, seed=seed, preset=preset, recipe=recipe, config=config,
                model=sections["model"], train=sections["train"], data_options=sections["data"],
                metrics=metrics, out=out, device=device, cuda_graph=cuda_graph, resume=resume,
                callbacks=[progress],
            )  # fmt: skip
        except KeyboardInterrupt:
            folder = progress.folder
            hint = f"; continue with: fusionkit train --resume {folder}" if folder else ""
            click.echo(f"\ninterrupted{hint}", err=True)
            raise SystemExit(1) from None
    print_result(console, result)


def _only_resume() -> None:
    ctx = click.get_current_context()
    for name in ("method", "data", "settings", "preset", "recipe", "config", "seed", "out",
                 "cuda_graph", "metrics", "nonfinite"):  # fmt: skip
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise click.UsageError(f"--resume takes everything from the run; leave out {name!r}")
