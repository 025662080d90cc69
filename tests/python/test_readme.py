"""The README's lines about the roads in and out: each is there, and does what it says."""

import re
import textwrap

import numpy as np
import pytest
from helpers import assert_close

import chainrule as cr

ROADS = {
    "python": (
        "mlp.save(",
        "cr.MLP.load(",
        "resume=True",
        "cr.MLP.from_torch(",
        "mlp.to_torch(",
        "load_state_dict(",
        "cr.MLP.from_onnx(",
        "mlp.to_onnx(",
        ".from_sklearn(",
        ".to_sklearn(",
        "estimator.to_onnx(",
        "mlp.export_c(",
    ),
    "cmake": ("find_package(chainrule", "chainrule::chainrule"),
    "cpp": ("chainrule::load<double>(", "chainrule::save<double>("),
}


@pytest.fixture(scope="module")
def blocks(root):
    """The code blocks of the two sections, by language."""
    text = (root / "README.md").read_text(encoding="utf-8")
    sections = re.search(r"^## In and out$(.*?)^## How to read", text, re.DOTALL | re.MULTILINE)
    assert sections, "the README has no section 'In and out' any more"
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", sections[1], re.DOTALL | re.MULTILINE))


def test_the_first_example_prints_what_follows_it(root, capsys):
    text = (root / "README.md").read_text(encoding="utf-8")
    code, printed = re.search(r"^```python\n(.*?)^```\n\n((?:    [^\n]*\n)+)", text, re.DOTALL | re.MULTILINE).groups()
    exec(code, {})
    assert capsys.readouterr().out == textwrap.dedent(printed)


@pytest.mark.parametrize(("language", "road"), [(language, road) for language in ROADS for road in ROADS[language]])
def test_every_road_has_a_line(blocks, language, road):
    assert sum(road in line for line in blocks[language].splitlines()) == 1


def test_every_line_runs(blocks, tmp_path, monkeypatch, capsys):
    for package in ("safetensors", "onnx", "sklearn", "torch"):
        pytest.importorskip(package, reason=f"{package} is not installed: the README's lines are not run")
    import torch
    from sklearn import neural_network

    from chainrule.sklearn import MLPClassifier

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(3, size=60)
    mlp = cr.MLP([4, 8, 3], loss="cross_entropy", dtype="float64", seed=0)
    module, start = mlp.to_torch(), mlp.predict(X)
    weights = {name: 2 * values for name, values in module.state_dict().items()}
    torch.save(weights, "weights.pt")
    mlp.to_onnx("net.onnx")
    with pytest.warns(UserWarning, match="Maximum iterations"):
        fitted = neural_network.MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
    probabilities = fitted.predict_proba(X)

    def finished(names):
        again = names["mlp"].copy()
        assert again.fit(X, y, epochs=100, checkpoint="fit.safetensors", resume=True).epochs == 100
        return again.predict(X), names["mlp"].predict(X)

    checks = {  # what the line made, and what that should be
        "cr.MLP.load(": lambda names: (names["mlp"].predict(X), start),
        "resume=True": finished,
        "cr.MLP.from_torch(": lambda names: (names["mlp"].predict(X), start),
        "load_state_dict(": lambda names: (names["module"][0].weight.numpy(force=True), weights["0.weight"].numpy()),
        "cr.MLP.from_onnx(": lambda names: (names["mlp"].predict(X), start),
        ".from_sklearn(": lambda names: (names["estimator"].predict_proba(X), probabilities),
        ".to_sklearn(": lambda names: (names["fitted"].predict_proba(X), probabilities),
    }
    names = {"cr": cr, "torch": torch, "mlp": mlp, "X": X, "y": y, "module": module, "fitted": fitted}
    names["MLPClassifier"] = MLPClassifier
    for line in blocks["python"].splitlines():
        exec(line, names)
        for road, check in checks.items():
            if road in line:
                assert_close(*check(names), 1e-12, line)
    assert {path.name for path in tmp_path.iterdir()} == {
        "net.safetensors",
        "fit.safetensors",
        "weights.pt",
        "net.onnx",
        "classifier.onnx",
        "model.h",
    }
    assert "flash" in capsys.readouterr().out
