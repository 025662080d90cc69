"""What the estimators can do that scikit-learn's cannot."""

import pickle
import warnings

import numpy as np
import pytest
from helpers import Recorder, state
from nets import few_samples

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

import sklearn.neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import StrOptions

import chainrule as cr
from chainrule.optimizers import OPTIMIZERS
from chainrule.sklearn import EnsembleRegressor, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def regression():
    X, y = load_diabetes(return_X_y=True)
    return X * 20, (y - 150) / 70


@pytest.fixture(scope="module")
def classes():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


FEW = {"max_iter": 10, "random_state": 0}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weights_are_sample_weights(classes, solver):
    X, y = classes
    weighted = MLPClassifier(class_weight={0: 5.0, 1: 0.5}, solver=solver, **FEW).fit(X, y)
    given = MLPClassifier(solver=solver, **FEW).fit(X, y, sample_weight=np.where(y == 0, 5.0, 0.5))
    np.testing.assert_array_equal(weighted.mlp_.parameters, given.mlp_.parameters)
    balanced = MLPClassifier(class_weight="balanced", **FEW)
    assert (
        balanced.fit(X, y).predict_proba(X)[:, 0].mean() > MLPClassifier(**FEW).fit(X, y).predict_proba(X)[:, 0].mean()
    )
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        clone(balanced).partial_fit(X, y, classes=[0, 1])


def test_class_weights_of_a_batch_without_some_of_the_classes(classes):
    X, y = classes
    weighted = MLPClassifier(class_weight={0: 5.0, 2: 3.0}, **FEW).partial_fit(X, y, classes=[0, 1, 2])
    given = MLPClassifier(**FEW).partial_fit(X, y, np.where(y == 0, 5.0, 1.0), classes=[0, 1, 2])
    np.testing.assert_array_equal(weighted.mlp_.parameters, given.mlp_.parameters)
    with pytest.raises(ValueError, match=r"classes, \[1\], are not in class_weight"):
        MLPClassifier(class_weight={0: 5.0, 2: 3.0}, **FEW).fit(X, y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({0: -1.0, 1: 1.0}, r"class_weight is \{0: -1.0, 1: 1.0\} \(dict\); expected finite weights >= 0"),
        ({0: np.inf, 1: 1.0}, r"class_weight is .*; expected finite weights >= 0"),
        ({0: 0.0, 1: 0.0}, r"class_weight is .*, which leaves no sample with a weight > 0"),
        ({0: 0.0}, r"class_weight is .*, which leaves no sample with a weight > 0"),
    ],
)
def test_wrong_class_weights_are_named(classes, weights, message):
    X, y = classes
    with pytest.raises(ValueError, match=message):
        MLPClassifier(class_weight=weights, **FEW).fit(X, y, sample_weight=y == 0 if len(weights) == 1 else None)


def test_activations_of_the_core_layer_by_layer(regression):
    fitted = MLPRegressor(hidden_layer_sizes=(8, 6), activation=["gelu", cr.LeakyReLU(0.2)], **FEW).fit(*regression)
    assert [activation.name for activation in fitted.mlp_.hidden_activations] == ["gelu", "leaky_relu"]
    with pytest.raises(ValueError, match=r"^activation has 1 entries; expected 2"):
        MLPRegressor(hidden_layer_sizes=(8, 6), activation=["gelu"], **FEW).fit(*regression)
    linear = [
        MLPRegressor(hidden_layer_sizes=(), activation=of_none, **FEW).fit(*regression) for of_none in ([], "relu")
    ]
    np.testing.assert_array_equal(linear[0].coefs_[0], linear[1].coefs_[0])


