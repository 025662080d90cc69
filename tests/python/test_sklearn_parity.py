"""Whatever is given, sense or nonsense: what scikit-learn's estimators make of it, and these make of it."""

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

import pandas as pd
import polars as pl
import scipy.sparse
import sklearn.neural_network
from sklearn.datasets import load_diabetes, load_iris
from sklearn.preprocessing import StandardScaler

import chainrule.sklearn

THEIRS, OURS = sklearn.neural_network, chainrule.sklearn
ESTIMATORS = ("MLPClassifier", "MLPRegressor")
SOLVERS = ("adam", "sgd", "lbfgs")
FEW = {"max_iter": 3, "random_state": 0}

X, CLASSES = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X)
NUMBERS = (load_diabetes().target[:150] - 150) / 70
LABELS = np.c_[CLASSES == 0, CLASSES == 1, CLASSES > 0].astype(int)
NAMES = np.array(["a", "b", "c"])[CLASSES]


def outcome(call):
    """What it returns, or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = error
    of_numpy = ("overflow encountered", "invalid value encountered", "divide by zero encountered")
    told = [(each.category, str(each.message)) for each in caught]
    return result, [each for each in told if not each[1].startswith(of_numpy)]


def both(call):
    """The outcomes of a call with the estimators of either module."""
    return outcome(lambda: call(THEIRS)), outcome(lambda: call(OURS))


def skip_where_scores_failed(theirs):
    if sklearn.__version__.startswith(("1.6.", "1.7.")) and "isnan" in str(theirs):
        pytest.skip(f"scikit-learn {sklearn.__version__} cannot stop early with such labels: nothing to compare with")


def assert_same(theirs, ours):
    """Equal results, to rounding, or errors of one type; and the same warnings."""
    (expected, expected_warnings), (found, found_warnings) = theirs, ours
    if isinstance(expected, Exception) or isinstance(found, Exception):
        # scikit-learn 1.7 lets np.average refuse weights that are zero throughout.
        types = (ValueError, ZeroDivisionError) if isinstance(expected, ZeroDivisionError) else (type(expected),)
        assert type(found) in types, (expected, found)
        return
    assert found_warnings == expected_warnings
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        if one.dtype.kind == "f":
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 if one.dtype == np.float32 else 1e-8)
        else:
            np.testing.assert_array_equal(other, one)


def predictions(estimator, given):
    arrays = [estimator.predict(given)]
    if hasattr(estimator, "predict_proba"):
        arrays += [estimator.predict_proba(given), estimator.predict_log_proba(given)]
    return [array.toarray() if scipy.sparse.issparse(array) else np.asarray(array) for array in arrays]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_signatures(name):
    one, other = getattr(THEIRS, name), getattr(OURS, name)
    for method in ("__init__", "fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score"):
        if not hasattr(one, method):
            continue
        theirs, ours = (list(inspect.signature(getattr(each, method)).parameters.values()) for each in (one, other))
        plain = [[(p.name, p.kind, p.default) for p in parameters] for parameters in (theirs, ours)]
        assert plain[1][: len(theirs)] == plain[0], method
    public = {member for member in dir(one) if not member.startswith("_")}
    assert public <= set(dir(other))


TARGETS = {
    "classes": ("MLPClassifier", CLASSES),
    "two classes": ("MLPClassifier", CLASSES == 0),
    "strings": ("MLPClassifier", NAMES),
    "objects": ("MLPClassifier", NAMES.astype(object)),
    "negative": ("MLPClassifier", (CLASSES - 1).astype(np.int8)),
    "floats": ("MLPClassifier", CLASSES.astype(float)),
    "column of classes": ("MLPClassifier", CLASSES[:, None]),
    "labels": ("MLPClassifier", LABELS),
    "labels of -1 and 1": ("MLPClassifier", 2 * LABELS - 1),
    "sparse labels": ("MLPClassifier", scipy.sparse.csr_matrix(LABELS)),
    "categories": ("MLPClassifier", pd.Series(NAMES, dtype="category")),
    "series": ("MLPClassifier", pl.Series(NAMES)),
    "numbers": ("MLPRegressor", NUMBERS),
    "integers": ("MLPRegressor", np.round(9 * NUMBERS).astype(int)),
    "column of numbers": ("MLPRegressor", NUMBERS[:, None]),
    "two numbers": ("MLPRegressor", np.c_[NUMBERS, -NUMBERS]),
    "counts": ("MLPRegressor", np.round(np.exp(NUMBERS))),
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("target", TARGETS)
def test_fitted_attributes_and_predictions(target, solver, early_stopping):
    name, y = TARGETS[target]
    settings = {**FEW, "solver": solver, "early_stopping": early_stopping}
    if target == "counts":
        settings["loss"] = "poisson"
    (theirs, their_warnings), (ours, our_warnings) = both(lambda m: getattr(m, name)(**settings).fit(X, y))
    skip_where_scores_failed(theirs)
    assert our_warnings == their_warnings
    fitted = {each for each in vars(theirs) if each.endswith("_")}
    own = {"mlp_", "validation_curve_", *(["loss_curve_"] if solver == "lbfgs" else [])}
    assert {*vars(ours), "coefs_", "intercepts_", "n_layers_", "out_activation_"} >= fitted
    assert {each for each in vars(ours) if each.endswith("_")} <= fitted | own
    for attribute in fitted:
        assert_alike(getattr(theirs, attribute), getattr(ours, attribute), attribute)
    assert_same((predictions(theirs, X), []), (predictions(ours, X), []))
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-9)


def assert_alike(theirs, ours, what):
    """Of one type and shape, and equal to rounding."""
    if isinstance(theirs, list):
        assert isinstance(ours, list), what
        assert len(ours) == len(theirs), what
        for one, other in zip(theirs, ours, strict=True):
            assert_alike(one, other, what)
        return
    assert isinstance(theirs, type(ours)), what  # scikit-learn's np.float64 is a float
    if isinstance(theirs, np.ndarray):
        assert_same(([theirs], []), ([ours], []))
    else:
        assert ours == (theirs if theirs is None or isinstance(theirs, str) else pytest.approx(theirs, abs=1e-9)), what


FORMS = {
    **{
        form: getattr(scipy.sparse, form)(np.where(abs(X) < 0.8, 0, X))
        for form in ("csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "csc_array", "coo_array", "lil_array")
    },
    "integers, sparse": scipy.sparse.csr_matrix(X.astype(int)),
    "objects": X.astype(object),
    "Fortran order": np.asfortranarray(X),
    "strides": np.repeat(X, 2, axis=1)[::-1, ::2],
    "booleans": X > 0,
    "lists": X.tolist(),
    "half precision": X.astype(np.float16),
    "big endian": X.astype(">f8"),
    "float32": X.astype(np.float32),
    "pandas": pd.DataFrame(X, columns=list("abcd")),
    "pandas, nullable": pd.DataFrame(X, columns=list("abcd")).astype("Float64"),
    "polars": pl.DataFrame(X, schema=list("abcd")),
}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_input(form, solver):
    if (form, solver) == ("float32", "lbfgs"):
        pytest.skip("scikit-learn turns float32 into float64 there")
    given = FORMS[form]
    assert_same(*both(lambda m: predictions(m.MLPClassifier(solver=solver, **FEW).fit(given, NAMES), given)))


BAD = {
    "hidden_layer_sizes": [0, -1, (5, 0), "a", None, 1.5, (2.5,), ((3,),), [], (), np.array([3, 2]), 4],
    "activation": ["x", None, 1],
    "solver": ["x", None],
    "alpha": [-1, "a", None, np.nan, np.inf, True, 10**400],
    "batch_size": [0, -1, 1.5, "x", None, 10**6, True],
    "learning_rate": ["x", None, 1],
    "learning_rate_init": [0, -1, "x", None, np.inf, np.nan],
    "power_t": [-1, "x"],
    "max_iter": [0, -1, 1.5, None, "x", np.int64(3)],
    "shuffle": ["x", None, 1, np.True_],
    "random_state": ["x", -1, 1.5, np.random.default_rng(0)],
    "tol": [-1, "x", None],
    "verbose": [-1, "x", None],
    "warm_start": ["x", None],
    "momentum": [-0.1, 1.1, "x", 1, 0],
    "nesterovs_momentum": ["x", None],
    "early_stopping": ["x", None],
    "validation_fraction": [-0.1, 1, 1.0, 0, 0.0, "x", 0.001, 0.99],
    "beta_1": [1, -0.1, "x", 0],
    "beta_2": [1, -0.1, "x", 0],
    "epsilon": [0, -1, "x"],
    "n_iter_no_change": [0, -1, 1.5, np.inf, "x"],
    "max_fun": [0, -1, 1.5, "x", 1],
}


def text(error):
    """What an error says, but for the values that this library takes besides."""
    return str(error).split(" must be a str among ")[0]


def test_every_parameter_has_bad_values_here():
    assert {*BAD, "loss"} == set(THEIRS.MLPRegressor().get_params())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("parameter", BAD)
def test_bad_parameters(parameter, name, solver):
    y = CLASSES if name == "MLPClassifier" else NUMBERS
    for value in BAD[parameter]:
        settings = {**FEW, "solver": solver, "early_stopping": parameter == "validation_fraction", parameter: value}
        (theirs, their_warnings), (ours, our_warnings) = both(
            lambda m, settings=settings: getattr(m, name)(**settings).fit(X, y)
        )
        if isinstance(theirs, Exception):
            assert type(ours) is type(theirs), (value, theirs, ours)
            if parameter != "hidden_layer_sizes":  # where Python's own complaint comes from within
                assert text(ours) == text(theirs)
            elif isinstance(value, tuple):
                assert "hidden_layer_sizes" in str(ours)
        else:
            assert not isinstance(ours, Exception), (value, ours)
            assert our_warnings == their_warnings


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_epochs_than_any_integer_of_the_machine(solver):
    settings = {**FEW, "solver": solver, "max_iter": 10**30, "tol": 1.0, "n_iter_no_change": 1}
    assert_same(*both(lambda m: m.MLPClassifier(**settings).fit(X, CLASSES).coefs_))


def weights(kind):
    n = len(X)
    return {
        "half of zeros": (np.arange(n) % 2).astype(float),
        "integers": np.arange(n) % 3,
        "none of one class": (CLASSES > 0).astype(float),
        "mostly zeros": (np.arange(n) == 0).astype(float),
        "all zero": np.zeros(n),
        "NaN": np.full(n, np.nan),
        "a number": 2.0,
        "two dimensions": np.ones((n, 1)),
        "text": ["a"] * n,
        "too few": np.ones(3),
    }[kind]


KINDS_OF_WEIGHTS = (
    *("half of zeros", "integers", "none of one class", "mostly zeros", "all zero", "NaN", "a number"),
    *("two dimensions", "text", "too few"),
)


@pytest.mark.parametrize("kind", KINDS_OF_WEIGHTS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_sample_weights(name, kind):
    y, weight = (CLASSES if name == "MLPClassifier" else NUMBERS), weights(kind)
    first = {"classes": [0, 1, 2]} if name == "MLPClassifier" else {}
    for settings in ({**FEW, "solver": solver} for solver in SOLVERS):
        assert_same(*both(lambda m, settings=settings: getattr(m, name)(**settings).fit(X, y, weight).coefs_))
    assert_same(*both(lambda m: getattr(m, name)(**FEW).partial_fit(X, y, sample_weight=weight, **first).coefs_))
    assert_same(*both(lambda m: [np.array(getattr(m, name)(**FEW).fit(X, y).score(X, y, sample_weight=weight))]))
    stopping = {**FEW, "early_stopping": True}
    assert_same(*both(lambda m: [np.array(getattr(m, name)(**stopping).fit(X, y, weight).validation_scores_)]))


def nan():
    return np.where(X > 2, np.nan, X)


ODD = {
    "NaN": lambda m, s: m.MLPClassifier(**s).fit(nan(), CLASSES),
    "NaN, sparse": lambda m, s: m.MLPClassifier(**s).fit(scipy.sparse.csr_matrix(nan()), CLASSES),
    "NaN in predict": lambda m, s: m.MLPClassifier(**s).fit(X, CLASSES).predict(nan()),
    "infinity": lambda m, s: m.MLPRegressor(**s).fit(np.where(X > 2, np.inf, X), NUMBERS),
    "NaN in y": lambda m, s: m.MLPRegressor(**s).fit(X, np.where(NUMBERS > 1, np.nan, NUMBERS)),
    "infinity in y": lambda m, s: m.MLPRegressor(**s).fit(X, np.where(NUMBERS > 1, np.inf, NUMBERS)),
    "missing": lambda m, s: m.MLPRegressor(**s).fit(pd.DataFrame(X).astype("Float64").mask(X > 2), NUMBERS),
    "mixed types in X": lambda m, s: m.MLPClassifier(**s).fit([[1, "a"], [2, "b"]], [0, 1]),
    "mixed types in y": lambda m, s: m.MLPClassifier(**s).fit(X[:2], np.array([1, "a"], dtype=object)),
    "complex": lambda m, s: m.MLPClassifier(**s).fit(X + 1j, CLASSES),
    "one dimension": lambda m, s: m.MLPClassifier(**s).fit(X[:, 0], CLASSES),
    "three dimensions": lambda m, s: m.MLPClassifier(**s).fit(X[:, :, None], CLASSES),
    "no columns": lambda m, s: m.MLPClassifier(**s).fit(X[:, :0], CLASSES),
    "no y": lambda m, s: m.MLPClassifier(**s).fit(X, None),
    "continuous y": lambda m, s: m.MLPClassifier(**s).fit(X, NUMBERS),
    "two columns of classes": lambda m, s: m.MLPClassifier(**s).fit(X, np.c_[CLASSES, CLASSES]),
    "one sample": lambda m, s: predictions(m.MLPClassifier(**s).fit(X[:1], ["q"]), X),
    "one sample, regression": lambda m, s: predictions(m.MLPRegressor(**s).fit(X[:1], [3.0]), X),
    "sparse y": lambda m, s: predictions(m.MLPRegressor(**s).fit(X, scipy.sparse.csr_array(LABELS)), X),
    "one class": lambda m, s: predictions(m.MLPClassifier(**s).fit(X, ["q"] * len(X)), X),
    "more classes than samples": lambda m, s: predictions(
        m.MLPClassifier(**{**s, "solver": "adam"}).partial_fit(X[:3], [0, 1, 2], classes=range(50)), X
    ),
    "as many classes as samples": lambda m, s: predictions(m.MLPClassifier(**s).fit(X[:4], [1, 5, 2, 9]), X),
    "constant columns": lambda m, s: predictions(m.MLPRegressor(**s).fit(np.ones_like(X), NUMBERS), X),
    "one row to predict": lambda m, s: predictions(m.MLPClassifier(**s).fit(X, CLASSES), X[:1]),
    "no row to predict": lambda m, s: predictions(m.MLPClassifier(**s).fit(X, CLASSES), X[:0]),
    "one dimension to predict": lambda m, s: predictions(m.MLPClassifier(**s).fit(X, CLASSES), X[0]),
    "other columns to predict": lambda m, s: predictions(m.MLPClassifier(**s).fit(X, CLASSES), X[:, :3]),
    "other names": lambda m, s: predictions(
        m.MLPClassifier(**s).fit(FORMS["pandas"], CLASSES), FORMS["pandas"].rename(columns=str.upper)
    ),
    "names and none": lambda m, s: predictions(m.MLPClassifier(**s).fit(FORMS["pandas"], CLASSES), X),
    "huge numbers": lambda m, s: predictions(m.MLPRegressor(**{**s, "solver": "sgd"}).fit(X * 1e200, NUMBERS), X),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", ODD)
def test_odd_data(case, solver):
    assert_same(*both(lambda m: ODD[case](m, {**FEW, "solver": solver})))


def after(settings, *calls):
    """The network's weights and the curve after some calls, each (method, positional arguments, keywords)."""

    def run(module):
        estimator = module.MLPClassifier(**{**FEW, **settings})
        for method, arguments, keywords in calls:
            getattr(estimator, method)(*arguments, **keywords)
        return [*estimator.coefs_, np.array(estimator.loss_curve_)]

    return run


