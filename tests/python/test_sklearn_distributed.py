"""The estimators on several processes: the result is that of one process with the rows of all."""

import json

import numpy as np
import pytest
from communicators import PROGRAMS, Threads, mpi
from helpers import assert_close, same_bits

pytest.importorskip("sklearn", reason="scikit-learn is not installed: its estimators are not checked")

from sklearn.datasets import load_iris, load_wine
from sklearn.preprocessing import StandardScaler

from chainrule.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOUNDS = [0, 60, 101, 150]
CASES = {
    "adam": {"max_iter": 5},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 2, "max_iter": 30},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1, "max_iter": 5},
    "lbfgs": {"solver": "lbfgs", "max_iter": 8},
    "batches": {"batch_size": 7, "max_iter": 4, "alpha": 0.5},
}


def samples():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y, np.random.default_rng(0).uniform(0, 2, size=150)


def train(comm, estimator, settings, X, y, **arguments):
    """Fit on the rows between two bounds on each rank; arrays among the arguments are cut too."""

    def fit(rank):
        mine = slice(BOUNDS[rank], BOUNDS[rank + 1])
        own = {name: value[mine] for name, value in arguments.items()}
        return estimator(random_state=rank, **settings).fit(X[mine], y[mine], comm=comm, **own)

    return comm.run(fit)


def assert_like_one(many, one):
    assert all(same_bits(each.mlp_.parameters, many[0].mlp_.parameters) for each in many)
    assert_close(many[0].mlp_.parameters, one.mlp_.parameters, 1e-11, "parameters")
    for each in many:
        assert each.n_iter_ == one.n_iter_
        assert each.t_ == one.t_
        assert_close(each.loss_curve_, one.loss_curve_, 1e-11, "loss")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_classifier_is_that_of_one_process(case, weighted):
    X, y, weight = samples()
    names = np.array(["setosa", "versicolor", "virginica"])[y]  # no rank has all of them
    arguments = {"sample_weight": weight} if weighted else {}
    one = MLPClassifier(random_state=0, **CASES[case]).fit(X, names, **arguments)
    many = train(Threads(3), MLPClassifier, CASES[case], X, names, **arguments)
    assert_like_one(many, one)
    assert all(list(each.classes_) == list(one.classes_) for each in many)
    np.testing.assert_array_equal(many[1].predict(X), one.predict(X))


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_regressor_is_that_of_one_process(loss, solver):
    X, y, weight = samples()
    settings = {"loss": loss, "solver": solver, "max_iter": 6}
    one = MLPRegressor(random_state=0, **settings).fit(X, y, weight)
    assert_like_one(train(Threads(3), MLPRegressor, settings, X, y, sample_weight=weight), one)


def test_two_classes_of_which_ranks_have_one():
    X, y, _ = samples()
    one = MLPClassifier(random_state=0, max_iter=3).fit(X[:101], y[:101] == 0)
    assert_like_one(train(Threads(2), MLPClassifier, {"max_iter": 3}, X[:101], y[:101] == 0), one)


@pytest.mark.parametrize("case", ["adam", "lbfgs"])
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_a_rank_whose_samples_have_no_weight(estimator, case):
    X, y, weight = samples()
    settings = {**CASES[case], **({"loss": "poisson"} if estimator is MLPRegressor else {})}
    weight[BOUNDS[1] : BOUNDS[2]] = 0
    one = estimator(random_state=0, **settings).fit(X, y, weight)
    assert_like_one(train(Threads(3), estimator, settings, X, y, sample_weight=weight), one)