@pytest.mark.parametrize("loss", ["mae", "huber", cr.Huber(0.3), "mse", "quantile"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_of_the_core(regression, loss, solver):
    X, y = regression
    fitted = MLPRegressor(loss, solver=solver, random_state=0, alpha=0, max_iter=30).fit(X, y)
    assert fitted.loss_curve_[-1] < 0.8 * fitted.loss_curve_[0]
    assert fitted.loss_ == pytest.approx(fitted.mlp_.evaluate(X, y), rel=0.1)


def test_several_quantiles_at_once_are_an_interval(regression):
    X, y = regression
    quantiles = [0.1, 0.5, 0.9]
    fitted = MLPRegressor(cr.Quantile(quantiles), (20,), random_state=0, max_iter=300, learning_rate_init=0.01).fit(
        X, y
    )
    predicted = fitted.predict(X)
    assert predicted.shape == (len(X), 3)
    for q, tau in enumerate(quantiles):
        assert np.mean(y <= predicted[:, q]) == pytest.approx(tau, abs=0.06)
    assert 0 < fitted.score(X, y) < 1
    two = MLPRegressor(cr.Quantile(quantiles), early_stopping=True, **FEW).fit(X, np.c_[y, -y])
    assert two.predict(X).shape == (len(X), 2, 3)
    assert np.isfinite(two.validation_scores_).all()


def test_the_masks_of_dropout_follow_random_state(regression):
    X, y = regression

    def fitted(random_state, dtype="float64"):
        model = MLPRegressor(hidden_layer_sizes=(20,), dropout=0.5, max_iter=2, random_state=random_state, dtype=dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            return model.fit(X, y)

    seeds = {fitted(k).mlp_.seed for k in range(20)}
    assert len(seeds) == 20
    assert fitted(3).mlp_.seed == fitted(3, "float32").mlp_.seed in seeds
    assert np.array_equal(fitted(3).predict(X), fitted(3).predict(X))


def test_dropout_regularises_training_alone(regression):
    X, y = regression
    fitted = MLPRegressor(hidden_layer_sizes=(50, 50), dropout=[0.5, 0.2], random_state=0, max_iter=100).fit(X, y)
    assert fitted.mlp_.dropout == (0.5, 0.2)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(X))
    plain = MLPRegressor(hidden_layer_sizes=(50, 50), random_state=0, max_iter=100).fit(X, y)
    assert fitted.loss_ > plain.loss_


@pytest.mark.parametrize(
    "solver", ["adamw", "rmsprop", cr.AdamW(lr=0.01, weight_decay=0.1), cr.SGD(lr=0.1, momentum=0.5)]
)
def test_optimizers_of_the_core(regression, solver):
    fitted = MLPRegressor(solver=solver, learning_rate_init=0.01, max_iter=50, random_state=0)
    again = clone(fitted).fit(*regression)
    fitted.fit(*regression)
    assert fitted.loss_curve_[-1] < 0.8 * fitted.loss_curve_[0]
    assert fitted.loss_curve_ == again.loss_curve_
    if isinstance(solver, cr.SGD):
        assert solver.t == 0


@pytest.mark.parametrize("learning_rate", ["cosine", "one_cycle", cr.StepDecay(step_size=3, gamma=0.5)])
def test_schedules_of_the_core(regression, learning_rate):
    rates = []
    MLPRegressor(learning_rate=learning_rate, callbacks=[lambda report: rates.append(report.lr)], **FEW).fit(
        *regression
    )
    assert len(rates) == 10
    assert len(set(rates)) > 2
    with pytest.raises(ValueError, match="partial_fit supports learning_rate in"):
        MLPRegressor(learning_rate=learning_rate, **FEW).partial_fit(*regression)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dropout", {"dropout": [0.5]}),
        ("clip_norm", {"clip_norm": 1.0}),
    ],
)
def test_what_lbfgs_cannot_do(regression, name, settings):
    with pytest.raises(ValueError, match=f"{name} needs a stochastic solver; solver is 'lbfgs'"):
        MLPRegressor(solver="lbfgs", **settings).fit(*regression)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_the_validation_curve_of_lbfgs(regression, loss):
    X, y = regression[0], np.abs(regression[1])
    seen = []
    model = MLPRegressor(loss, (5,), solver="lbfgs", max_iter=8, random_state=0, tol=1e-9)
    model.callbacks = lambda report: seen.append(report.validation_loss)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y, validation_set=(X, y))
    assert model.validation_curve_ == seen and len(seen) == len(model.loss_curve_) == 8
    penalty = 0.5 * model.alpha * sum(float((W * W).sum()) for W in model.coefs_) / len(X)
    assert model.validation_curve_[-1] == pytest.approx(model.loss_curve_[-1] - penalty, rel=1e-12)


