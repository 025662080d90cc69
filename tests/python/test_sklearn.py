"""The scikit-learn estimators: drop-in, loss for loss, and in scikit-learn's own machinery."""

import copy
import inspect
import io
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

import joblib
import scipy.sparse
import sklearn.neural_network
from helpers import unreadable_annotations
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

import chainrule as cr
import chainrule.sklearn
from chainrule.sklearn import EnsembleClassifier, EnsembleRegressor, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def regression():
    X, y = load_diabetes(return_X_y=True)
    return X * 20, (y - 150) / 70


def digits(n=600):
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def problem(kind):
    """(the class's name, settings, X, y) of each kind of task."""
    X, y = regression()
    return {
        "multiclass": ("MLPClassifier", {}, *digits()),
        "binary": ("MLPClassifier", {"alpha": 0.1}, *cancer()),
        "multilabel": ("MLPClassifier", {}, X, np.c_[y > 0, y**2 > 1, y < -1].astype(int)),
        "regression": ("MLPRegressor", {"alpha": 1.0}, X, y),
        "multi-output": ("MLPRegressor", {}, X, np.c_[y, y**2, np.sin(y)]),
        "poisson": ("MLPRegressor", {"loss": "poisson"}, X, np.round(np.exp(y))),
        "poisson, two": ("MLPRegressor", {"loss": "poisson"}, X, np.round(np.exp(np.c_[y, -y]))),
    }[kind]


KINDS = ("multiclass", "binary", "multilabel", "regression", "multi-output", "poisson", "poisson, two")


def both(kind, **settings):
    """scikit-learn's estimator and this one, fitted to the same from the same random state."""
    name, own, X, y = problem(kind)
    settings = {"random_state": 3, "max_iter": 15, **own, **settings}
    modules = (sklearn.neural_network, cr.sklearn)
    return [getattr(module, name)(**settings).fit(X, y) for module in modules], X, y


def assert_same_course(theirs, ours, X, y):
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=0, abs=1e-10)
    if hasattr(theirs, "loss_curve_"):
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-10)
    for name in ("t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-7)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-6)


@parametrize_with_checks(
    [MLPClassifier(max_iter=100), MLPRegressor(max_iter=100), EnsembleClassifier(max_iter=100), EnsembleRegressor()]
)
def test_scikit_learns_own_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_losses_are_scikit_learns(kind, solver, shuffle):
    (theirs, ours), X, y = both(kind, solver=solver, shuffle=shuffle, batch_size=50)
    assert_same_course(theirs, ours, X, y)


def test_the_random_generator_is_left_as_scikit_learn_leaves_it():
    X, y = regression()
    generators = [np.random.RandomState(5) for _ in range(2)]
    for early_stopping in (True, False, False):  # each fit begins where the last has left it
        theirs, ours = (
            module.MLPRegressor(max_iter=3, random_state=generator, early_stopping=early_stopping).fit(X, y)
            for module, generator in zip((sklearn.neural_network, cr.sklearn), generators, strict=True)
        )
        assert_same_course(theirs, ours, X, y)
    np.testing.assert_equal(*(generator.get_state() for generator in generators))


@pytest.mark.parametrize("activation", ["logistic", "tanh"])
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_without_hidden_layers(kind, activation):
    (theirs, ours), X, y = both(kind, hidden_layer_sizes=(), activation=activation)
    assert_same_course(theirs, ours, X, y)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"learning_rate": "invscaling"}, {"learning_rate_init": 0.1}),
        ({"learning_rate": "invscaling"}, {"power_t": 2.0, "momentum": 0.1}),
        ({"learning_rate": "constant"}, {"learning_rate": "invscaling"}),
        ({"learning_rate": "adaptive", "tol": 1e3, "n_iter_no_change": 1}, {"learning_rate": "constant"}),
        ({"solver": "adam"}, {"solver": "sgd", "learning_rate": "invscaling"}),
    ],
    ids=str,
)
def test_partial_fit_keeps_the_optimizer_and_its_rate_that_it_began_with(before, after):
    X, y = regression()
    settings = {"solver": "sgd", "learning_rate_init": 0.01, "random_state": 0, "shuffle": False, **before}
    theirs, ours = (module.MLPRegressor(**settings) for module in (sklearn.neural_network, cr.sklearn))
    for epoch in range(8):
        if epoch == 3:
            theirs.set_params(**after)
            ours.set_params(**after)
        assert_same_course(theirs.partial_fit(X, y), ours.partial_fit(X, y), X, y)


