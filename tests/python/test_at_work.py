"""What else is done to a network, its optimizer or its data while a call is at work on them."""

import itertools
import pickle
import threading

import numpy as np
import pytest
from helpers import same_bits

import chainrule as cr


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def samples(rng, rows=60):
    return rng.normal(size=(rows, 4)), rng.normal(size=(rows, 2))


def network(**settings):
    return cr.MLP([4, 6, 2], hidden_activation="tanh", dtype="float64", seed=1, **settings)


def test_an_optimizer_at_work_is_not_reset(rng):
    X, y = samples(rng)
    mlp, optimizer = network(), cr.Adam()
    with pytest.raises(RuntimeError, match=r"the optimizer is at work in a fit or a step; reset\(\) is for before"):
        mlp.fit(X, y, epochs=3, optimizer=optimizer, callbacks=[lambda report: optimizer.reset()])
    assert optimizer.t == 2
    optimizer.reset()
    assert optimizer.t == 0


def test_settings_that_a_callback_changes_hold_from_the_next_step_on(rng):
    X, y = samples(rng)
    heavy = {"momentum": 0.9, "weight_decay": 0.5}
    mlp, optimizer = network(), cr.SGD(lr=0.1)

    def heavier(report):
        if report.epoch == 2:
            for name, value in heavy.items():
                setattr(optimizer, name, value)

    mlp.fit(X, y, epochs=4, optimizer=optimizer, shuffle=False, callbacks=[heavier])
    twin, light = network(), cr.SGD(lr=0.1)
    twin.fit(X, y, epochs=2, optimizer=light, shuffle=False)
    twin.fit(X, y, epochs=2, optimizer=cr.SGD(lr=0.1, **heavy), shuffle=False)
    assert same_bits(mlp.parameters, twin.parameters)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_call_that_fails_leaves_the_optimizer_free(rng, bad):
    X, y = samples(rng)
    optimizer = cr.Adam()
    before = pickle.dumps(optimizer)
    with pytest.raises(ValueError, match="X holds"):
        network().fit(iter([(X + bad, y)]), epochs=1, optimizer=optimizer)
    with pytest.raises(cr.NonFiniteError):
        network().step(X, y + 1e200, optimizer)
    with pytest.raises(ValueError, match="epochs is 0"):
        cr.fit_many([network(), network()], X, y, epochs=[1, 0], optimizer=[optimizer, cr.Adam()])
    assert pickle.dumps(optimizer) == before
    network().fit(X, y, epochs=1, optimizer=optimizer)


def test_a_resumed_fit_takes_no_optimizer_of_another_network(rng, tmp_path):
    X, y = samples(rng)
    path = tmp_path / "fit.safetensors"
    network().fit(X, y, epochs=2, checkpoint=path)
    optimizer, owner = cr.Adam(), network()
    owner.fit(X, y, epochs=1, optimizer=optimizer)
    with pytest.raises(ValueError, match="the optimizer belongs to another network"):
        network().fit(X, y, epochs=3, optimizer=optimizer, checkpoint=path, resume=True)
    assert optimizer.t == 2
    owner.fit(X, y, epochs=1, optimizer=optimizer)


class Meddling:
    """Targets that go forward with other rows while they are looked at."""

    def __init__(self, mlp, rows):
        self.mlp, self.rows = mlp, rows

    def __array__(self, dtype=None, copy=None):
        self.mlp.forward(np.ones((self.rows, 4)))
        return np.zeros((5, 2))


@pytest.mark.parametrize("rows", [3, 5000])
def test_backward_with_targets_that_go_forward(rows):
    mlp = network()
    mlp.forward(np.ones((5, 4)))
    with pytest.raises(RuntimeError, match="another forward"):
        mlp.backward(Meddling(mlp, rows))
    mlp.forward(np.ones((5, 4)))
    with pytest.raises(RuntimeError, match="another forward"):
        mlp.pullback(Meddling(mlp, rows))