def test_absolute_error_is_mae(regression):
    both = [MLPRegressor(loss, (5,), **FEW).fit(*regression) for loss in ("absolute_error", "mae")]
    assert both[0].loss_curve_ == both[1].loss_curve_


def test_text_and_dates_are_no_targets(regression):
    X, y = regression
    for targets in (y.astype(str), ["a"] * len(X), np.full(len(X), "NaT", "M8[s]"), np.ones(len(X), "m8[s]")):
        for regressor in (sklearn.neural_network.MLPRegressor, MLPRegressor):
            with pytest.raises(TypeError):
                regressor().fit(X, targets)
        with pytest.raises(TypeError, match=r"y has dtype .*; expected real numbers"):
            EnsembleRegressor().fit(X, targets)


@pytest.mark.parametrize(("dtype", "error"), [("U8", ValueError), ("S8", ValueError), ("M8[s]", TypeError)])
def test_text_and_dates_are_no_inputs_of_predict(regression, dtype, error):
    X, y = regression
    for estimator in (
        sklearn.neural_network.MLPRegressor(**FEW),
        MLPRegressor(**FEW),
        EnsembleRegressor(2, max_iter=2),
    ):
        with pytest.raises(error):
            estimator.fit(X, y).predict(np.ones(X.shape, int).astype(dtype))


def test_lbfgs_does_not_depend_on_the_type_of_alpha(regression):
    fits = [
        MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs", alpha=alpha, max_iter=20, random_state=0).fit(*regression)
        for alpha in (1.0, np.float32(1), np.float16(1))
    ]
    assert fits[0].loss_curve_ == fits[1].loss_curve_ == fits[2].loss_curve_
    assert type(fits[2].loss_) is float


def test_gradient_flow_is_made_at_the_first_look(regression):
    X, y = regression
    fitted = MLPRegressor(hidden_layer_sizes=(5,), **FEW)
    with pytest.raises(AttributeError, match="there is no gradient_flow_; call fit before"):
        _ = fitted.gradient_flow_
    weight = np.arange(len(X)) % 2
    fitted.fit(X, y, weight)
    twin = pickle.loads(pickle.dumps(fitted))
    fitted.mlp_.forward(X[:200])
    fitted.mlp_.backward(y[:200], weight[:200])
    expected = fitted.mlp_.gradient_flow().to_dict()
    assert fitted.gradient_flow_.to_dict() == twin.gradient_flow_.to_dict() == expected
    assert fitted.fit(X, -y).gradient_flow_.to_dict() != expected
    assert X[0].tobytes() not in pickle.dumps(fitted)


def test_gradient_flow_leaves_the_network_alone_and_is_of_the_last_fit(regression):
    X, y = regression
    fitted = MLPRegressor(hidden_layer_sizes=(5,), **FEW).fit(X, y)
    fitted.mlp_.forward(X[:3])
    before = state(fitted.mlp_)
    pickle.dumps(fitted)
    assert "gradient_flow_" not in vars(fitted)
    fitted.gradient_flow_.diagnose()
    assert state(fitted.mlp_) == before
    fitted.partial_fit(X, y)
    assert not hasattr(fitted, "gradient_flow_")
    assert not hasattr(pickle.loads(pickle.dumps(fitted)), "gradient_flow_")


def test_pickling_never_fails(regression):
    X, y = regression
    fitted = MLPRegressor(hidden_layer_sizes=(5,), **FEW).fit(X, y)
    fitted.set_params(early_stopping=True)
    with pytest.raises(ValueError, match="validation set is too small"):
        fitted.fit(X[:5, :3], y[:5])
    pickle.dumps(fitted)
    fitted.fit(X, y, validation_set=(X[:9], y[:9]))
    fitted.mlp_.parameters[:] = np.inf
    pickle.dumps(fitted)
    fitted.mlp_ = cr.MLP([3, 1])
    assert not hasattr(pickle.loads(pickle.dumps(fitted)), "gradient_flow_")


