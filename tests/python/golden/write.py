"""Writes what a version leaves to the later ones: `python tests/python/golden/write.py`, into a folder named after it.

The files of a version are never written again: test_golden.py says whether all that was ever written can still be read.
"""

import json
import pathlib
import pickle

import numpy as np

import chainrule as cr
from chainrule.sklearn import MLPClassifier, MLPRegressor

PROTOCOL = 2  # which every Python reads
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = np.column_stack([X[:, 0] * X[:, 1], X[:, 0] > 0])
LABELS = np.array(["no", "yes", "perhaps"])[RNG.integers(3, size=12)]
OPTIMIZERS = {
    "sgd": lambda: cr.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "rmsprop": lambda: cr.RMSprop(momentum=0.5, centered=True),
    "adam": lambda: cr.Adam(lr=0.02, betas=(0.8, 0.95)),
    "adamw": lambda: cr.AdamW(weight_decay=0.1),
}


def network(dtype):
    mlp = cr.MLP(
        [2, 3, 3, 2],
        hidden_activation=[cr.ELU(alpha=0.5), "tanh"],
        loss=cr.Huber(delta=0.7),
        init=cr.Normal(std=0.3),
        dtype=dtype,
        seed=2**63 + 5,
        dropout=[0.25, 0.0],
    )
    mlp.fit(X, Y, epochs=2, batch_size=5)
    return mlp


def write(folder):
    """Write all files, and in expected.json what is in them."""
    folder.mkdir()
    expected = {"X": X.tolist(), "Y": Y.tolist()}

    def pickled(name, thing, **found):
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(thing, PROTOCOL))
        expected[name] = found

    for dtype in ("float32", "float64"):
        mlp = network(dtype)
        found = {"repr": repr(mlp), "seed": mlp.seed, "parameters": mlp.parameters.tolist()}
        found |= {"outputs": mlp.predict(X).tolist(), "later": mlp.copy().fit(X, Y, epochs=1, batch_size=5).loss}
        pickled(f"mlp_{dtype}", mlp, **found)
    mlp.save(folder / "network.safetensors")
    for name, make in OPTIMIZERS.items():
        mlp, optimizer = network("float64"), make()
        mlp.fit(X, Y, epochs=2, optimizer=optimizer)
        copy = pickle.loads(pickle.dumps((mlp, optimizer)))
        later = copy[0].fit(X, Y, epochs=2, optimizer=copy[1]).loss
        pickled(name, (mlp, optimizer), repr=repr(optimizer), t=optimizer.t, later=later)
    arguments = {"epochs": 4, "batch_size": 5, "schedule": "exponential", "patience": 3}
    network("float64").fit(X, Y, checkpoint=folder / "fit.safetensors", **{**arguments, "epochs": 2})
    whole = network("float64")
    loss = whole.fit(X, Y, **arguments).loss
    expected["fit"] = {"arguments": arguments, "loss": loss, "parameters": whole.parameters.tolist()}
    settings = {"hidden_layer_sizes": (3,), "max_iter": 200, "tol": 0.05, "n_iter_no_change": 2, "random_state": 0}
    classifier = MLPClassifier(**settings).fit(X, LABELS)
    found = {"labels": classifier.predict(X).tolist(), "outputs": classifier.predict_proba(X).tolist()}
    pickled("classifier", classifier, **found)
    regressor = MLPRegressor(**settings).fit(X, Y)
    pickled("regressor", regressor, outputs=regressor.predict(X).tolist())
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write(pathlib.Path(__file__).parent / cr.__version__)
