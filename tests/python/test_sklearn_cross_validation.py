"""Cross-validation with folds side by side: scikit-learn's scores, to the bit."""

import warnings

import numpy as np
import pytest
from helpers import Recorder
from nets import few_samples

pytest.importorskip("sklearn", reason="scikit-learn is not installed: cross-validation is not checked")

import pandas as pd
import scipy.sparse
from sklearn import model_selection
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import chainrule as cr
from chainrule.sklearn import MLPClassifier, MLPRegressor, cross_val_score

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def assert_same_scores(estimator, X, y, **settings):
    ours = cross_val_score(estimator, X, y, **settings)
    theirs = model_selection.cross_val_score(estimator, X, y, **settings)
    assert ours.tolist() == theirs.tolist()
    assert len(set(ours)) > 1
    return ours


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iter": 20},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 2, "max_iter": 40},
        {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.01},
        {"solver": "lbfgs", "max_iter": 5},
        {"dropout": 0.3, "class_weight": "balanced", "learning_rate": "cosine", "max_iter": 10, "n_threads": 2},
        {"dtype": "float32", "hidden_layer_sizes": (20, 10), "activation": ["gelu", "tanh"], "max_iter": 20},
        {"random_state": np.random.RandomState(1), "max_iter": 10},
    ],
)
def test_scores_are_those_of_fits_of_their_own(settings):
    X, y = load_wine(return_X_y=True)
    estimator = MLPClassifier(**{"random_state": 0, **settings})
    assert_same_scores(make_pipeline(StandardScaler(), estimator), X, y)
    assert not hasattr(estimator, "mlp_")


def test_splitters_groups_and_scorings():
    X, y = load_diabetes(return_X_y=True)
    regressor = MLPRegressor(hidden_layer_sizes=(10,), max_iter=20, learning_rate_init=0.01, random_state=0)
    for cv in (3, model_selection.ShuffleSplit(3, random_state=0), list(model_selection.KFold(3).split(X))):
        assert_same_scores(regressor, X, y / 100, cv=cv, scoring="neg_mean_absolute_error")
    groups = np.arange(len(X)) % 7
    assert_same_scores(regressor, X, np.c_[y, -y] / 100, cv=model_selection.LeaveOneGroupOut(), groups=groups)


def test_frames_and_sparse_input():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    estimator = MLPClassifier(max_iter=5, random_state=0)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    names = pd.Series(np.array(["a", "b", "c"])[y])
    columns = make_column_transformer((StandardScaler(), ["c0", "c3"]), remainder="passthrough")
    assert_same_scores(make_pipeline(columns, estimator), frame, names)
    assert_same_scores(estimator, scipy.sparse.csr_array(np.where(abs(X) < 1, 0, X)), y)


class Scaled(MLPClassifier):
    """Fits and predicts in units of its own."""

    def fit(self, X, y, **settings):
        self.mean_, self.std_ = X.mean(axis=0), X.std(axis=0)
        return super().fit((X - self.mean_) / self.std_, y, **settings)

    def predict(self, X):
        return super().predict((X - self.mean_) / self.std_)


class Halved(Pipeline):
    """Fits to every other sample."""

    def fit(self, X, y):
        return super().fit(X[::2], y[::2])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_subclass_is_fitted_by_its_own_fit(solver):
    X, y = load_wine(return_X_y=True)
    settings = {"solver": solver, "random_state": 0, "max_iter": 30}
    assert_same_scores(Scaled(**settings), X, y)
    steps = [("scaler", StandardScaler()), ("mlp", MLPClassifier(**settings))]
    halved, whole = (assert_same_scores(model, X, y) for model in (Halved(steps), Pipeline(steps)))
    assert halved.tolist() != whole.tolist()


def test_scikit_learns_callbacks_hear_of_every_fold_as_ever():
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks: its protocol is not checked")
    X, y = load_wine(return_X_y=True)
    heard = []
    for of in (cross_val_score, model_selection.cross_val_score):
        recorder = Recorder()
        of(MLPClassifier(max_iter=2, random_state=0).set_callbacks(recorder), X, y, cv=2)
        heard.append(recorder.events)
    assert heard[0] == heard[1]
    assert heard[0].count("teardown") == 2


