"""How a compared method is written: modality, options, label and folder; and the seeds."""

from __future__ import annotations

from typing import Any

import pytest

import fusionkit as fk
from fusionkit.errors import ConfigError, FusionKitError, UnknownNameError
from fusionkit.registry import registry
from fusionkit.training.settings import find_method
from fusionkit.training.variants import (
    Variant,
    ablated_variants,
    compared_variants,
    default_folder,
    make_variant,
    parse_seeds,
    split_options,
)


def variant(text: str, **options: Any) -> Variant:
    return make_variant(text, registry().get("data set", "synthetic"), **options)


def test_modality_behind_the_colon() -> None:
    method, options = find_method("unimodal:audio", {"hidden_size": 3})
    assert method.name == "unimodal"
    assert options == {"hidden_size": 3, "modality": "audio"}
    assert find_method("mmlatch")[1] == {}
    spec = fk.DataSpec({"text": 3, "audio": 2}, "regression", 1)
    model: Any = fk.create("unimodal:audio", spec, hidden_size=4)
    assert model.modality == "audio"
    with pytest.raises(ConfigError, match="'vision' is not in the data; they have text, audio"):
        fk.create("unimodal:vision", spec)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("mmlatch:audio", {}, "mmlatch takes no modality behind a colon, only .*unimodal"),
        ("unimodal:", {}, "must follow the colon"),
        ("unimodal:audio", {"modality": "text"}, "names another one, 'text'"),
        ("unimodl:audio", {}, "did you mean 'unimodal'"),
    ],
)
def test_wrong_modalities(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FusionKitError, match=message):
        find_method(text, options)


def test_options_of_one_and_of_all() -> None:
    found = variant(
        "mmlatch, encoder_layers={text: 2, audio: 1}, hidden_size=5,train.epochs=2",
        overrides={"model": {"hidden_size": 9, "mask": None}, "train": {"batch_size": 7}},
    )
    assert found.label == "mmlatch,encoder_layers={text: 2, audio: 1},hidden_size=5,train.epochs=2"
    model = found.settings.model.model_dump()
    assert model["encoder_layers"] == {"text": 2, "audio": 1}
    assert (model["hidden_size"], model["mask"]) == (5, None)
    assert (found.settings.train.epochs, found.settings.train.batch_size) == (2, 7)


def test_preset_of_one() -> None:
    model = variant("mmlatch,preset=released", recipe="default").settings.model.model_dump()
    assert model["lengths"] == "padded"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mmlatch,data.samples=30", "--set data.samples"),
        ("mmlatch,mask={a", "brackets that close"),
        ("mmlatch,,mask=null", "brackets that close"),
        ("mmlatch,mask", "KEY=VALUE"),
        ("mmlatch,preset=paper,preset=released", "one preset"),
        ("mmlatch,preset=papr", "did you mean 'paper'"),
        ("mmlatch,hiden_size=3", "did you mean 'hidden_size'"),
    ],
)
def test_wrong_options(text: str, message: str) -> None:
    with pytest.raises(FusionKitError, match=message):
        variant(text)


def test_folders_tell_labels_apart() -> None:
    labels = ["unimodal:text", "unimodal:text,hidden_size=3", "mmlatch", "mmlatch,mask=null"]
    long = ["mmlatch" + ",hidden_size=3" * 20 + end for end in ("", ",mask=null")]
    folders = [variant(text).folder for text in labels + long]
    assert len(set(folders)) == len(folders)
    assert folders[0] == "unimodal:text"
    assert all(len(name) <= 120 and "/" not in name for name in folders)


def test_baseline_joins_the_methods() -> None:
    source = registry().get("data set", "synthetic")
    variants, baseline = compared_variants(["mmlatch"], "unimodal:text, hidden_size=3", source)
    assert [v.label for v in variants] == ["mmlatch", "unimodal:text,hidden_size=3"]
    assert baseline == "unimodal:text,hidden_size=3"
    variants, baseline = compared_variants(["mmlatch", "unimodal"], "mmlatch", source)
    assert [v.label for v in variants] == ["mmlatch", "unimodal"]
    with pytest.raises(ConfigError, match="'mmlatch' is named twice"):
        compared_variants(["mmlatch", "mmlatch"], None, source)
    with pytest.raises(ConfigError, match="at least one method"):
        compared_variants([], None, source)


def test_ablations_change_one_part_each() -> None:
    source = registry().get("data set", "synthetic")
    full, *parts = ablated_variants("mmlatch,hidden_size=3", source)
    assert full.label == "mmlatch,hidden_size=3"
    assert [part.label for part in parts] == list(full.method.ablations)
    for part in parts:
        assert part.settings.train == full.settings.train
        assert part.settings.model != full.settings.model
        assert part.settings.model.model_dump()["hidden_size"] == 3
    with pytest.raises(ConfigError, match=r"unimodal names no parts.*these methods do: .*mmlatch"):
        ablated_variants("unimodal", source)
    with pytest.raises(ConfigError, match="changes nothing"):
        ablated_variants("mmlatch,mask=null", source)


def test_default_folder_depends_on_the_options() -> None:
    one, same = (default_folder("compare", "npz:a/b.npz", [variant("mmlatch")]) for _ in range(2))
    other = default_folder("compare", "npz:a/b.npz", [variant("mmlatch,mask=null")])
    assert one == same != other
    assert one.parts[0] == "runs"
    assert one.parts[1].startswith("compare-npz-")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), (" 0, 2 - 3 ,9", (0, 2, 3, 9)), ("3-3", (3,))],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("a", "0-4 or 0,1,7"),
        ("0..4", "cannot be read"),
        ("-1", "cannot be read"),
        ("4-0", "write 0-4"),
        ("0-2,1", "1 is named twice"),
        ("4294967296", r"below 2\*\*32"),
        ("0-5000", "1000 at most"),
    ],
)
def test_wrong_seeds(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_seeds(text)


def test_quotes_hold_commas() -> None:
    assert split_options("m,a='x,y',b=[1,2]") == ["m", "a='x,y'", "b=[1,2]"]
    with pytest.raises(UnknownNameError):
        variant("'mmlatch'")
