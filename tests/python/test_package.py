"""The package: names, typing marker, configuration, what an import costs."""

import doctest
import importlib.resources
import json
import pkgutil
import sys
import typing

import numpy as np
import pytest
from helpers import unreadable_annotations

import chainrule as cr


@pytest.mark.parametrize("name", sorted(set(cr.__all__) - {"__version__"}))
def test_public_names_are_explained(name):
    assert (getattr(cr, name).__doc__ or "").strip()


def test_what_is_there_is_offered():
    own = {name for name, value in vars(cr).items() if getattr(value, "__module__", "").startswith("chainrule")}
    there = {name for name in own if name[0] != "_"}
    assert sorted(cr.__all__) == sorted({*there, "__version__"})


@pytest.mark.parametrize("name", ["chainrule", *(m.name for m in pkgutil.walk_packages(cr.__path__, "chainrule."))])
def test_examples_in_docstrings(name):
    module = pytest.importorskip(name, reason=f"an extra is not installed: {name} is not tried", exc_type=ImportError)
    assert doctest.testmod(module).failed == 0


def test_version(distribution):
    assert cr.__version__ == distribution.version


def test_types_are_shipped():
    files = importlib.resources.files("chainrule")
    assert files.joinpath("py.typed").is_file()
    assert "class ModelFloat32" in files.joinpath("_core.pyi").read_text()


def test_annotations_can_be_read_at_run_time():
    assert unreadable_annotations(cr) == []
    hints = typing.get_type_hints(cr.MLP.fit)
    assert hints["self"] is cr.MLP and hints["return"] is cr.History
    assert typing.get_type_hints(cr.EpochReport)["monitor"] == cr.GradientFlow | None


def test_configuration_as_text(capsys):
    assert cr.show_config() is None
    text = capsys.readouterr().out
    assert cr.__version__ in text and "hread" in text


def test_configuration_as_dictionary(capsys):
    config = cr.show_config(mode="dicts")
    assert capsys.readouterr().out == ""
    assert config["version"] == cr.__version__
    assert config["threads"] == cr.get_num_threads()
    assert config["instruction_set"] in config["instruction_sets"]
    assert config["compiler"]
    assert json.dumps(config)


def test_configuration_of_another_mode():
    with pytest.raises(ValueError, match=r"^mode: unknown name 'xml'"):
        cr.show_config(mode="xml")
    with pytest.raises(TypeError, match=r"^mode is 3 \(int\); expected a name \(stdout, dicts\)$"):
        cr.show_config(mode=3)


def test_import_loads_numpy_and_threadpoolctl_alone(run_python):
    """Beside the standard library, and what an interpreter of this environment has loaded anyway."""

    def loaded_with(package):
        code = f"import sys, {package}; print(*{{name.partition('.')[0] for name in sys.modules}})"
        return set(run_python("-c", code).stdout.split()) - sys.stdlib_module_names

    assert loaded_with("chainrule") - {"threadpoolctl"} == loaded_with("numpy") | {"chainrule"}


def test_floating_point_state_is_left_alone():
    """Denormals are still there after training: flush-to-zero, if used, ends with the call."""
    tiny = np.array([np.finfo(np.float64).smallest_subnormal])
    mlp = cr.MLP([4, 50, 1], seed=0)
    mlp.fit(np.ones((64, 4)), np.ones(64), epochs=2)
    assert (tiny * 1)[0] > 0 and (tiny + tiny)[0] == 2 * tiny[0]
