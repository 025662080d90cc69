"""The ensembles: each network as by a fit of its own, mean and standard deviation, and when they stop."""

import numpy as np
import pytest
from helpers import same_bits

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

import pandas as pd
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import chainrule as cr
from chainrule.sklearn import EnsembleClassifier, EnsembleRegressor


def data(n=200):
    X = np.random.default_rng(0).uniform(-1, 1, size=(n, 2))
    return X, np.sin(3 * X[:, 0]) * X[:, 1]


@pytest.mark.parametrize("bootstrap", [True, False])
def test_each_network_is_that_of_its_own_fit(bootstrap):
    X, y = data()
    settings = {"hidden_layer_sizes": (8, 5), "activation": ["tanh", "logistic"], "max_iter": 30, "random_state": 3}
    ensemble = EnsembleRegressor(4, n_iter_no_change=3, bootstrap=bootstrap, batch_size=16, **settings).fit(X, y)
    seeds = np.random.RandomState(3).randint(2**31 - 1, size=4)
    for mlp, seed, rows, history in zip(ensemble.mlps_, seeds, ensemble.rows_, ensemble.histories_, strict=True):
        own = cr.MLP([2, 8, 5, 1], hidden_activation=["tanh", "sigmoid"], dtype="float64", seed=int(seed))
        left_out = None if rows is None else np.setdiff1d(np.arange(len(X)), rows)
        assert (rows is None) != bootstrap
        validation = (X[left_out], y[left_out]) if bootstrap else None
        X_own, y_own = (X[rows], y[rows]) if bootstrap else (X, y)
        expected = own.fit(X_own, y_own, epochs=30, batch_size=16, validation=validation, patience=3)
        assert same_bits(mlp.parameters, own.parameters)
        assert history.loss == expected.loss
    assert ensemble.n_iter_ == max(history.epochs for history in ensemble.histories_)


def test_mean_and_standard_deviation():
    X, y = data()
    ensemble = EnsembleRegressor(5, (16,), max_iter=20, random_state=0).fit(X, y)
    each = np.stack([mlp.predict(X)[:, 0] for mlp in ensemble.mlps_])
    mean, std = ensemble.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    assert same_bits(mean, each.mean(axis=0))
    assert same_bits(std, each.std(axis=0))
    assert same_bits(ensemble.predict(X), mean)


def test_several_outputs_and_float32():
    X, y = data()
    both = np.stack([y, -2 * y], axis=1)
    ensemble = EnsembleRegressor(3, (16,), max_iter=20, random_state=0).fit(X.astype(np.float32), both)
    mean, std = ensemble.predict(X.astype(np.float32), return_std=True)
    assert mean.shape == std.shape == both.shape
    assert mean.dtype == std.dtype == np.float32


def test_no_result_depends_on_the_number_of_threads():
    X, y = data()
    one, two = (
        EnsembleRegressor(4, (16,), max_iter=10, random_state=0, n_threads=n).fit(X, y).predict(X) for n in (1, 2)
    )
    assert same_bits(one, two)


def test_knows_where_it_knows_little():
    X, y = data(400)
    ensemble = EnsembleRegressor(10, (50,), random_state=0).fit(X[X[:, 0] < 0], y[X[:, 0] < 0])
    _, std = ensemble.predict([[-0.5, 0.5], [2.0, 0.5]], return_std=True)
    assert std[1] > 5 * std[0]


def test_better_than_its_networks():
    X, y = load_diabetes(return_X_y=True)
    X, y = X * 20, (y - 150) / 70
    ensemble = EnsembleRegressor(random_state=0).fit(X[::2], y[::2])
    errors = [np.mean((mlp.predict(X[1::2])[:, 0] - y[1::2]) ** 2) for mlp in ensemble.mlps_]
    assert np.mean((ensemble.predict(X[1::2]) - y[1::2]) ** 2) < np.mean(errors)


def test_frames_and_cross_validation():
    X, y = data()
    frame = pd.DataFrame(X, columns=["a", "b"])
    ensemble = EnsembleRegressor(3, (32,), solver=cr.Adam(lr=0.01), random_state=0)
    assert cross_val_score(ensemble, frame, y, cv=3).mean() > 0.8
    assert list(ensemble.fit(frame, y).feature_names_in_) == ["a", "b"]


