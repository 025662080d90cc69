"""Threads: the same bits for any number of them, from any thread, after a fork; and where the number comes from."""

import itertools
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import same_bits

import chainrule as cr

COUNTS = (1, 2, 3, 8)
CASES = {
    "narrow": ([5, 7, 3], 10, "tanh", "mse"),
    "wide": ([32, 200, 200, 4], 256, "relu", "mse"),
    "odd": ([33, 129, 67, 10], 251, "gelu", "cross_entropy"),
    "one output": ([64, 300, 1], 300, "sigmoid", "bce"),
    "few rows, large layers": ([500, 700, 500, 3], 9, "tanh", "mse"),
}


@pytest.fixture(autouse=True)
def thread_count_is_restored():
    before = cr.get_num_threads()
    yield
    cr.set_num_threads(before)


def data_for(case, dtype):
    sizes, n, _, loss = CASES[case]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        return X, rng.integers(sizes[-1], size=n)
    return X, rng.uniform(size=(n, sizes[-1])).astype(dtype)


def net_for(case, dtype):
    sizes, _, activation, loss = CASES[case]
    return cr.MLP(sizes, hidden_activation=activation, loss=loss, dtype=dtype, seed=1)


def everything(case, dtype):
    """The bytes of all results of a short training."""
    X, y = data_for(case, dtype)
    mlp, optimizer = net_for(case, dtype), cr.Adam(lr=0.003)
    results = [mlp.predict(X), np.array(mlp.evaluate(X, y)), mlp.forward(X), np.array(mlp.backward(y)), mlp.gradient]
    results = [result.tobytes() for result in results]
    results.append(mlp.pullback(np.ones((len(X), mlp.layer_sizes[-1]), dtype)).tobytes())
    losses = [mlp.step(X, y, optimizer) for _ in range(3)]
    history = mlp.fit(X, y, epochs=3, batch_size=max(1, len(X) // 3), optimizer=optimizer, clip_norm=0.5)
    return [*results, losses, history.loss, mlp.parameters.tobytes()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits_for_any_number_of_threads(case, dtype):
    outcomes = {}
    for count in COUNTS:
        with cr.num_threads(count):
            outcomes[count] = everything(case, dtype)
    for count in COUNTS[1:]:
        assert outcomes[count] == outcomes[1], f"{count} threads"


def test_a_hundred_steps_give_the_same_bits():
    ends = set()
    for count in COUNTS:
        with cr.num_threads(count):
            mlp = net_for("odd", "float32")
            mlp.fit(*data_for("odd", "float32"), epochs=25, batch_size=64)
            ends.add(mlp.parameters.tobytes())
    assert len(ends) == 1


def test_predict_from_many_threads_at_once():
    mlp = net_for("odd", "float32")
    batches = [np.random.default_rng(i).normal(size=(1 + 37 * i % 300, 33)) for i in range(40)]
    expected = [mlp.predict(X) for X in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            results = list(pool.map(mlp.predict, batches))
            assert all(same_bits(one, other) for one, other in zip(results, expected, strict=True))


def test_evaluate_from_many_threads_at_once():
    mlp = net_for("wide", "float64")
    X, y = data_for("wide", "float64")
    expected = [mlp.evaluate(X[:n], y[:n]) for n in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: mlp.evaluate(X[:n], y[:n]), range(1, 41))) == expected


def test_networks_train_side_by_side():
    def train(seed):
        mlp = cr.MLP([32, 100, 4], seed=seed)
        mlp.fit(*data_for("wide", "float32"), epochs=5, batch_size=50)
        return mlp.parameters.tobytes()

    expected = [train(seed) for seed in range(8)]
    assert len(set(expected)) == 8
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(train, range(8))) == expected


def test_other_python_threads_run_during_fit():
    """fit lets go of the interpreter: a thread of pure Python advances within one long epoch."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 100)).astype("float32"), rng.normal(size=20_000)
    mlp = cr.MLP([100, 300, 300, 1], seed=0)
    counts, done = [0], [False]

    def count():
        while not done[0]:
            counts[0] += 1
            if counts[0] % 100 == 0:
                os.sched_yield() if hasattr(os, "sched_yield") else None

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(count)
        try:
            mlp.fit(X, y, epochs=1, batch_size=64)
            during = counts[0]
        finally:
            done[0] = True
        job.result()
    assert during > 1000


class TestCount:
    def test_set_and_get(self):
        for count in (1, 2, 5):
            cr.set_num_threads(count)
            assert cr.get_num_threads() == count

    def test_context_restores_even_after_an_error(self):
        cr.set_num_threads(2)
        with cr.num_threads(1):
            assert cr.get_num_threads() == 1
            with cr.num_threads(3):
                assert cr.get_num_threads() == 3
            assert cr.get_num_threads() == 1
        with pytest.raises(ZeroDivisionError), cr.num_threads(1):
            1 / 0  # noqa: B018
        assert cr.get_num_threads() == 2

    def test_blocks_that_overlap_in_any_order_put_back_what_was_before_the_first(self):
        cr.set_num_threads(4)
        for order in itertools.permutations(range(3)):
            blocks = [cr.num_threads(n) for n in (1, 2, 3)]  # as of three Python threads
            for block in blocks:
                block.__enter__()
            inside = {0, 1, 2}
            for i in order:
                assert cr.get_num_threads() == max(inside) + 1  # that of the one that began last
                blocks[i].__exit__(None, None, None)
                inside.remove(i)
            assert cr.get_num_threads() == 4

    def test_a_number_that_is_set_within_a_block_lasts_until_its_end(self):
        cr.set_num_threads(2)
        with cr.num_threads(1):
            cr.set_num_threads(5)
            with cr.num_threads(3):
                pass
            assert cr.get_num_threads() == 5
        assert cr.get_num_threads() == 2

    @pytest.mark.parametrize(
        ("wrong", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)]
    )
    def test_wrong_counts(self, wrong, error):
        before = cr.get_num_threads()
        with pytest.raises(error):
            cr.set_num_threads(wrong)
        with pytest.raises(error), cr.num_threads(wrong):
            pass
        assert cr.get_num_threads() == before

    def test_environment(self, run_python):
        code = "import chainrule as cr; print(cr.get_num_threads())"
        assert run_python("-c", code, OMP_NUM_THREADS="1").stdout == "1\n"

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform has no CPU affinity")
    def test_affinity(self, run_python):
        code = (
            "import os; os.environ.pop('OMP_NUM_THREADS', None);"
            "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
            "import chainrule as cr; print(cr.get_num_threads())"
        )
        assert run_python("-c", code).stdout == "1\n"


FORK = """
import os
import sys
import warnings

import chainrule as cr
import numpy as np

rounds = int(sys.argv[1])
cr.set_num_threads(2)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(256, 64)).astype("float32"), rng.normal(size=256)


def train():
    mlp = cr.MLP([64, 200, 200, 1], seed=0)
    mlp.fit(X, y, epochs=2, batch_size=128)
    return mlp.parameters.tobytes()


expected = train()
for _ in range(rounds):
    child = os.fork()
    if child == 0:
        os._exit(0 if train() == expected else 3)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    assert train() == expected
print("same bits", rounds)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="fork is not safe on this platform")
@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.long)])
def test_train_fork_train(run_python, rounds):
    """Python 3.12 and later warn of any fork with threads: this is the case that must work."""
    done = run_python("-W", "ignore::DeprecationWarning", "-c", FORK, rounds)
    assert done.stdout == f"same bits {rounds}\n"


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="fork is not safe on this platform")
def test_multiprocessing_pool_after_training(run_python, tmp_path):
    script = tmp_path / "pool.py"
    script.write_text(
        "import multiprocessing\n"
        "import chainrule as cr\n"
        "import numpy as np\n"
        "X, y = np.ones((256, 64)), np.zeros(256)\n"
        "def train(seed):\n"
        "    mlp = cr.MLP([64, 200, 1], seed=seed)\n"
        "    mlp.fit(X, y, epochs=2, batch_size=128)\n"
        "    return mlp.parameters.tobytes()\n"
        "if __name__ == '__main__':\n"
        "    expected = [train(seed) for seed in range(6)]\n"
        "    with multiprocessing.get_context('fork').Pool(3) as pool:\n"
        "        print(pool.map(train, range(6)) == expected)\n"
    )
    assert run_python("-W", "ignore::DeprecationWarning", script).stdout == "True\n"


