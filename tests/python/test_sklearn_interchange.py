"""Estimators to scikit-learn and back, to ONNX with labels, and to skops."""

import copy
import pickle

import numpy as np
import pytest
from helpers import assert_close
from nets import few_samples

pytest.importorskip("sklearn", reason="scikit-learn is not installed: the way to it and back is not checked")
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from chainrule import sklearn as here

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
TARGETS = {
    "binary": RNG.integers(2, size=60) + 5,
    "classes": RNG.integers(3, size=60),
    "strings": np.array(["a", "b", "c"])[RNG.integers(3, size=60)],
    "labels": RNG.integers(2, size=(60, 3)),
    "number": X[:, 0],
    "numbers": X[:, :2],
}
SETTINGS = {"hidden_layer_sizes": (5, 4), "max_iter": 5, "random_state": 0}
pytestmark = pytest.mark.filterwarnings("ignore")


def make(module, target, **settings):
    name = "MLPRegressor" if target.startswith("number") else "MLPClassifier"
    return getattr(module, name)(**{**SETTINGS, **settings})


def outputs(estimator):
    return estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_from_sklearn_and_back(target, activation):
    y = TARGETS[target]
    theirs = make(neural_network, target, activation=activation).fit(X, y)
    ours = getattr(here, type(theirs).__name__).from_sklearn(theirs)
    assert_close(outputs(ours), outputs(theirs), 1e-12)
    assert np.array_equal(ours.predict(X), theirs.predict(X)) or target.startswith("number")
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-12)
    assert ours.get_params()["hidden_layer_sizes"] == (5, 4) and ours.loss_curve_ == theirs.loss_curve_
    back = ours.to_sklearn()
    assert_close(outputs(back), outputs(theirs), 1e-14)
    assert back.get_params() == theirs.get_params()
    ours.partial_fit(X, y)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) + 1
    assert not np.shares_memory(ours.coefs_[0], theirs.coefs_[0])
    assert_close(ours.coefs_[0], theirs.coefs_[0], 0.1)


@pytest.mark.parametrize("target", ["classes", "number"])
def test_subclasses_go_there_and_back_too(target):
    kind = type(make(here, target))
    mine = type("Mine", (kind,), {"__init__": kind.__init__})
    ours = mine(**SETTINGS).fit(X, TARGETS[target])
    theirs = ours.to_sklearn()
    assert type(theirs) is getattr(neural_network, kind.__name__)
    assert_close(outputs(theirs), outputs(ours), 1e-12)
    back = mine.from_sklearn(theirs)
    assert back.mlp_.seed == mine.from_sklearn(theirs).mlp_.seed
    assert type(back) is mine
    assert_close(outputs(back), outputs(ours), 1e-12)


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_fitted_here_predicts_there(target):
    ours = make(here, target, dropout=0.1).fit(X, TARGETS[target])
    assert ours.gradient_flow_.parameters
    theirs = ours.to_sklearn()
    assert_close(outputs(theirs), outputs(ours), 1e-6)
    assert b"chainrule" not in pickle.dumps(theirs)


def test_a_warm_start_with_early_stopping_goes_on_there():
    settings = {"early_stopping": True, "warm_start": True, "shuffle": False}
    ours, theirs = (make(module, "number", **settings).fit(X, TARGETS["number"]) for module in (here, neural_network))
    back = ours.to_sklearn().fit(X, TARGETS["number"])
    assert back.n_iter_ == 5
    assert_close(back.coefs_[0], theirs.fit(X, TARGETS["number"]).coefs_[0], 1e-9)


def test_what_scikit_learn_does_not_have():
    with pytest.raises(ValueError, match=r"activations \['gelu'\]"):
        make(here, "binary", activation="gelu").fit(X, TARGETS["binary"]).to_sklearn()
    with pytest.raises(ValueError, match="loss 'huber'"):
        make(here, "number", loss="huber").fit(X, TARGETS["number"]).to_sklearn()
    with pytest.raises(NotFittedError):
        here.MLPClassifier.from_sklearn(neural_network.MLPClassifier())
    with pytest.raises(NotFittedError):
        make(here, "binary").to_sklearn()
    with pytest.raises(TypeError, match="expected scikit-learn's MLPClassifier"):
        here.MLPClassifier.from_sklearn(make(neural_network, "number").fit(X, TARGETS["number"]))


@pytest.mark.parametrize("target", [*TARGETS, "one class"])
def test_onnx_gives_labels_and_probabilities(tmp_path, target):
    pytest.importorskip("onnx", reason="onnx is not installed: the way to it is not checked")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its outputs are not checked")
    y = np.full(60, "only") if target == "one class" else TARGETS[target]
    ours = make(here, target, dtype="float32").fit(X, y)
    ours.to_onnx(tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"X": X.astype("float32")})
    names = [output.name for output in session.get_outputs()]
    if target.startswith("number"):
        assert names == ["output"]
        assert_close(found[0].reshape(60, -1), ours.predict(X).reshape(60, -1), 1e-6)
        return
    assert names == ["label", "probabilities"]
    assert np.array_equal(found[0], ours.predict(X))
    assert_close(found[1], ours.predict_proba(X), 1e-6)


@pytest.mark.parametrize("target", ["classes", "number"])
@pytest.mark.parametrize("way", ["pickle", "deepcopy", "skops"])
def test_estimators_are_saved(tmp_path, target, way):
    ours = make(here, target).fit(X, TARGETS[target])
    if way == "skops":
        skops = pytest.importorskip("skops.io", reason="skops is not installed: its files are not checked")
        skops.dump(ours, tmp_path / "net.skops")
        twin = skops.load(tmp_path / "net.skops", trusted=skops.get_untrusted_types(file=tmp_path / "net.skops"))
    else:
        twin = copy.deepcopy(ours) if way == "deepcopy" else pickle.loads(pickle.dumps(ours))
    assert np.array_equal(outputs(twin), outputs(ours))


def test_to_sklearn_leaves_what_it_does_not_have_at_its_defaults():
    X, y = few_samples()
    m = here.MLPRegressor(hidden_layer_sizes=(4,), solver="adamw", learning_rate="cosine", max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning):
        theirs = m.fit(X, y).to_sklearn()
    assert (theirs.solver, theirs.learning_rate, theirs.max_iter) == ("adam", "constant", 3)