FIRST = ("partial_fit", (X, CLASSES), {"classes": [0, 1, 2]})
FIT, AGAIN = ("fit", (X, CLASSES), {}), ("partial_fit", (X, CLASSES), {})
COURSES = {
    "partial_fit": ({}, FIRST, AGAIN, AGAIN),
    "partial_fit by parts": ({}, ("partial_fit", (X[:9], CLASSES[:9]), {"classes": [0, 1, 2]}), AGAIN),
    "labels not seen at first": ({}, ("partial_fit", (X, CLASSES), {"classes": range(5)}), AGAIN),
    "no classes": ({}, AGAIN),
    "unseen class": ({}, FIRST, ("partial_fit", (X, CLASSES + 1), {})),
    "unseen class at once": ({}, ("partial_fit", (X, CLASSES), {"classes": [0, 1]})),
    "other classes": ({}, FIRST, ("partial_fit", (X, CLASSES), {"classes": [0, 1, 2, 3]})),
    "other columns": ({}, FIRST, ("partial_fit", (X[:, :2], CLASSES), {})),
    "fit, then partial_fit": ({}, FIT, AGAIN),
    "fit, then other classes": ({}, FIT, ("partial_fit", (X, CLASSES + 1), {})),
    "fit twice": ({}, FIT, FIT),
    "warm start": ({"warm_start": True}, FIT, FIT),
    "warm start, fewer classes": ({"warm_start": True}, FIT, ("fit", (X[:90], CLASSES[:90]), {})),
    "warm start, other columns": ({"warm_start": True}, FIT, ("fit", (X[:, :2], CLASSES), {})),
    "classes, then labels": ({}, FIT, ("partial_fit", (X, LABELS), {})),
    "two classes, then labels": ({}, ("fit", (X, CLASSES % 2), {}), ("partial_fit", (X, LABELS[:, :2]), {})),
    "warm start, classes, then labels": ({"warm_start": True}, FIT, ("fit", (X, LABELS), {})),
    "early stopping, partial_fit": ({"early_stopping": True}, FIRST),
    "lbfgs, partial_fit": ({"solver": "lbfgs"}, FIRST),
}