def test_settings_of_the_core_are_shown_and_cloned():
    settings = {
        "loss": cr.Quantile([0.1, 0.9]),
        "activation": [cr.LeakyReLU(0.2), cr.MLP([1, 1, 1]).hidden_activations[0]],
        "solver": cr.SGD(lr=0.1),
        "learning_rate": cr.StepDecay(step_size=3),
    }
    shown = "".join(repr(clone(MLPRegressor(**settings))).split())
    for value in (settings["loss"], *settings["activation"], settings["solver"], settings["learning_rate"]):
        assert "".join(repr(value).split()) in shown


def test_clipping_bounds_what_an_outlier_does(regression):
    X, y = regression
    wild = y.copy()
    wild[0] = 1e4
    settings = {"solver": "sgd", "momentum": 0, "shuffle": False, "alpha": 0, "batch_size": 442, "max_iter": 1}
    start = MLPRegressor(random_state=0, **{**settings, "learning_rate_init": 1e-30}).fit(X, y).mlp_.parameters
    for clip_norm in (0.5, 2.0):
        fitted = MLPRegressor(random_state=0, clip_norm=clip_norm, learning_rate_init=0.1, **settings).fit(X, wild)
        assert np.linalg.norm(fitted.mlp_.parameters - start) == pytest.approx(0.1 * clip_norm, rel=1e-3)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_a_validation_set_of_ones_own(regression, loss):
    X, y = regression
    y = np.exp(y) if loss == "poisson" else y
    fitted = MLPRegressor(loss, alpha=0, **FEW).fit(X[:300], y[:300], validation_set=(X[300:], y[300:]))
    a = fitted.predict(X[300:])
    target = y[300:]
    expected = 0.5 * np.mean((a - target) ** 2)
    if loss == "poisson":
        expected = np.mean(target * np.log(target / a) - target + a)
    assert len(fitted.validation_curve_) == 10
    assert fitted.validation_curve_[-1] == pytest.approx(expected)
    assert fitted.validation_scores_ is None
    alone = MLPRegressor(loss, alpha=0, **FEW).fit(X[:300], y[:300])
    np.testing.assert_array_equal(fitted.mlp_.parameters, alone.mlp_.parameters)


def test_early_stopping_watches_the_given_validation_set():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    train, held_out = order[:100], order[100:]
    names = np.array(["a", "b", "c"])[y]
    fitted = MLPClassifier(early_stopping=True, random_state=0, max_iter=60, learning_rate_init=0.01)
    fitted.fit(X[train], names[train], validation_set=(X[held_out], names[held_out]))
    assert fitted.score(X[held_out], names[held_out]) == fitted.best_validation_score_
    assert fitted.t_ == 100 * fitted.n_iter_
    with pytest.raises(ValueError, match="y holds 'z', which is not in classes_"):
        fitted.fit(X, names, validation_set=(X[:1], ["z"]))
    with pytest.raises(ValueError, match="validation_set has to be a tuple"):
        fitted.fit(X, names, validation_set=X)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("fitted_to", "given", "message"),
    [
        ("classes", "labels", "not fitted with multilabel input"),
        ("two classes", "labels", "not fitted with multilabel input"),
        ("labels", "classes", r"one class a sample; expected zeros and ones of shape \(n, 3\)"),
        ("names", "other names", "y holds 'Yes', which is not in classes_: \\['no' 'yes'\\]"),
        ("one class", "two classes", "y holds 1, which is not in classes_"),
        ("classes", "more classes", "y holds 3, which is not in classes_"),
    ],
)
def test_validation_labels_of_another_kind(fitted_to, given, message, early_stopping):
    X, y = load_iris(return_X_y=True)
    targets = {
        "classes": y,
        "more classes": y + 1,
        "two classes": y % 2,
        "one class": 0 * y,
        "labels": np.c_[y == 0, y > 0, y < 2].astype(int),
        "names": np.array(["no", "yes"])[y % 2],
        "other names": np.array(["no", "Yes"])[y % 2],
    }
    with pytest.raises(ValueError, match=message):
        MLPClassifier(early_stopping=early_stopping, **FEW).fit(
            X, targets[fitted_to], validation_set=(X, targets[given])
        )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_settings_of_the_network_may_change_between_fits(regression, method):
    X, y = regression
    fitted = MLPRegressor(hidden_layer_sizes=(5,), warm_start=True, **{**FEW, "max_iter": 1}).fit(X, y)
    optimizer, epochs, start = fitted._optimizer, fitted.mlp_._model.epochs_trained, fitted.mlp_.parameters.copy()
    fitted.set_params(activation="tanh", loss="huber", dropout=0.25, learning_rate_init=1e-30)
    getattr(fitted, method)(X, y)
    mlp = fitted.mlp_
    assert [mlp.hidden_activations[0].name, mlp.loss.name, mlp.dropout] == ["tanh", "huber", (0.25,)]
    assert mlp._model.epochs_trained == epochs + 1
    if method == "partial_fit":  # goes on with the moments, and the rate, that it has
        assert fitted._optimizer.t == optimizer.t + 3
    else:
        np.testing.assert_array_equal(mlp.parameters, start)
    getattr(fitted, method)(X, y)
    assert fitted.mlp_ is mlp
    fitted.set_params(loss=cr.Quantile([0.1, 0.9]))
    with pytest.raises(ValueError, match=r"loss is .*0\.9.*, which takes 2 outputs here; the network has 1"):
        getattr(fitted, method)(X, y)