def test_bools_are_numbers_as_for_scikit_learn():
    X, y = regression()
    settings = {"solver": "sgd", "learning_rate_init": True, "momentum": False, "max_iter": 3, "random_state": 0}
    theirs, ours = (module.MLPRegressor(**settings).fit(X / 9, y) for module in (sklearn.neural_network, cr.sklearn))
    assert_same_course(theirs, ours, X / 9, y)
    np.testing.assert_array_equal(clone(ours).set_params(n_threads=True).fit(X / 9, y).coefs_[0], ours.coefs_[0])


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_activations_are_scikit_learns(activation):
    (theirs, ours), X, y = both("regression", activation=activation, hidden_layer_sizes=(20, 10))
    assert_same_course(theirs, ours, X, y)


@pytest.mark.parametrize("nesterovs_momentum", [True, False])
@pytest.mark.parametrize("learning_rate", ["invscaling", "adaptive"])
def test_learning_rates_are_scikit_learns(learning_rate, nesterovs_momentum):
    settings = {"learning_rate": learning_rate, "nesterovs_momentum": nesterovs_momentum, "tol": 1e-2}
    (theirs, ours), X, y = both(
        "multiclass", solver="sgd", learning_rate_init=0.1, n_iter_no_change=1, max_iter=60, **settings
    )
    assert theirs.n_iter_ < 60
    assert_same_course(theirs, ours, X, y)


@pytest.mark.parametrize("kind", ["multiclass", "binary", "regression"])
def test_early_stopping_is_scikit_learns_and_restores_the_best_weights(kind):
    (theirs, ours), X, y = both(kind, early_stopping=True, learning_rate_init=0.02, n_iter_no_change=4, max_iter=60)
    assert_same_course(theirs, ours, X, y)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, atol=1e-9)
    assert ours.best_validation_score_ == max(ours.validation_scores_)
    assert ours.validation_scores_.index(ours.best_validation_score_) < ours.n_iter_ - 1
    assert ours.best_loss_ is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_early_stopping_keeps_the_best_epoch_of_a_training_that_diverges(activation):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = X @ [1, 2, 3, 4]
    settings = {"solver": "sgd", "learning_rate_init": 0.3, "early_stopping": True, "max_iter": 30, "random_state": 0}
    theirs, ours = (
        module.MLPRegressor(activation=activation, **settings) for module in (sklearn.neural_network, cr.sklearn)
    )
    theirs.fit(X, y)
    with pytest.warns(ConvergenceWarning, match="The training diverged and has ended: .* of the best epoch"):
        ours.fit(X, y)
    assert np.isnan(theirs.validation_scores_[-1])
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0])
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y))


