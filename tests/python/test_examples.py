"""The programs in examples/: what they compute, and that they run as scripts."""

import re
import runpy

import numpy as np
import pytest


@pytest.fixture
def example(root):
    """example(name): the names that examples/<name>.py defines, main() among them."""
    return lambda name: runpy.run_path(str(root / "examples" / f"{name}.py"))


class TestXorManual:
    def test_the_textbook_loop_learns_xor(self, example, capsys):
        loss = example("xor_manual")["main"]()
        out = capsys.readouterr().out
        assert loss < 0.01
        losses = [float(text) for text in re.findall(r"loss ([\d.]+)", out)]
        assert len(losses) == 6 and losses == sorted(losses, reverse=True)
        assert losses[-1] == pytest.approx(loss, abs=1e-4)
        last = re.findall(r"predictions \[(.*?)\]", out)[-1]
        assert np.array(last.split(), float).round().tolist() == [0, 1, 1, 0]

    @pytest.mark.parametrize("seed", [1, 2])
    def test_other_seeds(self, example, seed, capsys):
        assert example("xor_manual")["main"](seed=seed) < 0.01
        assert "epoch" in capsys.readouterr().out

    def test_the_chain_rule_holds_between_what_it_prints(self, example, capsys):
        example("xor_manual")["main"](epochs=100)
        differences = [float(text) for text in re.findall(r"largest difference (\S+)", capsys.readouterr().out)]
        assert len(differences) == 2 and max(differences) <= 1e-16

    def test_as_a_script(self, root, run_python):
        out = run_python(root / "examples" / "xor_manual.py", "--seed", 1).stdout
        assert out.count("epoch") >= 6
        assert out == run_python(root / "examples" / "xor_manual.py", "--seed", 1).stdout


class TestCompareTorch:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_gradients_agree_to_rounding(self, torch_reference, example, seed, capsys):
        worst = example("compare_torch")["main"](seed=seed)
        out = capsys.readouterr().out
        assert worst <= 1e-12
        rows = re.findall(r"^(layers\.\d\.\w+) +(\S+) +(\S+) +\S+$", out, re.MULTILINE)
        assert [name for name, _, _ in rows] == [
            f"layers.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")
        ]
        for _, here, there in rows:
            assert float(here) == pytest.approx(float(there), rel=1e-12, abs=2e-15)
        (before, after) = re.findall(r"loss.*: (\S+) here, (\S+) in PyTorch", out)
        assert float(before[0]) == pytest.approx(float(before[1]), rel=1e-12)
        assert float(after[0]) == pytest.approx(float(after[1]), rel=1e-12)
        assert float(after[0]) < float(before[0])


class TestGradientFlow:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_sigmoid_vanishes_and_the_cures_do_not(self, example, seed, capsys):
        reports = example("gradient_flow")["main"](seed=seed)
        out = capsys.readouterr().out

        def left_after_five_layers(activation):
            rows = {row.name: row.mean_abs for row in reports[activation].parameters}
            return rows["layers.0.weight"] / rows["layers.5.weight"]

        assert left_after_five_layers("sigmoid") < 0.05
        assert left_after_five_layers("tanh") > 0.3
        assert left_after_five_layers("relu") > 0.3
        weights = [row.mean_abs for row in reports["sigmoid"].parameters if row.name.endswith("weight")]
        assert len(weights) == 7 and weights[:6] == sorted(weights[:6])
        assert all(str(report) in out for report in reports.values())

    def test_picture(self, example, axes, tmp_path, capsys):
        example("gradient_flow")["main"](plot=tmp_path / "flow.png")
        assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")
        assert "layers.0.weight" in capsys.readouterr().out


class TestCostOfGradients:
    def test_numbers(self, example, capsys):
        """Only the counts are exact; of times, only what the algorithm implies by orders of magnitude."""
        cost = example("cost_of_gradients")["main"](batch=16, repeats=50)
        out = capsys.readouterr().out
        assert 9_000 <= cost["parameters"] <= 11_000
        assert cost["forward_passes"] == 2 * cost["parameters"]
        assert cost["max_relative_error"] < 1e-6
        assert 0 < cost["backward_to_forward"] < 20
        passes_saved = cost["forward_passes"] / (1 + cost["backward_to_forward"])
        assert passes_saved / 100 < cost["speedup"] < passes_saved * 100
        assert cost["large_central_seconds"] > 1e6 * cost["large_backprop_seconds"]
        assert "100,000,000" in out


@pytest.mark.parametrize("name", ["xor_manual", "compare_torch", "gradient_flow", "cost_of_gradients"])
def test_examples_run_as_scripts(name, root, run_python, request):
    if name == "compare_torch":
        request.getfixturevalue("torch_reference")
    done = run_python("-W", "error", root / "examples" / f"{name}.py")
    assert len(done.stdout.splitlines()) >= 5 and done.stderr == ""