def test_callbacks_see_subnormal_numbers():
    """A fold is trained as the kernels run, which take them for zero."""
    X, y = load_wine(return_X_y=True)
    seen = []

    def callback(report):
        seen.append(bool(np.float64(5e-324) > 0))

    cross_val_score(MLPClassifier(max_iter=2, callbacks=[callback]), X, y, cv=2)
    assert seen == [True] * 4


@pytest.mark.parametrize("threads", [1, 2])
def test_folds_that_do_not_converge_warn_as_ever(threads):
    X, y = load_wine(return_X_y=True)
    before = cr.get_num_threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cross_val_score(MLPClassifier(max_iter=2, n_threads=threads), X, y, cv=3)
    assert [warning.category for warning in caught] == [ConvergenceWarning] * 3
    assert cr.get_num_threads() == before


@pytest.mark.parametrize("score", [model_selection.cross_val_score, cross_val_score])
def test_folds_whose_fit_fails(score):
    X, y = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match=r"All the 5 fits failed(.|\n)*non-finite parameter weights"):
        score(MLPRegressor(solver="sgd", learning_rate_init=1e6, random_state=0), X * 1e6, y)

    folds = []

    def fails_in_the_second(report):
        folds.append(report.mlp)
        if len(set(map(id, folds))) == 2:
            raise KeyError("second")

    model = MLPClassifier(callbacks=[fails_in_the_second], max_iter=2, random_state=0, n_threads=1)
    with pytest.warns(FitFailedWarning, match=r"1 fits failed out of a total of 3(.|\n)*KeyError: 'second'"):
        scores = score(model, X, y, cv=3, error_score=-7)
    assert sorted(scores)[0] == -7 < sorted(scores)[1]
    folds.clear()
    with pytest.raises(KeyError, match="second"):
        score(model, X, y, cv=3, error_score="raise")


class Wide(MLPClassifier):
    """Has parameters of its own."""

    def __init__(self, width=100):
        super().__init__(hidden_layer_sizes=(width,), max_iter=5, random_state=0)
        self.width = width


def test_a_subclass_with_parameters_of_its_own():
    X, y = load_wine(return_X_y=True)
    assert_same_scores(Wide(20), X, y)


def test_a_scorer_that_fails_gives_nan_and_a_warning():
    X, y = load_wine(return_X_y=True)
    scores = []

    def scoring(estimator, X, y):
        scores.append(estimator.score(X, y))
        if len(scores) == 2:
            raise KeyError("no score")
        return scores[-1]

    with pytest.warns(UserWarning, match="Scoring failed"):
        found = cross_val_score(MLPClassifier(max_iter=3, random_state=0), X, y, scoring=scoring, cv=3)
    np.testing.assert_array_equal(found, [scores[0], np.nan, scores[2]])


def test_wrong_arguments():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(TypeError, match=r"estimator is .*LogisticRegression.*; expected an MLPClassifier"):
        cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), X, y)
    with pytest.raises(TypeError, match=r"scoring is \['accuracy'\] \(list\); expected a name"):
        cross_val_score(MLPClassifier(), X, y, scoring=["accuracy"])
    for bad in ("rais", None):
        with pytest.raises(ValueError, match=r"^error_score is .*; expected 'raise' or a number"):
            cross_val_score(MLPClassifier(), X, y, error_score=bad)
    with pytest.raises(ValueError, match="requires y to be passed"):
        cross_val_score(MLPClassifier(), X, None)
    with pytest.raises(ValueError, match="The 'alpha' parameter of MLPClassifier"):
        cross_val_score(MLPClassifier(alpha=-1), X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cross_val_score(MLPClassifier(), X, y[:-1])


def test_pipeline_of_one_step():
    X, y = few_samples()
    from sklearn.pipeline import make_pipeline

    m = MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        a, b = (cross_val_score(one, X, y, cv=3) for one in (m, make_pipeline(m)))
    assert np.array_equal(a, b)