def test_an_activation_that_changes_between_fits_is_scikit_learns(classes):
    theirs, ours = (
        module.MLPClassifier((5,), warm_start=True, shuffle=False, **FEW)
        .fit(*classes)
        .set_params(activation="logistic")
        .fit(*classes)
        for module in (sklearn.neural_network, cr.sklearn)
    )
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0, atol=1e-10)


def raises_in_the_third_epoch(report):
    if report.epoch == 3:
        raise ValueError("a callback")


def failing_calls():
    X, y = load_iris(return_X_y=True)
    two, labels = y % 2, np.c_[y == 0, y > 0].astype(int)
    short = {"activation": ["relu", "tanh"]}  # for one hidden layer
    fit = {"X": X, "y": y}

    def raises(report):
        raise ValueError("a callback")

    return {  # the estimator, what it was fitted to, parameters set since, the call and its arguments
        "other classes": (MLPClassifier, two, short, "fit", fit),
        "other columns": (MLPClassifier, y, {"dropout": [0.1, 0.2]}, "fit", {"X": X[:, :2], "y": two}),
        "labels after classes": (MLPClassifier, y, short, "fit", {"X": X, "y": labels}),
        "validation set": (MLPClassifier, y, {}, "fit", {**fit, "validation_set": (X, y + 1)}),
        "validation columns": (MLPClassifier, y, {}, "fit", {**fit, "validation_set": (X[:, :2], y)}),
        "held-out rows": (MLPClassifier, y, {"early_stopping": True}, "fit", {"X": X[:5], "y": two[:5]}),
        "sample weights": (MLPClassifier, two, {}, "fit", {**fit, "sample_weight": np.where(y == 2, -1.0, 1.0)}),
        "first partial_fit": (
            MLPClassifier,
            None,
            {"learning_rate": "cosine"},
            "partial_fit",
            {**fit, "classes": [0, 1, 2]},
        ),
        "schedule": (MLPClassifier, y, {"learning_rate": "cosine"}, "partial_fit", fit),
        "unknown class": (MLPClassifier, y, {}, "partial_fit", {"X": X, "y": y + 1}),
        "other outputs": (MLPRegressor, y, {}, "partial_fit", {"X": X, "y": labels}),
        "other outputs, warm": (MLPRegressor, y, {"warm_start": True}, "fit", {"X": X, "y": labels}),
        "counts": (MLPRegressor, labels, {"loss": "poisson"}, "fit", {"X": X, "y": -y}),
        "divergence": (
            MLPRegressor,
            labels,
            {"solver": "sgd", "learning_rate_init": 1e9},
            "fit",
            {"X": X, "y": 1e9 * y},
        ),
        "callback": (MLPRegressor, y, {"callbacks": [raises]}, "fit", {"X": X, "y": labels}),
        "divergence, warm": (
            MLPRegressor,
            y,
            {"solver": "sgd", "learning_rate_init": 1e9, "batch_size": 10, "warm_start": True},
            "fit",
            fit,
        ),
        "third epoch of another activation, warm": (
            MLPRegressor,
            y,
            {"callbacks": [raises_in_the_third_epoch], "warm_start": True, "activation": "tanh"},
            "fit",
            {**fit, "validation_set": (X, y)},
        ),
        "callback of lbfgs, warm": (
            MLPRegressor,
            y,
            {"callbacks": [raises], "warm_start": True, "solver": "lbfgs"},
            "fit",
            fit,
        ),
    }