@pytest.mark.parametrize("by_class", [False, True])
def test_early_stopping_where_the_samples_of_a_rank_have_no_weight(by_class):
    X, y, _ = samples()
    settings = {"early_stopping": True, "max_iter": 3}
    comm, none = Threads(2), [y == 0, y > 0]

    def fit(rank):
        classifier = MLPClassifier(random_state=0, class_weight={0: 0, 1: 1, 2: 1} if by_class else None, **settings)
        mine = none[1 - rank]
        return classifier.fit(X[mine], y[mine], None if by_class else np.full(mine.sum(), 1.0 - rank), comm=comm)

    first, second = comm.run(fit)
    assert first.validation_scores_ == second.validation_scores_
    assert same_bits(first.mlp_.parameters, second.mlp_.parameters)


def test_validation_set_is_that_of_all():
    X, y, _ = samples()
    one = MLPClassifier(random_state=0, max_iter=4).fit(X, y, validation_set=(X[::5], y[::5]))
    comm = Threads(3)

    def fit(rank):
        mine = slice(BOUNDS[rank], BOUNDS[rank + 1])
        held_out = slice(5 * rank, None, 15)
        return MLPClassifier(random_state=rank, max_iter=4).fit(
            X[mine], y[mine], validation_set=(X[held_out], y[held_out]), comm=comm
        )

    for each in comm.run(fit):
        assert_close(each.validation_curve_, one.validation_curve_, 1e-11)


def test_early_stopping_stops_all_alike():
    X, y = load_wine(return_X_y=True)
    X, comm = StandardScaler().fit_transform(X), Threads(2)
    settings = {"early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.01, "max_iter": 100}

    def fit(rank):
        return MLPClassifier(random_state=rank, **settings).fit(X[rank::2], y[rank::2], comm=comm)

    first, second = comm.run(fit)
    assert first.n_iter_ < 100
    assert first.validation_scores_ == second.validation_scores_
    assert same_bits(first.mlp_.parameters, second.mlp_.parameters)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_on_one_rank_stops_all(solver):
    X, y, _ = samples()
    comm = Threads(2)

    def fit(rank):
        callbacks = [lambda report: report.epoch == 2] if rank else None
        estimator = MLPClassifier(solver=solver, max_iter=9, callbacks=callbacks)
        estimator.fit(X[rank::2], y[rank::2], comm=comm)
        return len(estimator.loss_curve_)

    assert comm.run(fit) == [2, 2]


def test_only_the_first_rank_prints(capsys):
    X, y, _ = samples()
    train(Threads(3), MLPClassifier, {"max_iter": 3, "verbose": True}, X, y)
    assert capsys.readouterr().out.count("Iteration") == 3


def test_settings_that_differ():
    X, y, _ = samples()
    comm = Threads(2)
    with pytest.raises(RuntimeError, match="rank 1 has another alpha than rank 0"):
        comm.run(lambda rank: MLPClassifier(alpha=1.0 + rank).fit(X[rank::2], y[rank::2], comm=comm))


def test_dtypes_that_differ():
    X, y, _ = samples()
    comm = Threads(2)
    with pytest.raises(RuntimeError, match="rank 1 has another dtype than rank 0"):
        comm.run(lambda rank: MLPClassifier().fit(X[rank::2].astype(["f8", "f4"][rank]), y[rank::2], comm=comm))


def test_balanced_weights_need_all_of_y():
    X, y, _ = samples()
    comm = Threads(1)
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit or with comm"):
        comm.run(lambda _: MLPClassifier(class_weight="balanced").fit(X, y, comm=comm))


def test_no_communicator():
    X, y, _ = samples()
    with pytest.raises(TypeError, match=r"comm is 3 .*without rank, size, allreduce"):
        MLPRegressor().fit(X, y, comm=3)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_mpi(ranks, tmp_path):
    settings = json.dumps([{"max_iter": 3}, {"solver": "lbfgs", "max_iter": 5}])
    process = mpi(ranks, PROGRAMS / "mpi_estimators.py", tmp_path / "results", settings)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results").read_text())
    assert len(results) == 2
    for distance, *classes in results:
        assert distance < 1e-12
        assert classes == ["setosa", "versicolor", "virginica"]