@pytest.mark.parametrize("course", COURSES)
def test_courses_of_calls(course):
    assert_same(*both(after(*COURSES[course])))


@pytest.mark.parametrize("settings", [{"solver": "adam"}, {"solver": "adam", "early_stopping": True}])
def test_goes_on_after_another_solver_or_without_early_stopping(settings):
    for before in ({"solver": "lbfgs"}, {"solver": "adam"}, {"solver": "adam", "early_stopping": True}):
        ours = OURS.MLPClassifier(warm_start=True, **{**FEW, **before})
        warm = outcome(lambda ours=ours: ours.fit(X, CLASSES).set_params(**settings).fit(X, CLASSES))[0]
        assert warm is ours
        assert (ours.validation_scores_ is None) == ("early_stopping" not in settings and not ours.early_stopping)
        assert len(ours.loss_curve_) == 6 or before["solver"] == "lbfgs"


def test_an_optimizer_goes_on_with_the_network_of_another_fit():
    def run(module):
        estimator = module.MLPClassifier(**FEW).fit(X, CLASSES)
        estimator.set_params(solver="lbfgs").fit(X, CLASSES)
        return estimator.set_params(solver="adam").partial_fit(X, CLASSES).coefs_

    assert_same(*both(run))


def test_partial_fit_of_a_regressor_by_lbfgs():
    def run(module):
        estimator = module.MLPRegressor(solver="lbfgs", early_stopping=True, **FEW)
        return [*estimator.partial_fit(X, NUMBERS).partial_fit(X, NUMBERS).coefs_, np.array(estimator.n_iter_)]

    assert_same(*both(run))