@pytest.mark.parametrize("case", failing_calls())
def test_a_failed_call_leaves_the_estimator_as_it_was(case):
    kind, y, settings, method, arguments = failing_calls()[case]
    X, _ = load_iris(return_X_y=True)
    estimator = kind(hidden_layer_sizes=(5,), **FEW)
    if y is not None:
        estimator.fit(X, y)
    estimator.set_params(**settings)
    before = {name: pickle.dumps(value) for name, value in vars(estimator).items() if name != "callbacks"}
    with pytest.raises((ValueError, TypeError)):
        getattr(estimator, method)(**arguments)
    after = {name: pickle.dumps(value) for name, value in vars(estimator).items() if name != "callbacks"}
    assert after == before


def test_epochs_that_a_warm_start_has_done_are_kept(regression):
    fitted = MLPRegressor(warm_start=True, **FEW).fit(*regression).set_params(callbacks=[raises_in_the_third_epoch])
    with pytest.raises(ValueError, match="a callback"):
        fitted.fit(*regression)
    assert fitted.n_iter_ == 3
    assert len(fitted.loss_curve_) == 13


def test_one_row_to_validate_is_too_few_for_a_score(regression):
    X, y = regression
    one = (X[:1], y[:1])
    assert len(MLPRegressor(**FEW).fit(X, y, validation_set=one).validation_curve_) == 10
    with pytest.raises(ValueError, match="validation_set has one row; early_stopping needs two"):
        MLPRegressor(early_stopping=True, **FEW).fit(X, y, validation_set=one)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_see_each_epoch_and_may_stop(regression, solver):
    seen = []

    def callback(report):
        seen.append((report.epoch, report.loss))
        return report.epoch == 4

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = MLPRegressor(callbacks=[callback], solver=solver, random_state=0, max_iter=50).fit(*regression)
    assert seen == list(zip(range(1, 5), fitted.loss_curve_, strict=True))
    assert fitted.n_iter_ == 4