def test_looking_at_a_network_that_another_thread_trains(rng):
    mlp, seen_enough, errors = network(), threading.Event(), []
    X, y = samples(rng, 3000)

    def train():
        for rows in itertools.cycle(range(1, 3000, 60)):
            if seen_enough.is_set():
                return
            try:
                mlp.forward(X[:rows])
                mlp.backward(y[:rows])
            except Exception as error:
                errors.append(str(error))

    thread = threading.Thread(target=train)
    thread.start()
    looks = 0
    try:
        while looks < 50:
            try:
                assert mlp.gradient_flow().rows > 0
                assert len(mlp.activations) == 3 and len(mlp.deltas) == 2 and mlp.gradient.size == mlp.n_parameters
                looks += 1
            except RuntimeError as error:  # between a forward and its backward
                assert "backward" in str(error) or "there is no" in str(error)
            try:
                mlp.backward(y[:1])
            except (RuntimeError, ValueError) as error:
                assert "rows" in str(error) or "forward" in str(error)
    finally:
        seen_enough.set()
        thread.join()
    assert [error for error in errors if "another forward" not in error and "rows" not in error] == []


def test_after_a_fit_nothing_is_left_of_what_a_callback_saw(rng):
    X, y = samples(rng)
    mlp = network()

    def look(report):
        mlp.forward(X)
        mlp.backward(y)

    mlp.fit(X, y, epochs=2, callbacks=[look])
    for read in (lambda: mlp.gradient, lambda: mlp.activations, lambda: mlp.backward(y), mlp.gradient_flow):
        with pytest.raises(RuntimeError):
            read()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_array_that_looks_into_the_last_pass_is_read_before_that_is_written_over(rng, threads):
    mlp = cr.MLP([64, 64, 64], hidden_activation="tanh", seed=0)
    with cr.num_threads(threads):
        for _ in range(20):
            mlp.forward(rng.normal(size=(1500, 64)))
            inputs = mlp.activations[1][1:]
            expected = mlp.predict(inputs.copy())
            assert same_bits(mlp.forward(inputs), expected)
        twin = mlp.copy()
        inputs, targets = mlp.activations[0][:-1], mlp.activations[2][1:]
        twin.step(inputs.copy(), targets.copy(), cr.SGD(lr=0.1))
        mlp.step(inputs, targets, cr.SGD(lr=0.1))
    assert same_bits(mlp.parameters, twin.parameters)


def test_indices_of_a_sparse_matrix_that_change_in_a_fit(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="sparse inputs are SciPy's")
    dense = np.where(rng.random(size=(40, 30)) < 0.05, 1.0, 0.0)
    twin, mlp = (cr.MLP([30, 4, 1], dtype="float64", seed=1) for _ in range(2))
    twin.fit(sparse.csr_matrix(dense), np.ones(40), epochs=3)
    X = sparse.csr_matrix(dense)

    def change(report):
        X.indices[:] = 2**30
        X.indptr[:] = 2**30

    mlp.fit(X, np.ones(40), epochs=3, callbacks=[change])
    assert same_bits(mlp.parameters, twin.parameters)


def test_indices_beyond_32_bits():
    sparse = pytest.importorskip("scipy.sparse", reason="sparse inputs are SciPy's")
    X = sparse.csr_matrix(np.eye(3))
    X.indices, X.indptr = X.indices.astype(np.int64) + 2**32, X.indptr.astype(np.int64)
    with pytest.raises(ValueError, match="X is no valid CSR matrix"):
        cr.MLP([3, 1]).predict(X)


FORK = """
import os, sys
import numpy as np
import chainrule as cr
X, y = np.zeros((50, 3)), np.zeros((50, 2))
mlp = cr.MLP([3, 4, 2], seed=0)
def fork(report):
    child = os.fork()
    if child == 0:
        mlp.forward(X); mlp.backward(y)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
mlp.fit(X, y, epochs=2, callbacks=[fork])
import threading
began = threading.Event()
stop = threading.Event()
def report(_):
    began.set()
    return stop.is_set()
thread = threading.Thread(target=lambda: mlp.fit(X, y, epochs=10**9, callbacks=[report]))
thread.start()
began.wait()
child = os.fork()
if child == 0:
    mlp.forward(X); mlp.backward(y)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
stop.set()
thread.join()
print("done")
"""


def test_a_process_that_is_forked_in_a_fit_can_use_the_network(run_python):
    assert run_python("-W", "ignore::DeprecationWarning", "-c", FORK).stdout == "done\n"


