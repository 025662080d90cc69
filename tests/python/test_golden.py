"""What every version so far has written, read by this one: the same networks, optimizers and estimators."""

import json
import pathlib
import pickle
import pickletools
import shutil

import numpy as np
import pytest
from helpers import assert_close

import chainrule as cr

GOLDEN = pathlib.Path(__file__).parent / "golden"
VERSIONS = sorted(path.parent.name for path in GOLDEN.glob("*/expected.json"))
OPTIMIZERS = ("sgd", "rmsprop", "adam", "adamw")
of_every_version = pytest.mark.parametrize("version", VERSIONS)


def expected(version):
    found = json.loads((GOLDEN / version / "expected.json").read_text())
    return found, np.array(found["X"]), np.array(found["Y"])


def unpickled(version, name):
    return pickle.loads((GOLDEN / version / f"{name}.pickle").read_bytes())


def tolerance(mlp):
    """Of what is computed: machines round differently."""
    return 1e-5 if mlp.dtype == "float32" else 1e-12


def check_network(mlp, found, X, Y):
    assert repr(mlp) == found["repr"] and mlp.seed == found["seed"] and mlp.init.name == "normal"
    assert mlp.parameters.tolist() == found["parameters"]
    assert_close(mlp.predict(X), found["outputs"], tolerance(mlp))
    assert_close(mlp.fit(X, Y, epochs=1, batch_size=5).loss, found["later"], tolerance(mlp))  # same order, same units


def test_there_are_some():
    assert "0.1.0" in VERSIONS


@of_every_version
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks(version, dtype):
    found, X, Y = expected(version)
    mlp = unpickled(version, f"mlp_{dtype}")
    assert mlp.dtype == dtype
    check_network(mlp, found[f"mlp_{dtype}"], X, Y)


@of_every_version
def test_files(version):
    pytest.importorskip("safetensors", reason="safetensors is not installed: no files")
    found, X, Y = expected(version)
    check_network(cr.MLP.load(GOLDEN / version / "network.safetensors"), found["mlp_float64"], X, Y)


@of_every_version
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(version, name):
    found, X, Y = expected(version)
    mlp, optimizer = unpickled(version, name)
    assert repr(optimizer) == found[name]["repr"] and optimizer.t == found[name]["t"]
    assert_close(mlp.fit(X, Y, epochs=2, optimizer=optimizer).loss, found[name]["later"], 1e-12)


@of_every_version
def test_a_fit_goes_on(version, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed: no files")
    found, X, Y = expected(version)
    shutil.copy(GOLDEN / version / "fit.safetensors", tmp_path)
    mlp = unpickled(version, "mlp_float64")
    history = mlp.fit(X, Y, checkpoint=tmp_path / "fit.safetensors", resume=True, **found["fit"]["arguments"])
    assert history.loss[:2] == found["fit"]["loss"][:2]
    assert_close(history.loss, found["fit"]["loss"], 1e-12)
    assert_close(mlp.parameters, found["fit"]["parameters"], 1e-12)


@of_every_version
@pytest.mark.parametrize("name", ["classifier", "regressor"])
@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")  # scikit-learn's own, of another version of it
def test_estimators(version, name):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: no estimators")
    found, X, _ = expected(version)
    estimator = unpickled(version, name)
    outputs = estimator.predict_proba(X) if name == "classifier" else estimator.predict(X)
    assert_close(outputs, found[name]["outputs"], 1e-12)
    if name == "classifier":
        assert estimator.predict(X).tolist() == found[name]["labels"]
    epochs = len(estimator.loss_curve_)
    assert len(estimator.partial_fit(X, estimator.predict(X)).loss_curve_) == epochs + 1


@pytest.mark.parametrize("kind", ["MLP", "Adam", "MLPRegressor"])
def test_a_later_format_is_refused(kind, monkeypatch):
    thing = cr.MLP([2, 2]) if kind == "MLP" else cr.Adam()
    modules = ["chainrule.serialization", "chainrule.optimizers"]
    if kind == "MLPRegressor":
        pytest.importorskip("sklearn", reason="scikit-learn is not installed: no estimators")
        from chainrule.sklearn import MLPRegressor

        thing = MLPRegressor()
        modules.append("chainrule.sklearn.base")
    with monkeypatch.context() as later:
        for module in modules:
            later.setattr(f"{module}.PICKLE_VERSION", 2)
        pickled = pickle.dumps(thing)
    with pytest.raises(ValueError, match=rf"the pickled {kind} is of format 2 \(int\); version [\d.]+ reads 1"):
        pickle.loads(pickled)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "mlp_float32"])
def test_pickles_hold_plain_data(name):
    """Besides the class and how it is restored, only what NumPy and Python have."""
    data = (GOLDEN / "0.1.0" / f"{name}.pickle").read_bytes()
    classes = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    own = {name for name in classes if name.startswith("chainrule")}
    kinds = {f"chainrule._core {kind}" for kind in ("SGD", "RMSprop", "Adam", "AdamW")}
    assert own <= {"chainrule.mlp MLP", "chainrule.optimizers restored", *kinds}
    assert all(name.split()[0].split(".")[0] in ("numpy", "copyreg", "copy_reg", "_codecs") for name in classes - own)
