"""Cross-validation whose folds are trained side by side."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.model_selection._validation import _score, _warn_or_raise_about_fit_failures
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable
from sklearn.utils.metaestimators import _safe_split

from chainrule._arguments import shown
from chainrule._core import FitQueue
from chainrule.sklearn.base import BaseMLP, threads
from chainrule.sklearn.classifier import MLPClassifier
from chainrule.sklearn.regressor import MLPRegressor

OWN_FITS = (MLPClassifier.fit, MLPRegressor.fit, Pipeline.fit)


def cross_val_score(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    scoring: Any = None,
    cv: Any = None,
    error_score: Any = np.nan,
) -> npt.NDArray[np.float64]:
    """Score an estimator by cross-validation, with as many folds trained at a time as there are threads.

    For a given ``random_state`` the scores are those of scikit-learn's `cross_val_score`, to the bit, without its
    processes: each fold is trained on one thread, as `chainrule.fit_many` trains networks. With solver "lbfgs", with
    scikit-learn's callbacks and by a `fit` of a subclass one fold is trained after the other. The training samples of
    all folds are in memory at once.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor, or a Pipeline that ends in one
        What to score. It is not changed: each fold trains a clone. `n_threads` is how many folds are trained at a time.
    X : array-like, frame or sparse matrix of shape (n, d_0)
        Samples as rows.
    y : array-like of shape (n,) or (n, n_outputs)
        Their targets.
    groups : array-like of shape (n,), optional
        The group of each sample, for a splitter that asks for it.
    scoring : str or callable, optional
        As scikit-learn's; by default the estimator's `score`.
    cv : int, splitter or iterable of (training rows, test rows), optional
        As scikit-learn's; by default five folds, by classes for a classifier.
    error_score : "raise" or float, default NaN
        The score of a fold whose fit or scorer raises, with a warning; "raise" lets the error out.

    Returns
    -------
    ndarray of shape (n_folds,)
        The score of each fold.

    Raises
    ------
    TypeError
        If it is another estimator, or `scoring` is neither a name nor a callable.
    ValueError
        If an argument does not fit, or if the fits of all folds fail.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from chainrule.sklearn import MLPClassifier, cross_val_score
    >>> X, y = load_wine(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=400))
    >>> bool(cross_val_score(model, X, y).mean() > 0.95)
    True
    """
    network = _network(estimator)
    if not (scoring is None or isinstance(scoring, str) or callable(scoring)):
        raise TypeError(f"scoring is {shown(scoring)}; expected a name, a callable or None")
    if not (isinstance(error_score, Real) or (isinstance(error_score, str) and error_score == "raise")):
        raise ValueError(f"error_score is {shown(error_score)}; expected 'raise' or a number")
    X, y, groups = indexable(X, y, groups)
    folds = list(check_cv(cv, y, classifier=is_classifier(estimator)).split(X, y, groups))
    scorer = check_scoring(estimator, scoring=scoring)
    models = [clone(estimator) for _ in folds]
    queue = FitQueue()
    fits = [
        _fitting(model, queue, *_safe_split(estimator, X, y, train))
        for model, (train, _) in zip(models, folds, strict=True)
    ]
    errors: list[str | None] = [None] * len(fits)

    def go_on() -> None:
        for k, fit in enumerate(fits):
            try:
                next(fit, None)
            except Exception:
                if error_score == "raise":
                    raise
                errors[k] = traceback.format_exc()

    with threads(network.n_threads):
        go_on()
        queue.run()
        go_on()
        _warn_or_raise_about_fit_failures([{"fit_error": error} for error in errors], error_score)
        scores = [
            _score(model, *_safe_split(estimator, X, y, test, train), scorer, {}, error_score=error_score)
            if error is None
            else error_score
            for model, (train, test), error in zip(models, folds, errors, strict=True)
        ]
    return np.array(scores)


def _network(estimator: Any) -> BaseMLP:
    """Give the estimator itself, or the last step of a pipeline."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(last, BaseMLP):
        raise TypeError(
            f"estimator is {shown(last)}; expected an MLPClassifier or an MLPRegressor, or a Pipeline of one"
        )
    return last


def _fitting(model: Any, queue: FitQueue, X: Any, y: Any) -> Iterator[None]:
    """Fit, with a pause where the queue has to be run; a subclass by its own `fit`, and so where callbacks listen."""
    network = _network(model)
    network.n_threads = None
    if any(type(part).fit not in OWN_FITS or getattr(part, "_skl_callbacks", None) for part in (model, network)):
        model.fit(X, y)
        return
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        before = model[:-1]
        X = before.fit_transform(X, y)
        model.steps[:-1] = before.steps
    network._validate_params()
    yield from network._fitting(X, y, queue=queue)
