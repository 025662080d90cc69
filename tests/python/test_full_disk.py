"""Whatever is written: when the disk is full, the old file stays and nothing lies beside it."""

import errno
import os

import numpy as np
import pytest
from helpers import same_bits

import chainrule as cr

ROADS = {  # file: the packages to write it, how to
    "network": (["safetensors"], "mlp.save('network')"),
    "network.h": ([], "mlp.export_c('network.h', train=True)"),
    "network.onnx": (["onnx"], "mlp.to_onnx('network.onnx')"),
    "fit": (["safetensors"], "mlp.fit(np.ones((4, 100)), np.ones((4, 100)), epochs=1, checkpoint='fit')"),
}


@pytest.fixture(params=ROADS)
def road(request, tmp_path, monkeypatch):
    """A file of a small network, and the code that writes that of a larger one in its place."""
    packages, code = ROADS[request.param]
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed: nothing is written")
    monkeypatch.chdir(tmp_path)
    exec(code, {"mlp": cr.MLP([100, 1, 100], seed=0), "np": np})
    return tmp_path / request.param, code


def test_a_limit_on_files(road, run_python):
    pytest.importorskip("resource", reason="no limits on files here")
    file, code = road
    old = file.read_bytes()
    script = f"""
import resource
import numpy as np
import chainrule as cr
mlp = cr.MLP([100, 100, 100], seed=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    {code}
except OSError as error:
    print(error)
"""
    assert 0 < len(old) < 20000
    said = run_python("-c", script).stdout
    assert said.strip() == f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: {str(file)!r}"
    assert file.read_bytes() == old and list(file.parent.iterdir()) == [file]


def test_no_space_when_the_file_is_flushed(road, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file, code = road
    old = file.read_bytes()
    mlp = cr.MLP([100, 100, 100], seed=0)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        exec(code, {"mlp": mlp, "np": np})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(file)
    assert file.read_bytes() == old and list(file.parent.iterdir()) == [file]
    if file.name != "fit":
        assert same_bits(mlp.parameters, cr.MLP([100, 100, 100], seed=0).parameters)
    monkeypatch.undo()
    os.chdir(file.parent)
    exec(code, {"mlp": mlp, "np": np})
    assert file.read_bytes() != old
