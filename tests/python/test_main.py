"""python -m chainrule: the demonstration, its options, its seed, and Ctrl-C."""

import pathlib
import re
import signal
import subprocess
import sys

import pytest

import chainrule as cr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """demo(*options): what a run of the demonstration printed; a skip where packages of the extra 'demo' are missing.
    Runs are shared by the tests, but for those asked for with fresh=True."""
    runs = {}

    def shared(*options, fresh=False):
        if fresh or options not in runs:
            runs[options] = run(*options)
        return runs[options]

    def run(*options):
        process = subprocess.run(
            [sys.executable, "-m", "chainrule", *map(str, options)],
            capture_output=True,
            text=True,
            timeout=200,
            cwd=tmp_path_factory.mktemp("demo"),
            check=False,
        )
        if process.returncode and "chainrule[demo]" in process.stderr:
            pytest.skip(process.stderr.strip())
        assert process.returncode == 0, process.stdout + process.stderr
        assert "Traceback" not in process.stderr
        return process

    return shared


def figures(text):
    """Every number that the seed decides: losses, predictions, accuracies and gradients, but no times."""
    without_times = re.sub(r"[\d.,]+ ?(µs|ms|s|seconds)\b", "", text)
    return re.findall(r"\d+\.\d+(?:e[-+]\d+)?", without_times)


def losses_of(text):
    return [float(value) for value in re.findall(r"loss[ =:]+(\d+\.\d+)", text)]


def accuracy_of(text):
    """The last share on a line that speaks of accuracy, between 0 and 1."""
    lines = [line for line in text.splitlines() if "accuracy" in line.lower()]
    value, percent = re.findall(r"(\d+\.\d+) ?(%?)", lines[-1])[-1]
    return float(value) / (100 if percent else 1)


QUICK = ("--quick", "--seed", 3)


def test_quick_run_shows_everything(demo):
    out = demo(*QUICK).stdout
    assert len(losses_of(out)) >= 2
    assert accuracy_of(out) > 0.8
    assert re.search(r"layers\.0\.weight +\S*\d", out), "the gradient-flow table"


def test_seed_decides_the_figures(demo):
    first, again = demo(*QUICK).stdout, demo(*QUICK, fresh=True).stdout
    assert len(figures(first)) > 10
    assert figures(first) == figures(again)
    assert figures(first) != figures(demo("--quick", "--seed", 4).stdout)


def test_quiet_prints_results_only(demo):
    loud, quiet = demo(*QUICK), demo(*QUICK, "--quiet")
    assert 0 < len(quiet.stdout.splitlines()) < len(loud.stdout.splitlines())
    assert accuracy_of(quiet.stdout) == accuracy_of(loud.stdout)
    assert quiet.stderr == ""


def test_full_run_learns_xor_and_the_digits(demo):
    out = demo().stdout
    xor = losses_of(out)[:5]
    assert xor[0] > 0.6 and min(losses_of(out)) < 0.1
    assert accuracy_of(out) >= 0.97


def test_help(run_python):
    text = run_python("-m", "chainrule", "--help").stdout
    for option in ("--help", "--seed", "--quick", "--quiet", "--cmake-dir"):
        assert option in text


def test_version(run_python):
    assert cr.__version__ in run_python("-m", "chainrule", "--version").stdout


def test_cmake_directory_holds_the_package_file(run_python, distribution):
    (line,) = run_python("-m", "chainrule", "--cmake-dir").stdout.splitlines()
    assert list(pathlib.Path(line).glob("chainrule*onfig.cmake"))


@pytest.mark.parametrize("options", [["--sed", "x"], ["--seed", "abc"], ["--seed"], ["extra"]], ids=" ".join)
def test_wrong_options(run_python, options):
    done = run_python("-m", "chainrule", *options, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_seed_out_of_range_is_said_in_a_line(run_python, seed):
    done = run_python("-m", "chainrule", "--quick", f"--seed={seed}", check=False)
    assert done.returncode != 0
    assert "seed" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_is_a_clean_exit():
    code = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('chainrule', run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in err
