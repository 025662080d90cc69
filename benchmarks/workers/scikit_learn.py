"""scikit-learn: `partial_fit` on one batch is one step; always works out the loss."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor

from harness.net import Net
from workers import UnsupportedError


class ScikitLearn:
    """`MLPRegressor` for mse, `MLPClassifier` for bce and cross_entropy."""

    version = sklearn.__version__

    def __init__(self, net: Net, lr: float, threads: int) -> None:
        del threads  # Set by the environment.
        d_out = net.layer_sizes[-1]
        if len(net.layer_sizes) == 2:
            raise UnsupportedError("needs a hidden layer")
        if net.loss == "cross_entropy" and d_out < 3:
            raise UnsupportedError("trains one logistic output for two classes")
        # Its mean is over samples alone and its squared error is halved; the learning rate makes up for both.
        scale = {"mse": 2 / d_out, "bce": 1 / d_out, "cross_entropy": 1}[net.loss]
        estimator = MLPRegressor if net.loss == "mse" else MLPClassifier
        self._model = estimator(
            hidden_layer_sizes=net.layer_sizes[1:-1],
            activation="logistic" if net.hidden == "sigmoid" else net.hidden,
            solver=net.optimizer,
            alpha=0.0,
            batch_size=net.batch,
            learning_rate_init=lr * scale if net.optimizer == "sgd" else lr,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            random_state=0,
        )
        self._X, y = net.data()
        self._y = y.ravel() if d_out == 1 else y
        if net.loss != "mse":
            self._y = self._y.astype(np.int64)
            self._model.partial_fit(self._X, self._y, classes=np.arange(max(2, d_out)))

    def load(self, weights: Iterable[np.ndarray]) -> None:
        if not hasattr(self._model, "coefs_"):
            self.steps(1)
        for mine, W in zip(self._model.coefs_, weights, strict=True):
            mine[:] = W
        for b in self._model.intercepts_:
            b[:] = 0
        # The next call makes a new one.
        del self._model._optimizer

    def weights(self) -> list[np.ndarray]:
        return [W.copy() for W in self._model.coefs_]

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._model.partial_fit(self._X, self._y)