def test_goes_on_from_scikit_learns_lbfgs():
    fitted = outcome(lambda: THEIRS.MLPClassifier(solver="lbfgs", **FEW).fit(X, CLASSES))[0]
    ours = OURS.MLPClassifier.from_sklearn(fitted).set_params(solver="adam").partial_fit(X, CLASSES)
    assert len(ours.loss_curve_) == 1 and ours.loss_ == pytest.approx(fitted.loss_)


@pytest.mark.parametrize("seed", range(3))
def test_one_class_held_out_is_always_right(seed):
    settings = {**FEW, "random_state": seed, "early_stopping": True}
    theirs, ours = both(lambda m: m.MLPClassifier(**settings).fit(X, ["q"] * len(X)).validation_scores_)
    skip_where_scores_failed(theirs[0])
    assert ours[0] == theirs[0] == [1.0, 1.0, 1.0]


def test_what_is_documented_to_differ():
    """Saturated probabilities, which scikit-learn clips, and negative weights and counts, which are refused here."""
    settings = {**FEW, "hidden_layer_sizes": (), "learning_rate_init": 1e-9, "max_iter": 1, "alpha": 0}
    far, classes = 1e4 * X[:, :1], (X[:, 0] < 0).astype(int)
    theirs, ours = (each[0] for each in both(lambda m: m.MLPClassifier(**settings).fit(far, classes)))
    z = far @ ours.coefs_[0] + ours.intercepts_[0]
    assert ours.loss_ == pytest.approx(np.logaddexp(0, np.where(classes[:, None], -z, z)).mean(), rel=1e-4)
    assert theirs.loss_ < -np.log(np.finfo(float).eps) < ours.loss_
    (_, (error, _)) = both(lambda m: m.MLPClassifier(**FEW).fit(X, CLASSES, np.where(CLASSES, -1.0, 1.0)))
    assert isinstance(error, ValueError) and "sample_weight holds -1 at row 50" in str(error)
    (_, (error, _)) = both(lambda m: m.MLPRegressor("poisson", **FEW).fit(X, -CLASSES))
    assert isinstance(error, ValueError) and "y holds -1 at row 50" in str(error)
