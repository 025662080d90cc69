"""Networks as C99 headers, for machines without Python, without a heap, without an operating system."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule import _core
from chainrule._arguments import boolean, file_path
from chainrule.serialization import check_finite, write_atomically

if TYPE_CHECKING:
    from chainrule.mlp import MLP

# σ(z), and σ' from a = σ(z), or from z where NEEDS_Z says so. p is the parameter, F the suffix of math.h's functions,
# and number@ a constant of the network's type.
VALUES = {
    "sigmoid": "1 / (1 + expF(-z))",
    "tanh": "tanhF(z)",
    "relu": "z < 0 ? 0 : z",
    "leaky_relu": "z > 0 ? z : p * z",
    "elu": "z > 0 ? z : p * expm1F(z)",
    "selu": "z > 0 ? 1.0507009873554805@ * z : 1.7580993408473766@ * expm1F(z)",
    "gelu": "z * 0.5@ * erfcF(-z * 0.7071067811865476@)",
    "silu": "z / (1 + expF(-z))",
    "softplus": "(z > 0 ? z : 0) + log1pF(expF(-fabsF(z)))",
    "exp": "expF(z)",
}
SLOPES = {
    "sigmoid": "a * (1 - a)",
    "tanh": "1 - a * a",
    "relu": "a > 0 ? 1 : 0",
    "leaky_relu": "a > 0 ? 1 : p",
    "elu": "a > 0 ? 1 : a + p",
    "selu": "a > 0 ? 1.0507009873554805@ : a + 1.7580993408473766@",
    "gelu": "0.5@ * erfcF(-z * 0.7071067811865476@) + z * 0.3989422804014327@ * expF(-z * z / 2)",
    "silu": "(1 + z / (1 + expF(z))) / (1 + expF(-z))",
    "softplus": "-expm1F(-a)",
    "exp": "a",
}
NEEDS_Z = {"gelu", "silu"}
# For output i of the OUTPUTS: what adds to the loss, and dL/dz_L where LOGITS says so, else dL/da_L. z, a, y are its
# own, p is a loss's parameter.
LOSSES = {
    "mse": ("(a - y) * (a - y)", "2 * (a - y)"),
    "mae": ("fabsF(a - y)", "a > y ? 1 : a < y ? -1 : 0"),
    "huber": (
        "fabsF(a - y) > p ? p * (fabsF(a - y) - p / 2) : (a - y) * (a - y) / 2",
        "a - y > p ? p : a - y < -p ? -p : a - y",
    ),
    "quantile": ("y > a ? p * (y - a) : (p - 1) * (y - a)", "y > a ? -p : y < a ? 1 - p : 0"),
    "bce": ("(1 - y) * z + (z < 0 ? -z : 0) + log1pF(expF(-fabsF(z)))", "1 / (1 + expF(-z)) - y"),
    "poisson": ("expF(z) - y * z", "expF(z) - y"),
}
LOGITS = {"bce", "poisson", "cross_entropy"}

AFFINE = """\
/* z = a W + b, with W (inputs, outputs) by rows and b behind it */
static inline void NAME_affine(int inputs, int outputs, const REAL *Wb, const REAL *a, REAL *z) {
  const REAL *b = Wb + inputs * outputs;
  for (int j = 0; j < outputs; ++j) z[j] = b[j];
  for (int i = 0; i < inputs; ++i)
    for (int j = 0; j < outputs; ++j) z[j] += a[i] * Wb[i * outputs + j];
}
"""
SOFTMAX = """\
/* a = softmax(z); returns ln sum exp(z) */
static inline REAL NAME_softmax(int n, const REAL *z, REAL *a) {
  REAL top = z[0], sum = 0;
  for (int i = 1; i < n; ++i)
    if (z[i] > top) top = z[i];
  const REAL shift = top;
  for (int i = 0; i < n; ++i) sum += a[i] = expF(z[i] - shift);
  for (int i = 0; i < n; ++i) a[i] /= sum;
  return shift + logF(sum);
}
"""
DESCEND = """\
/* below = W delta, and then W -= lr a delta, b -= lr delta; without below where there is no layer below */
static inline void NAME_descend(int inputs, int outputs, REAL *Wb, const REAL *a, const REAL *delta, REAL *below,
                                REAL lr) {
  for (int i = 0; i < inputs; ++i) {
    REAL sum = 0;
    for (int j = 0; j < outputs; ++j) {
      sum += Wb[i * outputs + j] * delta[j];
      Wb[i * outputs + j] -= lr * a[i] * delta[j];
    }
    if (below) below[i] = sum;
  }
  for (int j = 0; j < outputs; ++j) Wb[inputs * outputs + j] -= lr * delta[j];
}
"""


@dataclass(frozen=True)
class Footprint:
    """Memory that an exported network takes, in bytes.

    Attributes
    ----------
    flash : int
        The constant parameters; the code comes on top.
    stack : int
        The arrays of ``predict``.
    state : int
        What ``step`` works on; 0 for a network that is not trained there.
    """

    flash: int
    stack: int
    state: int

    def __str__(self) -> str:
        text = f"flash: {self.flash:,} bytes of parameters; RAM: {self.stack:,} bytes of stack to predict"
        return text + (f", {self.state:,} bytes of state to train" if self.state else "")


def export(mlp: MLP, path: str | os.PathLike[str], train: bool) -> Footprint:
    """Write the header, whole or not at all."""
    path = file_path("path", path)
    name = Path(path).stem
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"path ends in {os.path.basename(path)!r}; expected a name that is a C identifier without its suffix, such "
            "as model.h"
        )
    train = boolean("train", train)
    if train and any(mlp.dropout):
        raise ValueError("train is True; a network with dropout can be exported with train=False only")
    for parameter, values in mlp.named_parameters():
        check_finite(parameter, values)
    header = Header(mlp, name, train)
    write_atomically(path, header.text().encode())
    return header.footprint


class Header:
    """The parts of a header, in the names of the network's own algorithm."""

    def __init__(self, mlp: MLP, name: str, train: bool) -> None:
        self.mlp, self.name, self.train = mlp, name, train
        self.suffix, self.real = ("f", "float") if mlp.dtype == np.float32 else ("", "double")
        self.activations = mlp._model.activations
        self.layers = list(pairwise(mlp.layer_sizes))
        self.offsets = [0, *np.cumsum([(d_in + 1) * d_out for d_in, d_out in self.layers]).tolist()]
        hidden = mlp.layer_sizes[1:-1]
        self.kept = dict(self.arrays_kept()) if train else {}
        self.buffers = sorted(hidden, reverse=True)[:1] * min(2, len(hidden))
        itemsize = mlp.dtype.itemsize
        self.footprint = Footprint(
            mlp.n_parameters * itemsize,
            sum(self.buffers) * itemsize,
            (mlp.n_parameters + sum(self.kept.values())) * itemsize if train else 0,
        )

    def arrays_kept(self) -> list[tuple[str, int]]:
        """Return what a step keeps, with the lengths: all a_l, z_l where it is needed, and δ of two layers."""
        last = self.mlp.n_layers
        widths = list(enumerate(self.mlp.layer_sizes))[1:]
        a = [(f"a_{layer}", width) for layer, width in widths]
        z = [
            (f"z_{layer}", width)
            for layer, width in widths
            if layer == last or self.activations[layer - 1].name in NEEDS_Z
        ]
        widest = max(self.mlp.layer_sizes[1:])
        return [*a, *z, ("delta", widest), ("below", widest)]

    def text(self) -> str:
        """Return the whole header."""
        mlp, guard = self.mlp, f"{self.name.upper()}_H"
        functions = [self.predict()]
        if self.train:
            functions += [self.state(), self.step()]
        parts = [
            f"/* {mlp!r}\n   Written by chainrule {_core.config()['version']}. C99, no heap, math.h alone.\n"
            f"   {self.footprint}; the code comes on top. */",
            f"#ifndef {guard}\n#define {guard}\n\n#include <math.h>\n",
            f"#define {self.name.upper()}_INPUTS {mlp.layer_sizes[0]}\n"
            f"#define {self.name.upper()}_OUTPUTS {mlp.layer_sizes[-1]}\n"
            f"#define {self.name.upper()}_PARAMETERS {mlp.n_parameters}\n",
            self.parameters(),
            self.fill(AFFINE),
            *self.activation_functions(),
            *functions,
            f"#endif /* {guard} */\n",
        ]
        return "\n".join(parts)

    def fill(self, code: str) -> str:
        """Put name, type and constants into a piece of code."""
        code = re.sub(r"([0-9.]+)@", lambda match: self.number(float(match[1])), code)
        return re.sub(r"\b(\w+)F\(", rf"\1{self.suffix}(", code).replace("REAL", self.real).replace("NAME", self.name)

    def number(self, value: float) -> str:
        """Return the shortest literal that is read as this very number."""
        return str(self.mlp.dtype.type(value)) + self.suffix

    def parameters(self) -> str:
        """Return the constants W_1, b_1, W_2, b_2, ..."""
        literals = [f"{value}{self.suffix}" for value in map(str, self.mlp.parameters)]
        lines = [", ".join(literals[i : i + 8]) for i in range(0, len(literals), 8)]
        values = ",\n  ".join(lines)
        return (
            "/* W_1, b_1, W_2, b_2, ...; W_l by rows, a row for each input */\n"
            f"static const {self.real} {self.name}_parameters[{len(literals)}] = {{\n  {values}\n}};\n"
        )

    def activation_functions(self) -> list[str]:
        """Return a function for each kind of activation, and for its slope."""
        parts = []
        kinds = {activation.name: activation for activation in self.activations}
        used = {kind: activation.parameter is not None for kind, activation in kinds.items()}
        for kind, has_parameter in used.items():
            argument = ", REAL p" if has_parameter else ""
            if kind in VALUES:
                parts.append(f"static inline REAL NAME_{kind}(REAL z{argument}) {{\n  return {VALUES[kind]};\n}}\n")
            if self.train and kind in SLOPES:
                given = "z" if kind in NEEDS_Z else "a"
                parts.append(
                    f"static inline REAL NAME_{kind}_slope(REAL {given}{argument}) {{\n  return {SLOPES[kind]};\n}}\n"
                )
        if "softmax" in used or (self.train and self.mlp.loss.name == "cross_entropy"):
            parts.append(SOFTMAX)
        if self.train:
            parts.append(DESCEND)
        return [self.fill(part) for part in parts]

    def activate(self, layer: int, z: str, a: str) -> list[str]:
        """Return the lines for a = σ(z) of layer l = 1 ... L."""
        activation, width = self.activations[layer - 1], self.mlp.layer_sizes[layer]
        if activation.name == "softmax":
            return [f"{self.name}_softmax({width}, {z}, {a});"]
        if activation.name == "identity":
            return [] if a == z else [f"for (int i = 0; i < {width}; ++i) {a}[i] = {z}[i];"]
        return [f"for (int i = 0; i < {width}; ++i) {a}[i] = {self.call(activation, f'{z}[i]')};"]

    def call(self, activation: _core.Activation, argument: str, what: str = "") -> str:
        """Return the call of an activation or its slope."""
        parameter = "" if activation.parameter is None else f", {self.number(activation.parameter)}"
        return f"{self.name}_{activation.name}{what}({argument}{parameter})"

    def affine(self, layer: int, parameters: str, a: str, z: str) -> str:
        """Return the line for z_l."""
        d_in, d_out = self.layers[layer - 1]
        return f"{self.name}_affine({d_in}, {d_out}, {parameters} + {self.offsets[layer - 1]}, {a}, {z});"

    def predict(self) -> str:
        """Return the function that computes a_L from the constants."""
        lines = [f"{self.real} buffer_{i}[{width}];" for i, width in enumerate(self.buffers)]
        a = "x"
        for layer in range(1, self.mlp.n_layers + 1):
            z = "output" if layer == self.mlp.n_layers else f"buffer_{layer % len(self.buffers)}"
            lines += [self.affine(layer, f"{self.name}_parameters", a, z), *self.activate(layer, z, z)]
            a = z
        return function(
            "The outputs for one sample: x of INPUTS, output of OUTPUTS numbers.",
            f"static inline void {self.name}_predict(const {self.real} *x, {self.real} *output)",
            lines,
        )

    def state(self) -> str:
        """Return the buffer of the caller's, how it starts, and what it predicts."""
        lines = [f"for (int i = 0; i < {self.mlp.n_parameters}; ++i) state->parameters[i] = {self.name}_parameters[i];"]
        arrays = "".join(f"  {self.real} {name}[{length}];\n" for name, length in self.kept.items())
        struct = (
            f"/* The caller's buffer: parameters that change, and room for one sample. */\ntypedef struct {{\n"
            f"  {self.real} parameters[{self.mlp.n_parameters}];\n{arrays}"
            f"}} {self.name}_state;\n\n"
        )
        start = function(
            "Starts from the constants.", f"static inline void {self.name}_start({self.name}_state *state)", lines
        )
        return struct + start + "\n" + self.forward()

    def forward(self) -> str:
        """Return the forward pass of a state, which keeps all that the backward pass needs."""
        lines = []
        a = "x"
        for layer in range(1, self.mlp.n_layers + 1):
            z = "state->" + (f"z_{layer}" if f"z_{layer}" in self.kept else f"a_{layer}")
            lines.append(self.affine(layer, "state->parameters", a, z))
            a = f"state->a_{layer}"
            lines += self.activate(layer, z, a)
        return function(
            "The outputs for one sample, by the state's parameters: OUTPUTS numbers in the state.",
            f"static inline const {self.real} *{self.name}_forward({self.name}_state *state, const {self.real} *x)",
            [*lines, f"return {a};"],
        )

    def step(self) -> str:
        """Return the function that takes a step on one sample."""
        last = self.mlp.n_layers
        lines = self.output_delta()
        for layer in range(last, 0, -1):
            d_in, d_out = self.layers[layer - 1]
            a = "x" if layer == 1 else f"state->a_{layer - 1}"
            below = "0" if layer == 1 else "below"
            lines.append(
                f"{self.name}_descend({d_in}, {d_out}, state->parameters + {self.offsets[layer - 1]}, {a}, delta, "
                f"{below}, lr);"
            )
            if layer > 1:
                lines += [*self.times_slope(layer - 1, "below"), "above = delta, delta = below, below = above;"]
        declarations = {
            "output": f"const {self.real} *output = state->a_{last};",
            "logits": f"const {self.real} *logits = state->z_{last};",
            "delta": f"{self.real} *delta = state->delta;",
            "below": f"{self.real} *below = state->below, *above;",
            "loss": f"{self.real} loss = 0;",
        }
        used = [line for name, line in declarations.items() if any(re.search(rf"\b{name}\b", each) for each in lines)]
        lines = [f"{self.name}_forward(state, x);", *used, *lines]
        return function(
            f"One step of gradient descent on one sample, y of {self.targets()} numbers. Returns the loss before it.",
            f"static inline {self.real} {self.name}_step({self.name}_state *state, const {self.real} *x, "
            f"const {self.real} *y, {self.real} lr)",
            [*lines, "return loss;"],
        )

    def times_slope(self, layer: int, delta: str) -> list[str]:
        """Return the lines that multiply dL/da_l by σ'."""
        activation, width = self.activations[layer - 1], self.mlp.layer_sizes[layer]
        if activation.name == "identity":
            return []
        if activation.name == "softmax":
            return [
                f"{self.real} product = 0;",
                f"for (int i = 0; i < {width}; ++i) product += {delta}[i] * output[i];",
                f"for (int i = 0; i < {width}; ++i) {delta}[i] = output[i] * ({delta}[i] - product);",
            ]
        of = f"state->{'z' if activation.name in NEEDS_Z else 'a'}_{layer}"
        return [f"for (int i = 0; i < {width}; ++i) {delta}[i] *= {self.call(activation, f'{of}[i]', '_slope')};"]

    def targets(self) -> int:
        """Return how many targets a sample has."""
        loss = self.mlp.loss
        return self.mlp.layer_sizes[-1] // (len(loss.parameters) if loss.name == "quantile" else 1)

    def output_delta(self) -> list[str]:
        """Return the lines for the loss and delta = δ_L."""
        loss, width = self.mlp.loss, self.mlp.layer_sizes[-1]
        if loss.name == "cross_entropy":
            return [
                f"{self.real} mass = 0;",
                f"const {self.real} log_sum = {self.name}_softmax({width}, logits, delta);",
                f"for (int i = 0; i < {width}; ++i) mass += y[i], loss += y[i] * (log_sum - logits[i]);",
                f"for (int i = 0; i < {width}; ++i) delta[i] = delta[i] * mass - y[i];",
            ]
        value, slope = LOSSES[loss.name]
        names = {"y": "y[i]", "a": "output[i]", "z": "logits[i]", "p": ""}
        before: list[str] = []
        if loss.name == "quantile":
            literals = ", ".join(self.number(tau) for tau in loss.parameters)
            count = len(loss.parameters)
            before = [f"static const {self.real} tau[{count}] = {{{literals}}};"]
            names |= {"y": f"y[i / {count}]", "p": f"tau[i % {count}]"}
        elif loss.parameters:
            names["p"] = self.number(loss.parameters[0])
        value, slope = (re.sub(r"\b[ayzp]\b", lambda match: names[match[0]], self.fill(e)) for e in (value, slope))
        lines = [
            *before,
            f"for (int i = 0; i < {width}; ++i) {{",
            f"  loss += ({value}) / {width};",
            f"  delta[i] = ({self.real})({slope}) / {width};",
            "}",
        ]
        return lines if loss.name in LOGITS else [*lines, *self.times_slope(self.mlp.n_layers, "delta")]


def function(comment: str, signature: str, lines: list[str]) -> str:
    """Return a function's text."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"/* {comment} */\n{signature} {{\n{body}\n}}\n"
