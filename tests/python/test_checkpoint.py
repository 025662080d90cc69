"""fit with a checkpoint: killed anywhere and resumed, it ends with the same bits."""

import json
import pathlib
import signal
import threading
import tracemalloc

import numpy as np
import pytest
from helpers import same_bits, state
from nets import smooth_data

import chainrule as cr
from chainrule import memory

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: no checkpoints")

X, Y = smooth_data(50)
X_VAL, Y_VAL = smooth_data(20, seed=1)


class Killed(Exception):  # noqa: N818
    pass


def killer(epoch):
    def die(report):
        if report.epoch == epoch:
            raise Killed

    return die


def network(seed=3, **settings):
    return cr.MLP([4, 8, 6, 2], hidden_activation="tanh", seed=seed, **settings)


CASES = {
    "sgd": (lambda: cr.SGD(lr=0.1, momentum=0.9, nesterov=True), {}, {}),
    "rmsprop": (lambda: cr.RMSprop(momentum=0.5, centered=True), {"schedule": "one_cycle"}, {}),
    "adam": (lambda: cr.Adam(lr=0.02), {"clip_norm": 0.1, "schedule": "cosine"}, {"dropout": 0.3}),
    "adamw": (lambda: cr.AdamW(betas=(0.8, 0.95)), {"schedule": cr.Warmup(epochs=4)}, {"dtype": "float64"}),
    "plateau": (lambda: cr.Adam(lr=0.3), {"schedule": cr.Plateau(patience=0), "validation": (X_VAL, Y_VAL)}, {}),
    "patience": (lambda: cr.Adam(lr=0.3), {"patience": 3, "validation": (X_VAL, Y_VAL)}, {}),
    "weights": (
        lambda: cr.Adam(),
        {"sample_weight": np.arange(50.0), "validation": (X_VAL, Y_VAL, np.arange(20.0)), "patience": 4},
        {"dropout": 0.2},
    ),
    "micro-batches": (lambda: cr.SGD(lr=0.1, momentum=0.9), {"micro_batch": 3}, {"dropout": 0.3}),
    "in order": (lambda: cr.SGD(lr=0.1), {"shuffle": False, "sample_weight": np.arange(1.0, 51)}, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("epoch", [1, 4, 9])
@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_fit_ends_with_the_same_bits(tmp_path, case, epoch, every):
    make, arguments, settings = CASES[case]
    arguments = {"epochs": 10, "batch_size": 7, **arguments}
    whole, whole_optimizer = network(**settings), make()
    expected = whole.fit(X, Y, optimizer=whole_optimizer, **arguments)
    arguments |= {"checkpoint": tmp_path / "fit.safetensors", "checkpoint_every": every, "resume": True}

    try:
        network(**settings).fit(X, Y, optimizer=make(), callbacks=[killer(epoch)], **arguments)
    except Killed:
        assert epoch <= expected.epochs
    seed = 99 if every < epoch else 3  # which the first checkpoint brings
    mlp, optimizer = network(seed=seed, **settings), make()
    assert mlp.fit(X, Y, optimizer=optimizer, **arguments) == expected
    assert same_bits(mlp.parameters, whole.parameters) and mlp.seed == 3
    assert optimizer.t == whole_optimizer.t and optimizer.lr == whole_optimizer.lr
    mlp.fit(X, Y, epochs=2, optimizer=optimizer)
    whole.fit(X, Y, epochs=2, optimizer=whole_optimizer)
    assert same_bits(mlp.parameters, whole.parameters)


KILLED_RUN = """
import os, signal, sys
import numpy as np
import chainrule as cr

where, count = sys.argv[1], int(sys.argv[2])
calls = 0

def killing(function, after):
    def call(*arguments, **keywords):
        global calls
        calls += 1
        result = function(*arguments, **keywords) if after else None
        if calls == count:
            if where == "write":  # half of a file is there
                os.write(arguments[0], b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return result if after else function(*arguments, **keywords)
    return call

if where in ("write", "fsync"):
    os.fsync = killing(os.fsync, after=False)
elif where in ("replace", "replaced"):
    os.replace = killing(os.replace, after=where == "replaced")
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
mlp = cr.MLP([3, 5, 1], dropout=0.2, seed=1)
if where == "anywhere":
    signal.setitimer(signal.ITIMER_REAL, count / 1000)  # whose signal ends the process as abruptly
mlp.fit(X, X[:, 0], epochs=int(sys.argv[3]), batch_size=8, schedule="cosine", patience=4, monitor=cr.GradientFlow(),
        validation=(X[:9], X[:9, 0]), checkpoint="fit.safetensors", resume=True)
print(mlp.parameters.tobytes().hex())
"""


def test_kill_9_in_the_middle_of_a_save(tmp_path, run_python):
    """Twice: in another save, and in that of the resumed run; then what is left goes on to the same end."""
    expected = run_python("-c", KILLED_RUN, "never", 0, 6).stdout
    (tmp_path / "fit.safetensors").unlink()
    for where, count in (("write", 1), ("fsync", 5), ("replace", 2), ("replaced", 2)):
        assert run_python("-c", KILLED_RUN, where, count, 6, check=False).returncode == -9
    assert len([entry for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")]) <= 1
    assert run_python("-c", KILLED_RUN, "never", 0, 6).stdout == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["fit.safetensors"]


def test_kill_at_any_moment(tmp_path, run_python):
    """Killed after more milliseconds each time, with 120 epochs to go, until a run gets to the end."""
    expected = run_python("-c", KILLED_RUN, "never", 0, 120).stdout
    (tmp_path / "fit.safetensors").unlink()
    codes = []
    for milliseconds in range(1, 200, 9):
        run = run_python("-c", KILLED_RUN, "anywhere", milliseconds, 120, check=False)
        codes.append(run.returncode)
        if run.returncode == 0:
            break
    else:
        run = run_python("-c", KILLED_RUN, "never", 0, 120)
    assert codes[0] == -signal.SIGALRM and set(codes) <= {-signal.SIGALRM, 0}
    assert run.stdout == expected


def test_a_finished_fit_is_not_run_again_and_can_go_further(tmp_path):
    arguments = {"batch_size": 7, "checkpoint": tmp_path / "fit", "resume": True}
    expected = network().fit(X, Y, epochs=4, **arguments)
    mlp = network()
    assert mlp.fit(X, Y, epochs=4, callbacks=[lambda report: pytest.fail("trained")], **arguments) == expected
    whole = network()
    assert mlp.fit(X, Y, epochs=6, **arguments) == whole.fit(X, Y, epochs=6, batch_size=7)
    assert same_bits(mlp.parameters, whole.parameters)


def test_fewer_epochs_than_there_are_is_refused(tmp_path):
    network().fit(X, Y, epochs=4, checkpoint=tmp_path / "fit")
    mlp, optimizer = network(seed=5), cr.Adam()
    before = state(mlp, optimizer)
    with pytest.raises(ValueError, match=r"epochs is 3; expected at least the 4 of .*fit"):
        mlp.fit(X, Y, epochs=3, optimizer=optimizer, checkpoint=tmp_path / "fit", resume=True)
    assert state(mlp, optimizer) == before and mlp.seed == 5


def test_a_fit_that_a_callback_ended_stays_ended(tmp_path):
    arguments = {"epochs": 9, "checkpoint": tmp_path / "fit", "checkpoint_every": 5, "resume": True}
    mlp, twin = network(), network()
    history = mlp.fit(X, Y, callbacks=[lambda report: report.epoch == 3], **arguments)
    assert history.stopped_early and history.epochs == 3
    assert twin.fit(X, Y, **arguments) == history and same_bits(twin.parameters, mlp.parameters)


def test_a_rate_that_a_callback_set_goes_along(tmp_path):
    def run(path, die_at=None, resume=False):
        mlp, optimizer = network(), cr.SGD(lr=0.1)

        def lower(report):
            if report.epoch == 2:
                optimizer.lr = 0.01
            if report.epoch == die_at:
                raise Killed

        mlp.fit(X, Y, epochs=5, optimizer=optimizer, callbacks=[lower], checkpoint=path, resume=resume)
        return mlp.parameters.copy(), optimizer.lr

    expected, lr = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", die_at=4)
    parameters, resumed_lr = run(tmp_path / "killed", resume=True)
    assert same_bits(parameters, expected) and resumed_lr == lr == 0.01


def blocks(folder):
    """A memory map of many blocks, and an iterable of blocks."""
    path = folder / "X.npy"
    if not path.exists():
        np.save(path, X)
    return {
        "memory map": (np.load(path, mmap_mode="r"), Y),
        "iterable": ([(X[:20], Y[:20]), (X[20:], Y[20:], np.arange(30.0))], None),
    }


@pytest.mark.parametrize("source", ["memory map", "iterable"])
@pytest.mark.parametrize("limit", [None, "100GB"])
def test_a_fit_of_blocks_goes_on(tmp_path, monkeypatch, source, limit):
    """With a limit the blocks and parts of the first run are taken over, whatever the memory is now."""
    monkeypatch.setattr("chainrule.stream.BLOCK_BYTES", 14 * 4 * 4)
    arguments = {"epochs": 6, "batch_size": 7, "memory_limit": limit}
    arguments["validation"] = (X_VAL, Y_VAL)
    samples = blocks(tmp_path)[source]
    whole = network(dropout=0.3)
    for module in ("memory", "fit"):
        monkeypatch.setattr(f"chainrule.{module}.micro_batch_within_limit", lambda *_, **__: 5)
    monkeypatch.setattr("chainrule.memory.resident", lambda: 0)
    expected = whole.fit(*samples, **arguments)
    arguments |= {"checkpoint": tmp_path / "fit", "resume": True}
    with pytest.raises(Killed):
        network(dropout=0.3).fit(*samples, callbacks=[killer(3)], **arguments)
    if limit:
        monkeypatch.setattr("chainrule.stream.BLOCK_BYTES", 7 * 4 * 4)
        for module in ("memory", "fit"):
            own = lambda job, *_, **__: job.settings["micro_batch"]  # noqa: E731
            monkeypatch.setattr(f"chainrule.{module}.micro_batch_within_limit", own)
    mlp = network(dropout=0.3)
    assert mlp.fit(*blocks(tmp_path)[source], **arguments) == expected
    assert same_bits(mlp.parameters, whole.parameters)


def test_a_fit_in_memory_does_not_go_on_from_the_disk(tmp_path):
    arguments = {"epochs": 2, "memory_limit": "100GB", "checkpoint": tmp_path / "fit", "resume": True}
    network().fit(X, Y, **arguments)
    mlp = network()
    before = state(mlp)
    with pytest.raises(ValueError, match=r"was written with block_rows None; it is [0-9]+ now"):
        mlp.fit(*blocks(tmp_path)["memory map"], **arguments)
    assert state(mlp) == before


def test_what_other_files_are_written_to_is_left_alone(tmp_path):
    names = [".fit.deadbeef.tmp", ".fit.safetensors.deadbeef.tmp", ".fit.tmp", "fit.deadbeef.tmp"]
    for name in names:
        (tmp_path / name).touch()
    network().fit(X, Y, epochs=1, checkpoint=tmp_path / "fit")
    assert {entry.name for entry in tmp_path.iterdir()} == {"fit", *names[1:]}


@pytest.mark.parametrize("every", [1, 4, None])
def test_a_monitor_changes_nothing_and_goes_on(tmp_path, every):
    """It records the steps of its own call, by their numbers in the whole fit."""
    arguments = {"epochs": 5, "batch_size": 7}
    whole, plain, flow = network(dropout=0.3), network(dropout=0.3), cr.GradientFlow(every=every)
    assert whole.fit(X, Y, monitor=flow, **arguments) == plain.fit(X, Y, **arguments)
    assert same_bits(whole.parameters, plain.parameters)
    arguments |= {"checkpoint": tmp_path / "fit", "resume": True}
    with pytest.raises(Killed):
        network(dropout=0.3).fit(X, Y, monitor=cr.GradientFlow(every=every), callbacks=[killer(3)], **arguments)
    mlp, rest = network(dropout=0.3), cr.GradientFlow(every=every)
    mlp.fit(X, Y, monitor=rest, **arguments)
    assert same_bits(mlp.parameters, whole.parameters)
    done = np.flatnonzero(flow.steps > 2 * 8)
    assert np.array_equal(rest.steps, flow.steps[done])
    assert same_bits(rest.norm, flow.norm[done]) and same_bits(rest.update_ratio, flow.update_ratio[done])
    assert rest.report().layers == flow.report().layers


@pytest.mark.parametrize("source", ["arrays", "iterable"])
def test_a_monitor_of_a_fit_that_has_nothing_left_to_do(tmp_path, source):
    samples = (X, Y) if source == "arrays" else ([(X, Y)], None)
    arguments = {"epochs": 2, "checkpoint": tmp_path / "fit", "resume": True}
    network().fit(*samples, **arguments)
    flow = cr.GradientFlow()
    network().fit(*samples, monitor=flow, **arguments)
    assert len(flow.steps) == 0


@pytest.mark.parametrize("on_nonfinite", ["ignore", "stop"])
def test_steps_that_were_left_out_are_remembered(tmp_path, on_nonfinite):
    wild = Y.copy()
    wild[7] = 1e30
    arguments = {"epochs": 5, "batch_size": 7, "on_nonfinite": on_nonfinite}
    whole, mlp = network(), network()
    if on_nonfinite == "stop":  # in the midst of an epoch, which is run again
        expected = whole.fit(X, wild, **arguments)
        mlp.fit(X, wild, checkpoint=tmp_path / "fit", **arguments)
    else:
        expected = whole.fit(X, wild, **arguments)
        with pytest.raises(Killed):
            mlp.fit(X, wild, callbacks=[killer(3)], checkpoint=tmp_path / "fit", **arguments)
    mlp = network()
    history = mlp.fit(X, wild, checkpoint=tmp_path / "fit", resume=True, **arguments)
    assert expected.steps_left_out == (5 if on_nonfinite == "ignore" else 1)
    assert str(history.to_dict()) == str(expected.to_dict())
    assert same_bits(mlp.parameters, whole.parameters)


@pytest.mark.parametrize("make", [list, lambda a: np.asfortranarray(a), lambda a: a.astype("float32")])
def test_the_same_numbers_in_another_form_are_the_same_samples(tmp_path, make):
    data = X.astype("float32").astype("float64")
    arguments = {"epochs": 2, "checkpoint": tmp_path / "fit", "resume": True}
    expected = network().fit(data, Y, **arguments)
    assert network().fit(make(data), Y, **arguments) == expected


def test_sparse_samples_are_known_again(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: no sparse matrices")
    data = sparse.csr_array(np.where(X > 0.5, X, 0))
    arguments = {"epochs": 2, "checkpoint": tmp_path / "fit", "resume": True}
    expected = network().fit(data, Y, **arguments)
    assert network().fit(data.tocsc(), Y, **arguments) == expected
    data.data[-1] += 1
    with pytest.raises(ValueError, match="other X"):
        network().fit(data, Y, **arguments)


def test_samples_on_the_disk_are_known_again_by_runs_of_their_rows(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((5000, 4), "float32"))
    samples = np.load(tmp_path / "X.npy", mmap_mode="r+")
    arguments = {"y": np.zeros((5000, 2)), "epochs": 1, "checkpoint": tmp_path / "fit", "resume": True}
    network().fit(samples, **arguments)
    network().fit(samples, **arguments)
    for row in (0, 4999):
        samples[row] = 1
        with pytest.raises(ValueError, match="other X"):
            network().fit(samples, **arguments)
        samples[row] = 0


def test_going_on_waits_for_a_fit_in_another_thread(tmp_path):
    path = tmp_path / "fit.safetensors"
    whole, mlp = network(), network()
    whole.fit(X, Y, epochs=4, optimizer=cr.SGD(lr=0.1))
    mlp.fit(X, Y, epochs=2, optimizer=cr.SGD(lr=0.1), checkpoint=path)
    begun = threading.Event()
    arguments = {"epochs": 100, "callbacks": [lambda report: begun.set()]}
    other = threading.Thread(target=mlp.fit, args=(X, Y), kwargs=arguments)
    other.start()
    begun.wait()
    mlp.fit(X, Y, epochs=4, optimizer=cr.SGD(lr=0.1), checkpoint=path, resume=True)
    other.join()
    assert same_bits(mlp.parameters, whole.parameters)


def test_a_checkpoint_is_a_saved_network(tmp_path):
    mlp = network()
    mlp.fit(X, Y, epochs=3, checkpoint=tmp_path / "fit")
    twin = cr.MLP.load(tmp_path / "fit")
    assert same_bits(twin.parameters, mlp.parameters)
    assert twin.fit(X, Y, epochs=1).loss == mlp.fit(X, Y, epochs=1).loss


def test_a_file_is_written_without_a_copy(tmp_path):
    mlp = cr.MLP([500, 500, 500], seed=0)
    tracemalloc.start()
    mlp.save(tmp_path / "net")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mlp.parameters.nbytes / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "with batch_size 7; it is 8 now"),
        ({"X": X[:40], "y": Y[:40]}, "with samples 50; it is 40 now"),
        ({"shuffle": False}, "with shuffle True"),
        ({"schedule": "cosine"}, "with schedule None"),
        ({"clip_norm": 1.0}, "with clip_norm None"),
        ({"patience": 2}, "with patience None"),
        ({"micro_batch": 3}, "with micro_batch None"),
        ({"X": X + 1e-6 * (np.arange(50)[:, None] == 49)}, "with other X; expected the same"),
        ({"y": Y[::-1]}, "with other y"),
        ({"sample_weight": np.ones(50)}, "with other sample_weight"),
        ({"validation": (X_VAL, X_VAL[:, :2])}, "with other validation samples"),
        ({"optimizer": "sgd"}, "written with Adam; optimizer is SGD"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_arguments_are_refused(tmp_path, change, message):
    arguments = {"X": X, "y": Y, "epochs": 3, "batch_size": 7, "checkpoint": tmp_path / "fit", "resume": True}
    arguments["validation"] = (X_VAL, Y_VAL)
    network().fit(**arguments)
    mlp = network()
    before = state(mlp)
    with pytest.raises(ValueError, match=message):
        mlp.fit(**{**arguments, **change})
    assert state(mlp) == before


def test_another_network_is_refused(tmp_path):
    network().fit(X, Y, epochs=1, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match=r"network with layer_sizes \[4, 8, 6, 2\]; this one has \[4, 2\]"):
        cr.MLP([4, 2]).fit(X, Y, epochs=1, checkpoint=tmp_path / "fit", resume=True)
    network().save(tmp_path / "net")
    with pytest.raises(ValueError, match="is a saved network; expected a checkpoint"):
        network().fit(X, Y, epochs=1, checkpoint=tmp_path / "net", resume=True)


def test_bad_arguments():
    with pytest.raises(ValueError, match="expected a checkpoint"):
        network().fit(X, Y, epochs=1, resume=True)
    with pytest.raises(ValueError, match="checkpoint_every is 0"):
        network().fit(X, Y, epochs=1, checkpoint="fit", checkpoint_every=0)


def test_bad_data_change_nothing_on_resume(tmp_path):
    network().fit(X, Y, epochs=2, checkpoint=tmp_path / "fit")
    mlp, optimizer = network(seed=5), cr.Adam()
    before = state(mlp, optimizer)
    with pytest.raises(TypeError, match="X"):
        mlp.fit(X.astype(str), Y, epochs=3, optimizer=optimizer, checkpoint=tmp_path / "fit", resume=True)
    assert state(mlp, optimizer) == before and mlp.seed == 5


@pytest.fixture
def parts(tmp_path):
    """A checkpoint's tensors and metadata."""
    network().fit(X, Y, epochs=2, patience=5, checkpoint=tmp_path / "fit")
    with safetensors.safe_open(tmp_path / "fit", framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def hostile(parts, change):
    tensors, metadata = parts
    fit = json.loads(metadata["chainrule.fit"])
    if isinstance(change, dict):
        metadata["chainrule.fit"] = json.dumps({**fit, **change})
    else:
        change(tensors, fit)
        metadata["chainrule.fit"] = json.dumps(fit)
    return tensors, metadata


WHERE = {"cause": "overflow", "tensor": "z", "layer": 1, "row": 0, "column": 0, "value": "nan", "loss": "nan"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"steps": -1},
        {"steps_left_out": -1},
        {"non_finite": 3},
        {"non_finite": {"cause": "overflow"}},
        {"non_finite": {**WHERE, "cause": "fate"}},
        {"non_finite": {**WHERE, "cause": 3}},
        {"non_finite": {**WHERE, "cause": None}},
        {"non_finite": {**WHERE, "cause": ["overflow"]}},
        {"non_finite": {**WHERE, "row": -1}},
        {"non_finite": {**WHERE, "value": "much"}},
        {"non_finite": {**WHERE, "value": 10**400}},
        {"steps": 2**70},
        {"moments": 3},
        {"moments": [True] * 3},
        {"moments": []},
        {"settings": {"lr": "x"}},
        {"settings": {"lr": 10**400}},
        {"settings": {"unknown": 1}},
        {"settings": None},
        {"best_epoch": 3},
        {"best_epoch": 0},
        {"stopped": 1},
        {"arguments": 5},
        lambda tensors, fit: fit.pop("step"),
        lambda tensors, fit: tensors.pop("fit.best"),
        lambda tensors, fit: tensors.pop("fit.loss"),
        lambda tensors, fit: tensors.pop("fit.moment_0"),
        lambda tensors, fit: tensors["fit.best"].__setitem__(0, np.nan),
        lambda tensors, fit: tensors["fit.moment_0"].__setitem__(0, np.nan),
        lambda tensors, fit: tensors["layers.0.bias"].__setitem__(0, np.inf),
        lambda tensors, fit: tensors["fit.rate"].__setitem__(1, np.nan),
        lambda tensors, fit: tensors.__setitem__("fit.loss", np.array(3.0)),
        lambda tensors, fit: tensors.__setitem__("fit.loss", np.zeros(9)),
        lambda tensors, fit: tensors.__setitem__("fit.moment_1", np.zeros(3, "float32")),
        lambda tensors, fit: tensors.__setitem__("other", np.zeros(3)),
    ],
)
def test_hostile_checkpoints_are_refused(tmp_path, parts, change):
    tensors, metadata = hostile(parts, change)
    path = tmp_path / "fit"
    pathlib.Path(path).write_bytes(safetensors.save(tensors, metadata))
    mlp, optimizer = network(seed=5), cr.Adam()
    before = state(mlp, optimizer)
    with pytest.raises(ValueError):
        mlp.fit(X, Y, epochs=3, patience=5, optimizer=optimizer, checkpoint=path, resume=True)
    assert state(mlp, optimizer) == before


def test_a_fit_that_goes_on_keeps_to_its_memory_limit_or_is_refused(tmp_path):
    """The file was written without a limit, and the whole batch at once takes more."""
    X, y = np.ones((3000, 50), np.float32), np.ones((3000, 1), np.float32)
    arguments = {"batch_size": 3000, "checkpoint": tmp_path / "fit"}

    def wide():
        return cr.MLP([50, 550, 550, 550, 550, 1], seed=0)

    wide().fit(X, y, epochs=1, **arguments)
    limit = memory.resident() + 72_000_000
    other = {"batch_size": 3000, "checkpoint": tmp_path / "other"}
    assert wide().fit(X, y, epochs=1, memory_limit=limit, **other).micro_batch < 3000
    mlp = wide()
    before = mlp.parameters.copy()
    with pytest.raises(ValueError, match=r"goes on with micro_batch None, for which that is too little"):
        mlp.fit(X, y, epochs=2, memory_limit=limit, resume=True, **arguments)
    assert same_bits(mlp.parameters, before)