def test_classes_by_soft_vote():
    X, y = load_wine(return_X_y=True)
    X, names = StandardScaler().fit_transform(X), np.array(["a", "b", "c"], dtype=object)[y]
    ensemble = EnsembleClassifier(5, (16,), max_iter=20, random_state=3).fit(X, names)
    seeds = np.random.RandomState(3).randint(2**31 - 1, size=5)
    for mlp, seed, rows in zip(ensemble.mlps_, seeds, ensemble.rows_, strict=True):
        own = cr.MLP([13, 16, 3], loss="cross_entropy", dtype="float64", seed=int(seed))
        left_out = np.setdiff1d(np.arange(len(X)), rows)
        own.fit(X[rows], y[rows], epochs=20, batch_size=178, validation=(X[left_out], y[left_out]), patience=10)
        assert same_bits(mlp.parameters, own.parameters)
    each = np.stack([mlp.predict(X) for mlp in ensemble.mlps_])
    mean, std = ensemble.predict_proba(X, return_std=True)
    assert same_bits(mean, each.mean(axis=0))
    assert same_bits(std, each.std(axis=0))
    assert same_bits(ensemble.predict_proba(X), mean)
    assert same_bits(ensemble.predict_log_proba(X), np.log(mean))
    assert list(ensemble.classes_) == ["a", "b", "c"]
    assert (ensemble.predict(X) == ensemble.classes_[mean.argmax(axis=1)]).all()
    assert cross_val_score(make_pipeline(StandardScaler(), EnsembleClassifier(5, random_state=0)), X, y).mean() > 0.95


def test_classes_that_samples_lack():
    X, y = load_wine(return_X_y=True)
    rare = np.where(np.arange(len(y)) < 2, 7, y).astype(np.int8)
    ensemble = EnsembleClassifier(8, (4,), max_iter=2, random_state=0).fit(X.astype(np.float32), rare)
    assert any(7 not in rare[rows] for rows in ensemble.rows_)
    probability = ensemble.predict_proba(X.astype(np.float32))
    assert (probability.shape, probability.dtype) == ((178, 4), np.float32)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)
    assert ensemble.predict(X).dtype == np.int8
    one = EnsembleClassifier(2, (4,), max_iter=2).fit(X, ["same"] * 178)
    assert set(one.predict(X)) == {"same"}
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        EnsembleClassifier(2).fit(X, X[:, 0])


def test_one_sample_leaves_none_out():
    assert EnsembleRegressor(2, (3,), max_iter=2, random_state=0).fit([[1.0]], [2.0]).predict([[1.0]]).shape == (1,)


def test_wrong_settings():
    X, y = data(20)
    with pytest.raises(InvalidParameterError, match="n_estimators"):
        EnsembleRegressor(0).fit(X, y)
    with pytest.raises(ValueError, match="hidden_layer_sizes must be > 0"):
        EnsembleRegressor(2, (3, 0)).fit(X, y)


def test_a_failed_fit_leaves_the_ensemble_as_it_was():
    X, y = data(20)
    frame = pd.DataFrame(X, columns=["a", "b"])
    settings = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
    for ensemble, targets in (
        (EnsembleRegressor(2, **settings), (y, np.c_[y, y])),
        (EnsembleClassifier(2, **settings), (y > 0, np.arange(20))),
    ):
        ensemble.fit(frame, targets[0]).set_params(solver=cr.SGD(lr=1e300))
        before = dict(vars(ensemble))
        with pytest.raises(FloatingPointError):
            ensemble.fit(100 * X[:, :1], targets[1])
        assert all(vars(ensemble)[name] is value for name, value in before.items())
        assert vars(ensemble).keys() == before.keys()


def test_any_number_of_epochs():
    X, y = data(20)
    ensemble = EnsembleRegressor(2, (3,), solver=cr.SGD(lr=0.0), max_iter=10**30, n_iter_no_change=1, random_state=0)
    assert ensemble.fit(X, y).n_iter_ == 2
    assert ensemble.set_params(max_iter=3, n_iter_no_change=10**30, batch_size=10**30).fit(X, y).n_iter_ == 3


def test_a_column_of_targets_is_taken_as_one_output():
    X, y = data(20)
    with pytest.warns(DataConversionWarning):
        column = EnsembleRegressor(2, (3,), max_iter=2, random_state=0).fit(X, y[:, np.newaxis])
    assert same_bits(column.predict(X), EnsembleRegressor(2, (3,), max_iter=2, random_state=0).fit(X, y).predict(X))