WAIT = """
import os, signal, threading
import numpy as np
import chainrule as cr
signal.signal(signal.SIGINT, signal.default_int_handler)
X, y = np.zeros((50, 3)), np.zeros((50, 2))
mlp, other = (cr.MLP([3, 4, 2], seed=s) for s in range(2))
began, stop = threading.Event(), threading.Event()
def report(_):
    began.set()
    return stop.is_set()
thread = threading.Thread(target=lambda: mlp.fit(X, y, epochs=10**9, callbacks=[report]))
thread.start()
began.wait()
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    mlp.forward(X)
except KeyboardInterrupt:
    print("interrupted")
stop.set()
thread.join()
mlp.forward(X)
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    cr.MLP([300, 300, 300, 1], seed=0).check_gradients(np.zeros((500, 300)), np.zeros(500))
except KeyboardInterrupt:
    print("interrupted")
mlp.parameters[:] = np.nan
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    mlp.fit(np.zeros((2000000, 3)), np.zeros((2000000, 2)), epochs=1, batch_size=1, on_nonfinite="ignore")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_waiting_for_a_network_long_checks_and_fits_that_leave_every_step_out(run_python):
    assert run_python("-c", WAIT).stdout.split() == ["interrupted"] * 3


@pytest.mark.parametrize(
    "seen",
    [np.asarray, memoryview, np.from_dlpack, lambda array: array[::-1][::-1]],
    ids=["array", "memoryview", "dlpack", "slice"],
)
@pytest.mark.parametrize("what", ["activations", "weights", "parameters"])
def test_what_a_network_shows_may_train_it(rng, seen, what):
    """However the memory comes back, it is copied before the fit writes over it."""

    def make():
        mlp = cr.MLP([8, 8, 8], hidden_activation="tanh", dtype="float64", seed=1)
        mlp.forward(X)
        mlp.backward(y)
        shown = {
            "activations": lambda: mlp.activations[1],
            "weights": lambda: mlp.weights[0],
            "parameters": lambda: mlp.parameters[:64].reshape(8, 8),
        }
        return mlp, shown[what]()

    X, y = rng.normal(size=(8, 8)), rng.normal(size=(8, 8))
    (mlp, own), (twin, copied) = make(), make()
    history = mlp.fit(seen(own), y, epochs=3, batch_size=3, optimizer=cr.SGD(lr=0.1))
    assert history == twin.fit(copied.copy(), y, epochs=3, batch_size=3, optimizer=cr.SGD(lr=0.1))
    assert same_bits(mlp.parameters, twin.parameters)


def test_a_gradient_may_weigh_the_samples_of_the_next(rng):
    X, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 8))
    mlp = cr.MLP([4, 8, 8], dtype="float64", seed=1)
    mlp.forward(X)
    mlp.backward(y)
    weight = mlp.bias_gradients[0]
    weight[:] = np.arange(8) + 1.0
    expected = mlp.copy()
    expected.forward(X)
    loss = expected.backward(y, weight.copy())
    assert mlp.backward(y, weight) == loss
    assert same_bits(mlp.gradient, expected.gradient)


AT_THE_END = """
import sys, threading, time
import numpy as np, chainrule as cr

X = np.random.default_rng(0).normal(size=(20_000, 30))  # of another dtype than the network's
mlp = cr.MLP([30, 64, 3], seed=0)

def blocks():
    while True:
        yield X[:50], X[:50, :3]

def forever(call):
    while True:
        call()

work = {
    "fit": lambda: mlp.fit(X, X[:, :3], epochs=10**6),
    "callbacks": lambda: mlp.fit(X[:50], X[:50, :3], epochs=10**7, callbacks=lambda report: None),
    "blocks": lambda: mlp.fit(blocks(), epochs=1),
    "step": lambda: forever(lambda: mlp.step(X[:100], X[:100, :3], sgd)),
    "predict": lambda: forever(lambda: mlp.predict(X)),
}[sys.argv[1]]
sgd = cr.SGD()
threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""


@pytest.mark.parametrize("work", ["fit", "callbacks", "blocks", "step", "predict"])
def test_a_daemon_thread_at_work_does_not_disturb_the_end_of_the_program(run_python, work):
    for _ in range(3):
        run_python("-c", AT_THE_END, work)
