"""``fusionkit explain`` as a user meets it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fusionkit as fk
from fusionkit.cli.main import cli

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib is missing: the extra `bench`",
)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["explain", *(str(a) for a in arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "masked"
    fk.train("mmlatch", "synthetic", model={"hidden_size": 4}, train={"epochs": 1},
             data_options={"samples": 90}, out=out)  # fmt: skip
    return out


def sample_of(run: Path) -> str:
    with np.load(run / "examples.npz") as file:
        return str(file["id"][0])


@needs_matplotlib
def test_picture_and_arrays(run: Path, tmp_path: Path) -> None:
    import matplotlib.image

    out = tmp_path / "one.png"
    result = call(run, "--sample", sample_of(run), "--out", out)
    assert result.exit_code == 0, result.output
    assert str(out) in result.output and str(tmp_path / "one.npz") in result.output
    picture = matplotlib.image.imread(out)
    assert picture.shape[1] == 1350
    assert picture[..., :3].std() > 0.05, "nothing is drawn"
    with np.load(tmp_path / "one.npz") as arrays:
        assert arrays["mask of audio"].shape[1] == 12
        assert len(arrays.files) == 3


@needs_matplotlib
@pytest.mark.parametrize(("steps", "size"), [(1, 1), (1, 300), (2, 3), (2000, 1)])
def test_panels_of_any_size(steps: int, size: int, tmp_path: Path) -> None:
    from fusionkit.report.mask_figure import draw_explanation
    from fusionkit.training.explain import Explanation

    arrays = {name: np.full((steps, size), v, np.float32) for name, v in (("a", 0), ("b", 1))}
    long = "long $name$ " * 20
    draw_explanation(Explanation("m", long, "test", arrays, None, long), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


@needs_matplotlib
def test_pictures_have_a_place_and_are_never_overwritten(run: Path) -> None:
    name = sample_of(run)
    first = call(run, "--sample", name)
    assert first.exit_code == 0, first.output
    assert (run / "explanations" / f"test-{name}.png").exists()
    assert (run / "explanations" / f"test-{name}.npz").exists()
    again = call(run, "--sample", name)
    assert again.exit_code == 2
    assert "never overwritten" in again.output


@needs_matplotlib
def test_names_of_samples_cannot_lead_elsewhere(run: Path, tmp_path: Path) -> None:
    arrays = {m: np.ones((4, d)) for m, d in {"text": 20, "audio": 12, "vision": 8}.items()}
    lengths = {f"{m}_len": np.array([4]) for m in arrays}
    np.savez(tmp_path / "own.npz", allow_pickle=False, id=np.array(["../a $b$"]), **arrays,
             **lengths)  # fmt: skip
    result = call(run, "--samples", tmp_path / "own.npz")
    assert result.exit_code == 0, result.output
    assert (run / "explanations" / "own-.._a_b_.png").exists()


@needs_matplotlib
def test_misuse(run: Path, tmp_path: Path) -> None:
    name = sample_of(run)
    (tmp_path / "there.npz").write_bytes(b"")
    own = run / "examples.npz"
    cases: list[tuple[list[str | Path], int, str]] = [
        ([run, "--sample", f"{name}x"], 2, "nearest: "),
        ([run], 2, "--sample"),
        ([run, "--sample", name, "--split", "tset"], 2, "--split"),
        ([run, "--samples", own, "--sample", name, "--split", "train"], 2, "exclude each other"),
        ([run, "--sample", name, "--out", tmp_path / "x.jpg"], 2, "end in .png"),
        ([run, "--sample", name, "--out", tmp_path / "no" / "x.png"], 2, "does not exist"),
        ([run, "--sample", name, "--out", tmp_path / "there.png"], 2, "there.npz: exists already"),
        ([tmp_path / "nowhere", "--sample", name], 1, "not a FusionKit run"),
    ]
    for arguments, code, message in cases:
        result = call(*arguments)
        assert result.exit_code == code, (arguments, result.output)
        assert message in result.output, (arguments, result.output)
        assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*.png"))


def test_without_matplotlib_the_extra_is_named_first(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = call(run, "--sample", "whatever")
    assert result.exit_code == 2
    assert "pip install 'fusionkit-torch[bench]'" in result.output