def test_threadpoolctl_limits_hold_here_too():
    """Whoever limits threads by threadpoolctl limits chainrule's."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    with cr.num_threads(3):
        with threadpoolctl.threadpool_limits(1):
            assert cr.get_num_threads() == 1
        assert cr.get_num_threads() == 3
        with threadpoolctl.threadpool_limits(2, user_api="chainrule"):
            assert cr.get_num_threads() == 2
    pools = [each for each in threadpoolctl.threadpool_info() if each["user_api"] == "chainrule"]
    assert [each["version"] for each in pools] == [cr.__version__]


def test_blas_keeps_off_the_processors_that_lbfgs_needs():
    """While a fit by L-BFGS works, SciPy's BLAS has one thread; after the last such fit, its own number again."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: BLAS is left alone")
    from chainrule.sklearn import MLPRegressor
    from chainrule.sklearn.threadpools import one_blas_thread

    def blas() -> list[int]:
        return [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]

    seen = []
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before = blas()
        estimator = MLPRegressor(solver="lbfgs", max_iter=3, callbacks=[lambda *_: seen.append(blas())])
        with warnings.catch_warnings(action="ignore"):
            estimator.fit(np.arange(10.0)[:, None], np.arange(10.0))
        assert blas() == before
        with one_blas_thread:
            with one_blas_thread:
                pass
            assert set(blas()) == {1}
        assert blas() == before
    assert seen
    assert all(set(each) == {1} for each in seen)
