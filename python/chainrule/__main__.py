"""The demonstration: ``python -m chainrule`` learns XOR, then handwritten digits."""

import argparse
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import _core
from chainrule._extras import optional_package

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
DEFAULT_SEED = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        code = run(parser().parse_args(argv))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # What is still in the buffer would fail again when the interpreter flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def parser() -> argparse.ArgumentParser:
    """Describe the options."""
    options = argparse.ArgumentParser(
        prog="python -m chainrule",
        description="Train a network on XOR, then one on handwritten digits, and show how their gradients flow.",
    )
    options.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help="of all weights and orders (default: %(default)s)"
    )
    options.add_argument("--quick", action="store_true", help="a tenth of the epochs, to see that it runs")
    options.add_argument("--quiet", action="store_true", help="print results only: no progress, no curve, no table")
    options.add_argument("--cmake-dir", action="store_true", help="print where CMake finds the C++ library, and exit")
    options.add_argument("--version", action="version", version=f"chainrule {cr.__version__}")
    return options


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for."""
    if not 0 <= options.seed < 2**64:
        print(f"--seed is {options.seed}; expected an integer from 0 to 2**64 - 1", file=sys.stderr)
        return 2
    if options.cmake_dir:
        return print_cmake_dir()
    learn_xor(options.seed, epochs=500 if options.quick else 5000, quiet=options.quiet)
    print()
    try:
        learn_digits(options.seed, epochs=3 if options.quick else 30, quiet=options.quiet)
    except ImportError as error:
        print(f"The digits: {error}", file=sys.stderr)
        return 1
    return 0


def learn_xor(seed: int, epochs: int, quiet: bool) -> None:
    """Train 2-4-1 sigmoid units on XOR by plain gradient descent.

    Xavier's initialisation is wide enough here. From N(0, 0.1²) all hidden units start nearly alike, and most runs
    still sit at the saddle, predicting 0.5 for everything, after 5,000 epochs.
    """
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = np.array([0, 1, 1, 0])
    mlp = cr.MLP([2, 4, 1], hidden_activation="sigmoid", loss="bce", init="xavier", dtype="float64", seed=seed)

    def show(epoch: int, loss: float) -> None:
        predictions = " ".join(f"{p:.3f}" for p in mlp.predict(X).ravel())
        print(f"epoch {epoch:5,}  loss {loss:.4f}  predictions {predictions}", flush=True)

    def show_some(report: cr.EpochReport) -> None:
        if report.epoch % (epochs // 5) == 0 and report.epoch < epochs:
            show(report.epoch, mlp.evaluate(X, y))

    print(f"XOR: {mlp}")
    print(f"Xavier initialisation, seed {seed}; gradient descent, lr 0.5, all four samples a step, {epochs:,} epochs")
    if not quiet:
        show(0, mlp.evaluate(X, y))
    mlp.fit(
        X,
        y,
        epochs=epochs,
        batch_size=4,
        shuffle=False,
        optimizer=cr.SGD(lr=0.5),
        callbacks=[] if quiet else [show_some],
    )
    show(epochs, mlp.evaluate(X, y))
    learnt = np.array_equal(mlp.predict(X).ravel() > 0.5, y == 1)
    print("All four predictions are right." if learnt else "Not all four predictions are right yet.")


def learn_digits(seed: int, epochs: int, quiet: bool) -> None:
    """Train a classifier on the UCI digits, 1,797 pictures of 8 by 8 pixels from 0 to 16."""
    datasets = optional_package("sklearn.datasets", "demo")
    selection = optional_package("sklearn.model_selection", "demo")
    plotille = optional_package("plotille", "demo")

    X, y = datasets.load_digits(return_X_y=True)
    X = X / 16
    X_rest, X_test, y_rest, y_test = selection.train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)
    X_train, X_val, y_train, y_val = selection.train_test_split(
        X_rest, y_rest, test_size=0.2, random_state=0, stratify=y_rest
    )
    mlp = cr.MLP([64, 256, 10], loss="cross_entropy", seed=seed)
    print(f"Digits: {mlp}")
    print(f"{len(X_train):,} pictures to train on, {len(X_val)} to validate, {len(X_test)} to test; {epochs} epochs")

    start = time.perf_counter()
    history = mlp.fit(
        X_train,
        y_train,
        epochs=epochs,
        optimizer=cr.AdamW(lr=1e-2),
        schedule="one_cycle",
        validation=(X_val, y_val),
        progress=not quiet,
    )
    seconds = time.perf_counter() - start
    accuracy = np.mean(mlp.predict(X_test).argmax(axis=1) == y_test)

    if not quiet:
        print(f"\n{loss_curve(plotille, history)}\n")
    print(f"trained in {seconds:.2f} s; test accuracy {accuracy:.1%}")
    if not quiet:
        mlp.forward(X_train)
        mlp.backward(y_train)
        print(f"\nGradient flow after training, over all {len(X_train):,} training pictures\n\n{mlp.gradient_flow()}")


def loss_curve(plotille: Any, history: cr.History) -> str:
    """Draw the losses over the epochs as text, on a log scale; in ASCII, which every terminal shows."""
    figure = plotille.Figure()
    figure.width, figure.height = 60, 12
    figure.with_colors = False
    figure.origin = False
    figure.x_label, figure.y_label = "epoch", "loss"
    figure.x_ticks_fkt = lambda epoch, _: f"{epoch:.0f}"
    figure.y_ticks_fkt = lambda log_loss, _: f"{10**log_loss:.2g}"
    figure.set_x_limits(1, max(2, history.epochs))
    epochs = list(range(1, history.epochs + 1))
    figure.scatter(epochs, np.log10(history.validation_loss).tolist(), marker="o")
    figure.scatter(epochs, np.log10(history.loss).tolist(), marker="*")
    blank_dots = "\N{BRAILLE PATTERN BLANK}"
    lines = figure.show().replace(blank_dots, " ").splitlines()
    return "\n".join(["* training loss, o validation loss", *(line.rstrip() for line in lines)])


def print_cmake_dir() -> int:
    """Print the folder of chainruleConfig.cmake, for CMAKE_PREFIX_PATH or chainrule_DIR."""
    for folder in {*cr.__path__, os.path.dirname(_core.__file__)}:
        for config in Path(folder).rglob("chainruleConfig.cmake"):
            print(config.parent)
            return 0
    print("this installation holds no CMake package; install the C++ library with cmake --install", file=sys.stderr)
    return 1


if __name__ == "__main__":
    exit_code = main()
    if exit_code == EXIT_INTERRUPTED:
        # Where the interrupt came inside exec, as in many an import, sys.exit would end by the signal instead.
        if sys.stdout is not None:
            sys.stdout.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
