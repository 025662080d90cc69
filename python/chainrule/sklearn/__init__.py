"""Estimators in scikit-learn's way, that train in chainrule's core. Needs the extra "sklearn".

>>> from chainrule.sklearn import MLPClassifier, MLPRegressor  # in place of: from sklearn.neural_network import ...
"""

from chainrule._extras import optional_package

optional_package("sklearn", "sklearn")

from chainrule.sklearn.classifier import MLPClassifier  # noqa: E402
from chainrule.sklearn.cross_validation import cross_val_score  # noqa: E402
from chainrule.sklearn.ensemble import EnsembleClassifier, EnsembleRegressor  # noqa: E402
from chainrule.sklearn.regressor import MLPRegressor  # noqa: E402

__all__ = ["EnsembleClassifier", "EnsembleRegressor", "MLPClassifier", "MLPRegressor", "cross_val_score"]
