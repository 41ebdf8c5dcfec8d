"""Plugins are found, isolated from each other, and looked up with helpful errors."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fusionkit.cli.main import cli
from fusionkit.errors import PluginError, UnknownNameError
from fusionkit.registry import registry


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    registry.cache_clear()
    yield
    registry.cache_clear()


def install(folder: Path, distribution: str, entry: str, code: str) -> None:
    """A distribution as pip would lay it out, with one entry point."""
    module = f"{distribution.replace('-', '_')}_module"
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fusionkit]\n{entry} = {module}\n")


def method_code(name: str) -> str:
    return f"""
from fusionkit import Method, MethodConfig, hookimpl

@hookimpl
def fusionkit_register_methods(register):
    register(Method(name={name!r}, summary="", config=MethodConfig, build=None))
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield tmp_path
    for name in [n for n in sys.modules if n.endswith("_fusion_module")]:
        del sys.modules[name]


def test_built_in_methods_come_from_our_distribution() -> None:
    entry = registry().entries("method")["mmlatch"]
    assert entry.distribution == f"fusionkit-torch {importlib.metadata.version('fusionkit-torch')}"
    assert not registry().broken
    assert not registry().conflicts()


def test_third_party_method_is_found(site: Path) -> None:
    install(site, "alpha-fusion", "alpha", method_code("alpha"))
    assert registry().get("method", "alpha").name == "alpha"
    assert registry().entries("method")["alpha"].distribution == "alpha-fusion 1.0"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mmlatch'"):
        registry().get("method", "mmlach")


def test_broken_plugin_is_skipped_and_only_its_use_raises(site: Path) -> None:
    install(site, "broken-fusion", "broken", "import a_module_that_is_not_there\n")
    found = registry()
    assert "mmlatch" in found.names("method")
    assert [str(b) for b in found.broken] == [
        "plugin 'broken' of broken-fusion 1.0 failed: "
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    ]
    with pytest.raises(PluginError, match="a_module_that_is_not_there"):
        found.get("method", "broken")
    with pytest.raises(UnknownNameError, match="note: plugin 'broken' of broken-fusion"):
        found.get("method", "another")


def test_hook_that_raises_is_reported(site: Path) -> None:
    code = method_code("late").replace(
        "    register(", "    raise RuntimeError('too late')\n    register("
    )
    install(site, "late-fusion", "late", code)
    assert "late" not in registry().names("method")
    assert "too late" in str(registry().broken[0])
    assert "mmlatch" in registry().names("method")


def test_hook_with_a_wrong_signature_is_reported(site: Path) -> None:
    code = "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_register_methods(wrong): ...\n"
    install(site, "wrong-fusion", "wrong", code)
    assert registry().broken[0].name == "wrong"
    assert "mmlatch" in registry().names("method")


def test_two_claims_of_one_name_name_both_distributions(site: Path) -> None:
    install(site, "my-mmlatch", "mine", method_code("mmlatch"))
    found = registry()
    with pytest.raises(PluginError) as caught:
        found.get("method", "mmlatch")
    assert "my-mmlatch 1.0" in str(caught.value)
    assert "fusionkit-torch" in str(caught.value)
    assert len(found.conflicts()) == 1
    assert found.get("method", "unimodal").name == "unimodal"


def test_environment_variable_loads_exactly_the_named(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "alpha-fusion", "alpha", method_code("alpha"))
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "alpha")
    assert registry().names("method") == ["alpha"]


def test_backends_of_plugins_are_registered_with_the_operators(site: Path) -> None:
    install(
        site,
        "slow-attention",
        "slow",
        """
from fusionkit import Backend, hookimpl

@hookimpl
def fusionkit_register_backends(register):
    register(Backend(op="cross_attention", name="slow_test", run=print,
                     not_supported_reasons=lambda *a, **k: ["never"], summary="for a test"))
""",
    )
    from fusionkit.ops import available_backends, backends

    assert "cross_attention:slow_test" in registry().names("backend")
    assert "slow_test" in [b.name for b in available_backends()["cross_attention"]]
    backends._backends["cross_attention"] = [
        b for b in backends._backends["cross_attention"] if b.name != "slow_test"
    ]


def test_callbacks_and_commands_of_plugins(site: Path, tmp_path: Path) -> None:
    install(
        site,
        "extra-fusion",
        "extra",
        """
import click
from fusionkit import Callback, hookimpl

class Counter:
    epochs = []
    def on_epoch_end(self, state):
        self.epochs.append(state.progress.epoch)

@hookimpl
def fusionkit_register_callbacks(register):
    register(Callback(name="counter", summary="counts", build=Counter))

@hookimpl
def fusionkit_register_commands(cli):
    @cli.command("hello")
    def hello():
        click.echo("hello from a plugin")
""",
    )
    import fusionkit as fk
    from fusionkit.cli.main import FusionKitGroup

    fk.train(
        "unimodal", data="synthetic", out=tmp_path / "run", model={"hidden_size": 3},
        train={"epochs": 2, "callbacks": ["counter"]}, data_options={"samples": 60},
    )  # fmt: skip
    assert sys.modules["extra_fusion_module"].Counter.epochs == [1, 2]
    result = CliRunner().invoke(FusionKitGroup("fusionkit"), ["hello"])
    assert result.exit_code == 0, result.output
    assert "hello from a plugin" in result.output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(7)", "SystemExit: 7"),
        (method_code("x").replace("_methods(", "_method("), "unknown hook"),
        (
            method_code("x").replace("    register(", "    register(print); print("),
            "no method",
        ),
    ],
    ids=["exits", "misspelt hook", "wrong type"],
)
def test_bad_plugins_take_nothing_else_down(site: Path, code: str, message: str) -> None:
    install(site, "bad-fusion", "bad", code)
    assert "mmlatch" in registry().names("method")
    assert [b.name for b in registry().broken] == ["bad"]
    assert message in str(registry().broken[0])
    doctor = CliRunner().invoke(cli, ["doctor"])
    assert doctor.exit_code == 1
    assert "problem: plugin 'bad' of bad-fusion 1.0" in doctor.output


def test_a_command_hook_that_raises_leaves_the_help_alone(site: Path) -> None:
    install(
        site,
        "loud-fusion",
        "loud",
        "from fusionkit import hookimpl\n@hookimpl\ndef fusionkit_register_commands(cli): 1 / 0",
    )
    from fusionkit.cli.main import FusionKitGroup

    result = CliRunner().invoke(FusionKitGroup("fusionkit"), ["--help"])
    assert result.exit_code == 0
    assert "division by zero" in str(registry().broken[0])


def test_an_unknown_name_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONKIT_PLUGINS", "mmlach")
    with pytest.raises(UnknownNameError, match="did you mean 'mmlatch'"):
        registry()


def test_a_build_that_fails_names_the_method(site: Path) -> None:
    install(site, "alpha-fusion", "alpha", method_code("alpha"))
    import fusionkit as fk

    spec = fk.DataSpec({"a": 2, "b": 3}, "regression", 1)
    with pytest.raises(PluginError, match="method 'alpha' could not build its model: TypeError"):
        fk.create("alpha", spec)
    with pytest.raises(fk.DataError, match="'type' is a name that torch modules need"):
        fk.create("mmlatch", fk.DataSpec({"a": 2, "type": 3}, "regression", 1))
