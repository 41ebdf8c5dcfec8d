"""Options: where they come from, which is stronger, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusionkit.errors import ConfigError, UnknownNameError
from fusionkit.registry import Method, registry
from fusionkit.training.settings import Settings, parse_overrides, resolve


def settings(*items: str, preset: str | None = None, file: Path | None = None) -> Settings:
    method: Method = registry().get("method", "mmlatch")
    source = registry().get("data set", "synthetic")
    return resolve(method, source, preset=preset, file=file, overrides=parse_overrides(items))


def test_defaults_of_the_method_are_used() -> None:
    found = settings()
    assert found.train.learning_rate == 5e-4
    assert found.train.scheduler == "plateau"
    assert found.model.model_dump()["hidden_size"] == 100


def test_overrides_are_stronger_than_file_than_preset(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(
        "model: {hidden_size: 8, mask_dropout_at_eval: false}\n"
        "train: {epochs: 3}\ndata: {samples: 90}\n"
    )
    found = settings("hidden_size=5", "train.batch_size=7", preset="released", file=file)
    model = found.model.model_dump()
    assert model["hidden_size"] == 5
    assert model["mask_dropout_at_eval"] is False
    assert model["lengths"] == "padded"
    assert (found.train.epochs, found.train.batch_size) == (3, 7)
    assert found.data.model_dump()["samples"] == 90


def test_values_are_read_as_yaml() -> None:
    parsed = parse_overrides(
        ["mask=null", "encoder_layers={text: 2}", "model.bidirectional=false",
         "encoder_layers.audio=3", "data.train_groups=[1, 3]", "train.learning_rate=1e-3"]
    )  # fmt: skip
    assert parsed["model"] == {
        "mask": None, "encoder_layers": {"text": 2, "audio": 3}, "bidirectional": False,
    }  # fmt: skip
    assert parsed["data"] == {"train_groups": [1, 3]}
    assert parsed["train"] == {"learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("hiden_size=3", "mmlatch has no option 'hiden_size'; did you mean 'hidden_size'"),
        ("epochs=3", "did you mean 'train.epochs'"),
        ("train.epoch=3", "train has no option 'epoch'; did you mean 'epochs'"),
        ("train.epochs=many", "train: epochs: .*given: 'many'"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("data.sample=3", "data synthetic has no option 'sample'; did you mean 'samples'"),
        ("mask=conv", "mmlatch: mask: .*'lstm'"),
        ("hidden_size", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
    ],
)
def test_wrong_options_name_the_key_and_the_nearest(item: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(item)


def test_unknown_preset() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'released'"):
        settings(preset="release")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not a YAML"), ("hidden_size: 3\n", "sections"), ("modl: {a: 1}\n", "'model'")],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        settings(file=file)
    with pytest.raises(ConfigError, match="no such configuration file"):
        settings(file=tmp_path / "missing.yaml")


def test_a_colon_without_a_space_is_named() -> None:
    with pytest.raises(ConfigError, match=r"write a space behind the colon of 'a:0'"):
        settings("mask_scale={a:0}")


def test_a_recipe_for_other_data_is_named_once() -> None:
    method, source = registry().get("method", "mmlatch"), registry().get("data set", "synthetic")
    with pytest.raises(ConfigError) as error:
        resolve(method, source, recipe="utd-mhad", overrides=parse_overrides(["train.epoch=2"]))
    assert "\n" not in str(error.value) and "did you mean 'epochs'" in str(error.value)
    with pytest.raises(ConfigError, match=r"^recipe 'utd-mhad' does not fit: data synthetic has"):
        resolve(method, source, recipe="utd-mhad")


def test_what_a_preset_gave_is_told_from_what_was_written() -> None:
    method, source = registry().get("method", "mag"), registry().get("data set", "synthetic")
    with pytest.raises(ConfigError) as error:
        resolve(method, source, preset="sensors", overrides=parse_overrides(["bert=folder"]))
    assert "(given: {'bert': 'folder'}; preset 'sensors': {'encoder': 'conv_bilstm'," in str(
        error.value
    )