def test_number_of_threads_changes_no_bit_and_is_put_back(classes):
    before = cr.get_num_threads()
    fits = [MLPClassifier(n_threads=n, **FEW).fit(*classes) for n in (None, 1, 2)]
    assert cr.get_num_threads() == before
    for fitted in fits[1:]:
        np.testing.assert_array_equal(fitted.mlp_.parameters, fits[0].mlp_.parameters)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_scikit_learns_callbacks(regression, solver):
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks: its protocol is not checked")

    class Stopping(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            super().on_fit_task_end(estimator, context)
            if context.task_name == "epoch" and fitted_estimator is not None:
                self.events.append(fitted_estimator.predict(X).shape)
                return len([event for event in self.events if event == ("end", "epoch")]) == 3
            return False

    recorder = Stopping()
    events = recorder.events
    regressor = MLPRegressor(solver=solver, max_iter=20, random_state=0).set_callbacks(recorder)
    regressor.fit(*regression)
    assert regressor.n_iter_ == 3
    epoch = [("begin", "epoch"), ("end", "epoch"), (442,)]
    assert events[:11] == ["setup", ("begin", "fit"), *epoch * 3]
    assert events[-2:] == [("end", "fit"), "teardown"]
    assert events.count(("begin", "epoch")) == events.count(("end", "epoch"))


@pytest.mark.parametrize("settings", [{"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_scikit_learns_callbacks_get_what_was_given_and_in_the_end_what_is_kept(settings):
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks: its protocol is not checked")
    X, y = load_iris(return_X_y=True)
    names, weight, ends = np.array(["a", "b", "c"])[y], np.arange(150.0) + 1, []

    class Seeing(Recorder):
        def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
            if fitted_estimator is not None:
                parameters = fitted_estimator.mlp_.parameters.copy()
                ends.append((X, y, metadata["sample_weight"], parameters, fitted_estimator.n_iter_))

    weights = {"a": 3.0, "b": 1.0, "c": 1.0}
    classifier = MLPClassifier(class_weight=weights, learning_rate_init=0.02, random_state=0, max_iter=30, **settings)
    classifier.set_callbacks(Seeing())
    classifier.fit(X, names, sample_weight=weight)
    for X_seen, y_seen, weight_seen, _, _ in ends:
        rows = weight_seen.astype(int) - 1
        assert len(rows) == (135 if settings.get("early_stopping") else 150)
        np.testing.assert_array_equal(X_seen, X[rows])
        np.testing.assert_array_equal(y_seen, names[rows])
    np.testing.assert_array_equal(ends[-1][3], classifier.mlp_.parameters)
    assert ends[-1][4] == classifier.n_iter_
    if "early_stopping" in settings:
        assert not np.array_equal(ends[-1][3], ends[-2][3])


def test_scikit_learns_progress_bar_in_a_search(regression):
    callback = pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    pytest.importorskip("rich", reason="scikit-learn's progress bar needs rich")
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**FEW))
    search = GridSearchCV(pipeline, {"mlpregressor__alpha": [0.1]}, cv=2).set_callbacks(callback.ProgressBar())
    assert np.isfinite(search.fit(*regression).best_score_)


def test_a_solver_of_the_core_that_nothing_more_is_known_of_gets_the_learning_rate(regression, monkeypatch):
    class Mine(cr.SGD):
        pass

    monkeypatch.setitem(OPTIMIZERS, "mine", Mine)
    monkeypatch.setitem(MLPRegressor._parameter_constraints, "solver", [StrOptions({"mine"})])
    fitted = MLPRegressor(
        hidden_layer_sizes=(5,), solver="mine", learning_rate_init=0.01, max_iter=5, random_state=0
    ).fit(*regression)
    assert type(fitted._optimizer) is Mine and fitted._optimizer.lr == 0.01


def test_ctrl_c_in_an_estimator_keeps_what_was_learned():
    X, y = few_samples()

    def press(report):
        if report.epoch == 3:
            raise KeyboardInterrupt

    m = MLPRegressor(hidden_layer_sizes=(8,), random_state=0, max_iter=50, callbacks=[press])
    with pytest.warns(UserWarning, match="interrupted by user"):
        m.fit(X, y)
    assert m.n_iter_ == 3 and np.isfinite(m.predict(X)).all()


def test_an_equal_loss_counts_as_better_with_tol_0():
    X, y = few_samples()
    import sklearn.neural_network as sk

    settings = dict(
        hidden_layer_sizes=(4,),
        solver="sgd",
        learning_rate_init=1e-300,
        tol=0,
        n_iter_no_change=2,
        max_iter=8,
        shuffle=False,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (kind(**settings).fit(X, y) for kind in (MLPRegressor, sk.MLPRegressor))
    assert ours.n_iter_ == theirs.n_iter_ == 8


@pytest.mark.parametrize("seed", range(6))
def test_one_class_scores_1(seed):
    X, _ = few_samples()
    m = MLPClassifier(
        hidden_layer_sizes=(4,), early_stopping=True, max_iter=3, random_state=seed, learning_rate_init=1e-9
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m.fit(X, np.full(64, 7))
    assert m.validation_scores_ == [1.0] * 3 and set(m.predict(X)) == {7}