@pytest.mark.parametrize("kind", ["multiclass", "binary", "multi-output"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_losses_with_sample_weights_are_scikit_learns(kind, shuffle):
    name, own, X, y = problem(kind)
    weight = np.arange(len(X)) % 3 + 0.5
    settings = {"shuffle": shuffle, "random_state": 3, "max_iter": 5, "batch_size": 70, "alpha": 1.0, **own}
    theirs, ours = (
        getattr(module, name)(**settings).fit(X, y, sample_weight=weight)
        for module in (sklearn.neural_network, cr.sklearn)
    )
    assert_same_course(theirs, ours, X, y)
    assert ours.score(X, y, weight) == pytest.approx(theirs.score(X, y, weight))


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_n_partial_fits_are_one_fit_of_n_epochs(solver, learning_rate):
    X, y = digits(300)
    patience = 2 if (solver, learning_rate) == ("sgd", "adaptive") else 10
    settings = {"solver": solver, "learning_rate": learning_rate, "n_iter_no_change": patience, "tol": 1.0}
    parts = MLPClassifier(max_iter=6, random_state=0, dropout=0.2, **settings)
    whole = clone(parts).fit(X, y)
    for _ in range(6):
        parts.partial_fit(X, y, classes=np.arange(10))
        parts = pickle.loads(pickle.dumps(parts))
    assert parts.loss_curve_ == whole.loss_curve_
    np.testing.assert_array_equal(parts.mlp_.parameters, whole.mlp_.parameters)


@pytest.mark.parametrize("pickled", [False, True])
def test_partial_fit_with_a_generator_draws_as_scikit_learns(pickled):
    X, y = regression()
    for generator in (np.random.RandomState(1), None):
        states = []
        for module in (sklearn.neural_network, cr.sklearn):
            np.random.seed(1)
            estimator = module.MLPRegressor(batch_size=50, random_state=copy.deepcopy(generator))
            for _ in range(3):
                estimator.partial_fit(X, y)
                if pickled:
                    estimator = pickle.loads(pickle.dumps(estimator))
            states.append((estimator, (estimator.random_state or np.random.mtrand._rand).get_state()))
        assert_same_course(states[0][0], states[1][0], X, y)
        np.testing.assert_equal(states[1][1], states[0][1])


def test_another_seed_begins_other_orders_for_partial_fit():
    X, y = regression()
    begun = MLPRegressor(batch_size=50, random_state=0).partial_fit(X, y)
    twins = [copy.deepcopy(begun).set_params(random_state=seed).partial_fit(X, y) for seed in (0, 1, 2, 1)]
    assert len({twin.loss_ for twin in twins}) == 3
    assert twins[1].loss_ == twins[3].loss_


def test_warm_start_goes_on_from_the_weights():
    X, y = regression()
    first = MLPRegressor(solver="sgd", momentum=0, shuffle=False, warm_start=True, max_iter=5, random_state=0)
    first.fit(X, y).fit(X, y)
    whole = clone(first).set_params(max_iter=10).fit(X, y)
    assert first.n_iter_ == 5
    assert len(first.loss_curve_) == 10
    np.testing.assert_array_equal(first.mlp_.parameters, whole.mlp_.parameters)
    cold = clone(first).set_params(warm_start=False).fit(X, y).fit(X, y)
    assert cold.loss_curve_ == whole.loss_curve_[:5]
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        MLPClassifier(warm_start=True, max_iter=2).fit(X, y > 0).fit(X, np.digitize(y, [-1, 1]))


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("max_iter", [1, 3])
def test_warm_starts_with_early_stopping_are_scikit_learns(kind, max_iter):
    name, own, X, y = problem(kind)
    settings = {"warm_start": True, "early_stopping": True, "n_iter_no_change": 4}
    theirs, ours = (
        getattr(module, name)(max_iter=max_iter, shuffle=False, random_state=3, **settings, **own)
        for module in (sklearn.neural_network, cr.sklearn)
    )
    best = []
    for _ in range(12):
        assert_same_course(theirs.fit(X, y), ours.fit(X, y), X, y)
        best.append(ours.best_validation_score_)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, atol=1e-9)
    assert kind == "regression" or len(set(best)) < len(best)  # some fits have brought nothing better, and are kept


def test_attributes_are_views_of_the_network():
    X, y = regression()
    fitted = MLPRegressor(max_iter=2).fit(X, y)
    assert all(np.shares_memory(W, fitted.mlp_.parameters) for W in (*fitted.coefs_, *fitted.intercepts_))
    fitted.coefs_[1][:] = 0
    assert np.ptp(fitted.predict(X)) == 0
    assert "layers.0.weight" in str(fitted.gradient_flow_)


def test_the_score_is_that_of_the_predictions_that_a_subclass_gives():
    class Clipped(MLPRegressor):
        def predict(self, X):
            return np.clip(super().predict(X), -0.1, 0.1)

    X, y = regression()
    fitted = Clipped(max_iter=20, random_state=0).fit(X, y)
    assert fitted.score(X, y) == r2_score(y, fitted.predict(X)) < 0.2


def test_weights_may_be_assigned():
    X, y = regression()
    fitted = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2, dtype="float32").fit(X, y)
    parameters = fitted.mlp_.parameters
    fitted.coefs_ = [np.full((10, 3), 2.0), [[1], [2], [3]]]
    fitted.intercepts_[-1] = [7.0]
    fitted.intercepts_[:1] = [np.arange(3)]
    assert parameters.tolist() == [2.0] * 30 + [0, 1, 2] + [1, 2, 3] + [7]
    square = MLPRegressor(hidden_layer_sizes=(3, 3, 3), max_iter=2).fit(X, y)
    first, second, third, last = [W.copy() for W in square.coefs_]
    square.coefs_ = [square.coefs_[0], square.coefs_[2], square.coefs_[1], square.coefs_[3]]
    for W, expected in zip(square.coefs_, (first, third, second, last), strict=True):
        np.testing.assert_array_equal(W, expected)
    before = parameters.copy()
    for name, wrong in {"coefs_": [np.zeros((10, 3))], "intercepts_": [np.zeros(3), np.zeros(2)]}.items():
        with pytest.raises(ValueError, match=rf"the arrays for {name} have the shapes .*; expected \[\((10, )?3"):
            setattr(fitted, name, wrong)
    with pytest.raises(ValueError, match=r"could not convert string"):
        fitted.coefs_ = [np.zeros((10, 3)), [["a"], ["b"], ["c"]]]
    np.testing.assert_array_equal(parameters, before)
    for twin in (pickle.loads(pickle.dumps(fitted.coefs_)), copy.deepcopy(fitted.coefs_)):
        assert type(twin) is list
        assert not np.shares_memory(twin[0], parameters)


def test_estimators_that_are_not_fitted_say_which_attribute_they_lack():
    for name in ("coefs_", "intercepts_", "n_layers_", "out_activation_"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(MLPRegressor(), name)


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_constructors_start_with_scikit_learns_parameters(estimator):
    theirs = getattr(sklearn.neural_network, estimator.__name__)().get_params()
    ours = estimator().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    assert estimator().loss == getattr(sklearn.neural_network, estimator.__name__)().loss


def test_labels_of_any_kind():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    fitted = MLPClassifier(random_state=0, max_iter=300).fit(X, names)
    assert list(fitted.classes_) == ["setosa", "versicolor", "virginica"]
    assert fitted.score(X, names) > 0.95
    assert set(fitted.predict(X)) <= set(names)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X))
    np.testing.assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("frames", ["pandas", "polars"])
def test_frames_and_feature_names(frames):
    package = pytest.importorskip(frames)
    X, y = load_iris(return_X_y=True)
    frame = package.DataFrame(dict(zip("abcd", X.T, strict=True)))
    fitted, theirs = (
        m.MLPClassifier(max_iter=5, random_state=0).fit(frame, y) for m in (cr.sklearn, sklearn.neural_network)
    )
    if frames == "pandas" or hasattr(theirs, "feature_names_in_"):  # 1.7 does not know those of today's polars
        assert list(fitted.feature_names_in_) == list(theirs.feature_names_in_) == list("abcd")
    plain = MLPClassifier(max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_array_equal(fitted.predict_proba(frame), plain.predict_proba(X))


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_input_gives_what_dense_input_gives(solver, form):
    X, y = digits(300)
    sparse = getattr(scipy.sparse, form)(X)
    settings = {"solver": solver, "max_iter": 5, "random_state": 0}
    one, other = MLPClassifier(**settings).fit(X, y), MLPClassifier(**settings).fit(sparse, y)
    np.testing.assert_allclose(one.mlp_.parameters, other.mlp_.parameters, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(sparse), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["multiclass", "multi-output"])
def test_inputs_that_are_mostly_zero_change_nothing(kind):
    name, own, X, y = problem(kind)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.9, 0, X)
    settings = {"shuffle": False, "random_state": 3, "max_iter": 15, **own}
    theirs, ours = (getattr(module, name)(**settings).fit(X, y) for module in (sklearn.neural_network, cr.sklearn))
    assert_same_course(theirs, ours, X, y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_input_is_never_dense_as_a_whole(solver, run_measured):
    code = f"""
import scipy.sparse
from chainrule.sklearn import MLPClassifier
columns = np.random.default_rng(0).integers(20_000, size=6000)
X = scipy.sparse.csr_array((np.ones(6000), columns, np.arange(0, 6001, 2)), shape=(3000, 20_000))  # dense: 480 MB
before = resident()
model = MLPClassifier((4,), max_iter=1, solver="{solver}", random_state=0).fit(X, np.arange(3000) % 2)
model.predict(X)
print(peak() - before < 150e6, peak() - before)
"""
    assert run_measured(code)[0] == "True"


def test_float32_throughout():
    X, y = digits(300)
    fitted = MLPClassifier(max_iter=5).fit(X.astype(np.float32), y)
    assert fitted.coefs_[0].dtype == fitted.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert MLPClassifier(max_iter=2, dtype="float32").fit(X, y).mlp_.dtype == np.float32
    assert MLPClassifier(max_iter=2).fit(X, y).mlp_.dtype == np.float64


def test_pipelines_searches_and_the_rest():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((20,), max_iter=80, learning_rate_init=0.01, random_state=0)
    )
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=3, n_jobs=2).fit(X, y)
    assert search.best_score_ > 0.9
    calibrated = CalibratedClassifierCV(pipeline, cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.9
    importance = permutation_importance(pipeline.fit(X, y), X, y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0


def test_sample_weights_are_routed():
    import sklearn

    X, y = regression()
    with sklearn.config_context(enable_metadata_routing=True):
        regressor = MLPRegressor(max_iter=5).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(regressor, {"alpha": [1e-4]}, cv=2).fit(X, y, sample_weight=np.ones(len(X)))
    assert np.isfinite(search.best_score_)


def test_fitted_models_survive_pickle_joblib_and_clone():
    X, y = regression()
    fitted = MLPRegressor(max_iter=5, random_state=0).fit(X, y)
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    for twin in (pickle.loads(pickle.dumps(fitted)), joblib.load(buffer)):
        np.testing.assert_array_equal(twin.predict(X), fitted.predict(X))
        assert np.shares_memory(twin.coefs_[0], twin.mlp_.parameters)
        twin.partial_fit(X, y)
    assert not hasattr(clone(fitted), "mlp_")


def test_warnings_are_scikit_learns():
    X, y = regression()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPRegressor(max_iter=2).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPRegressor(max_iter=2, solver="lbfgs").fit(X, y)
    with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger"):
        MLPRegressor(max_iter=2, batch_size=10_000).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPRegressor(max_iter=200, tol=10.0).fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MLPRegressor(max_iter=2, batch_size=10_000).fit(X, y)
    assert len(caught) == 2
    # as scikit-learn's own
    assert {warning.filename for warning in caught} == {inspect.getsourcefile(cr.sklearn.stochastic)}


def test_filters_by_scikit_learns_module_hold():
    X, y = regression()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        assert MLPRegressor(max_iter=2).fit(X, y).n_iter_ == 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_warning_that_is_an_error_leaves_what_was_trained(solver):
    X, y = regression()
    model, twin = (MLPRegressor(max_iter=2, solver=solver, random_state=0) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ConvergenceWarning):
            model.fit(X, y)
    np.testing.assert_array_equal(model.predict(X), twin.fit(X, y).predict(X))
    assert len(model.gradient_flow_.layers) == 2


def test_a_floating_point_error_of_a_callback_comes_out():
    def fails(report):
        raise FloatingPointError("mine")

    X, y = regression()
    for settings in ({}, {"early_stopping": True}):
        with pytest.raises(FloatingPointError, match="mine"):
            MLPRegressor(callbacks=[fails], **settings).fit(X, y)


def test_weights_below_the_normal_numbers_are_none():
    X, y = regression()
    X = X.astype("float32")
    tiny, zero = np.ones(len(y)), np.ones(len(y))
    tiny[:9], zero[:9] = 1e-40, 0
    models = [MLPRegressor(max_iter=3, random_state=0).fit(X, y, sample_weight=weight) for weight in (tiny, zero)]
    np.testing.assert_array_equal(*(model.predict(X) for model in models))
    with pytest.raises(ValueError, match="sample_weight holds -"):
        MLPRegressor().fit(X, y, sample_weight=-tiny)


def test_to_show_an_estimator_computes_nothing():
    X, y = regression()
    model = MLPRegressor(max_iter=2).fit(X, y)
    assert "coefs_" in model._repr_html_()
    assert "gradient_flow_" not in vars(model)


@pytest.mark.parametrize("verbose", [True, 10])
def test_verbose_prints_scikit_learns_lines(capsys, verbose):
    both("regression", verbose=verbose, max_iter=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[:3] == lines[3:]
    slow = {"learning_rate": "adaptive", "learning_rate_init": 4e-6, "n_iter_no_change": 1, "tol": 1.0}
    both("regression", verbose=verbose, solver="sgd", **slow)
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert lines[-1].endswith("Learning rate too small. Stopping.")
    MLPRegressor(max_iter=3, verbose=2).fit(*regression())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err


def bad_calls():
    X, y = regression()
    labels = np.digitize(y, [-0.5, 0.5])
    nan = X.copy()
    nan[3, 2] = np.nan
    classes = {"classes": [0, 1, 2]}

    def unseen(module):
        return module.MLPClassifier(max_iter=2).partial_fit(X, labels, **classes).partial_fit(X, labels + 1)

    return {
        "NaN": lambda m: m.MLPRegressor().fit(nan, y),
        "infinite y": lambda m: m.MLPRegressor().fit(X, np.where(y > 2, np.inf, y)),
        "text in X": lambda m: m.MLPRegressor().fit(np.array([["a"], ["b"]]), [1, 2]),
        "mixed types": lambda m: m.MLPClassifier().fit(np.array([[1, "a"], [2, "b"]], dtype=object), [1, 2]),
        "unseen classes": unseen,
        "no classes": lambda m: m.MLPClassifier().partial_fit(X, labels),
        "continuous labels": lambda m: m.MLPClassifier().fit(X, y),
        "several sets of classes": lambda m: m.MLPClassifier().fit(X, np.c_[labels, labels]),
        "another number of rows": lambda m: m.MLPRegressor().fit(X, y[:-1]),
        "another number of columns": lambda m: m.MLPRegressor(max_iter=2).fit(X, y).predict(X[:, :3]),
        "one row for validation": lambda m: m.MLPRegressor(early_stopping=True).fit(X[:5], y[:5]),
        "early stopping in parts": lambda m: m.MLPRegressor(early_stopping=True).partial_fit(X, y),
        "parts of lbfgs": lambda m: m.MLPClassifier(solver="lbfgs").partial_fit(X, labels, **classes),
        "no hidden units": lambda m: m.MLPRegressor((5, 0)).fit(X, y),
        "unknown activation": lambda m: m.MLPRegressor(activation="rellu").fit(X, y),
        "negative alpha": lambda m: m.MLPRegressor(alpha=-1).fit(X, y),
        "weights of another length": lambda m: m.MLPRegressor().fit(X, y, sample_weight=[1.0, 2.0]),
        "not fitted": lambda m: m.MLPRegressor().predict(X),
        "divergence": lambda m: m.MLPRegressor(solver="sgd", learning_rate_init=1e6).fit(X, y * 1e6),
        "no rows": lambda m: m.MLPRegressor().fit(X[:0], y[:0]),
    }


@pytest.mark.parametrize("case", bad_calls())
def test_errors_are_of_scikit_learns_type(case):
    call = bad_calls()[case]
    raised = []
    for module in (sklearn.neural_network, cr.sklearn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises((ValueError, TypeError, AttributeError)) as info:
                call(module)
        raised.append(info.type)
    assert issubclass(raised[1], raised[0])


def test_odd_data_gives_what_scikit_learn_gives():
    X, _ = regression()
    few = {"max_iter": 5, "random_state": 0}
    one_class = [m.MLPClassifier(**few).fit(X, np.ones(len(X))) for m in (sklearn.neural_network, cr.sklearn)]
    np.testing.assert_array_equal(one_class[0].predict(X), one_class[1].predict(X))
    assert one_class[0].predict_proba(X).shape == one_class[1].predict_proba(X).shape
    for n in (1, 3):  # one sample; as many classes as samples
        pair = [m.MLPClassifier(**few).fit(X[:n], np.arange(n)) for m in (sklearn.neural_network, cr.sklearn)]
        np.testing.assert_allclose(pair[0].predict_proba(X), pair[1].predict_proba(X), atol=1e-9)
    more = [
        m.MLPClassifier(**few).partial_fit(X[:3], [0, 1, 2], classes=range(50))
        for m in (sklearn.neural_network, cr.sklearn)
    ]
    np.testing.assert_allclose(more[0].predict_proba(X), more[1].predict_proba(X), atol=1e-9)


def test_samples_of_weight_zero_are_as_if_not_there():
    X, y = regression()
    weight = (np.arange(len(X)) % 2).astype(float)
    settings = {"max_iter": 10, "random_state": 0, "shuffle": False}
    weighted = MLPRegressor(batch_size=100, **settings).fit(X, y, sample_weight=weight)
    without = MLPRegressor(batch_size=50, **settings).fit(X[1::2], y[1::2])
    np.testing.assert_allclose(weighted.predict(X), without.predict(X), atol=1e-9)


def test_numbers_beyond_the_dtype_are_named():
    X, y = regression()
    fitted = MLPRegressor(max_iter=2, dtype="float32").fit(X, y)
    with pytest.raises(ValueError, match=r"too large for dtype\('float32'\)"):
        fitted.predict(np.full((1, 10), 1e39))


def test_any_bit_generator_gives_scikit_learns_weights():
    X, y = regression()
    theirs, ours = (
        module.MLPRegressor(max_iter=2, shuffle=False, random_state=np.random.RandomState(np.random.PCG64(0))).fit(X, y)
        for module in (sklearn.neural_network, cr.sklearn)
    )
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=0, atol=1e-9)


def test_not_fitted_yet():
    with pytest.raises(NotFittedError):
        MLPClassifier().predict([[1.0]])
    assert not hasattr(MLPClassifier(), "coefs_")
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 1.0),
        ("clip_norm", 0),
        ("n_threads", 0),
        ("dtype", "float16"),
        ("solver", "adagrad"),
        ("loss", "hinge"),
    ],
)
def test_bad_parameters_of_ones_own(name, value):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLPRegressor"):
        MLPRegressor(**{name: value}).fit(*regression())


def test_without_scikit_learn_the_error_names_the_extra():
    code = """
import sys
sys.modules["sklearn"] = None
import chainrule
try:
    import chainrule.sklearn
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "chainrule[sklearn]" in run.stdout


def test_annotations_can_be_read_at_run_time():
    assert unreadable_annotations(chainrule.sklearn) == []
