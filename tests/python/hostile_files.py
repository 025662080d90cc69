"""Writes tests/files: one good file, and files that no reader may take, in Python or in C++. Run it to renew them."""

import json
import pathlib
import struct

import numpy as np

import chainrule as cr

FILES = pathlib.Path(__file__).resolve().parents[1] / "files"


def pack(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write_all():
    mlp = cr.MLP([2, 3, 1], hidden_activation=cr.ELU(0.5), loss="bce", dropout=0.25, seed=2**63 + 1)
    mlp.fit(np.eye(2), [0, 1], epochs=2)
    good = FILES / "good.safetensors"
    mlp.save(good)
    (FILES / "good.outputs").write_bytes(mlp.predict(np.eye(2)).tobytes())
    raw = good.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    data = raw[8 + size :]

    def changed(change=None, describe=None):
        header = json.loads(raw[8 : 8 + size])
        if change:
            change(header)
        if describe:
            description = json.loads(header["__metadata__"]["chainrule"])
            describe(description)
            header["__metadata__"]["chainrule"] = json.dumps(description)
        return pack(header, data)

    def offsets(name, *values):
        return changed(lambda h: h[name].update(data_offsets=list(values)))

    def shape(*values):
        return changed(lambda h: h["layers.0.weight"].update(shape=list(values)))

    def field(name, value):
        return changed(describe=lambda d: d.update({name: value}))

    text = raw[8 : 8 + size].rstrip()
    nan = np.frombuffer(data, np.float32).copy()
    nan[4] = np.nan
    hostile = {
        "empty": b"",
        "seven-bytes": raw[:7],
        "no-header": raw[:8],
        "half-header": raw[: 8 + size // 2],
        "half-data": raw[:-7],
        "longer": raw + b"\0" * 8,
        "length-max": b"\xff" * 8 + raw[8:],
        "length-100-mb": pack(text, data, 100_000_001),
        "length-behind-end": pack(text, data, len(raw)),
        "no-json": pack(b"not json" + b" " * 8, data),
        "not-closed": pack(text[:-1], data),
        "two-documents": pack(text + b"{}", data),
        "deep": pack(b'{"a":' * 5000 + b"1" + b"}" * 5000, data),
        "list": pack(b"[]", b""),
        "overflow": shape(4194305, 4194305, 211106198978564),
        "overflow-64": shape(2**32, 2**32),
        "huge": changed(lambda h: h["layers.0.weight"].update(shape=[2**40, 2**20], data_offsets=[0, 2**62])),
        "negative": shape(-2, 3),
        "fraction": shape(2.5, 3),
        "text-shape": shape("2", 3),
        "one-offset": offsets("layers.0.bias", 0),
        "reversed": offsets("layers.0.bias", 36, 24),
        "overlap": offsets("layers.0.bias", 12, 24),
        "gap": offsets("layers.1.bias", 52, 56),
        "behind-end": offsets("layers.1.bias", 1000, 1004),
        "unknown-dtype": changed(lambda h: h["layers.0.bias"].update(dtype="F33")),
        "other-dtype": changed(lambda h: h["layers.0.bias"].update(dtype="I32")),
        "missing": pack({k: v for k, v in json.loads(text).items() if k != "layers.1.bias"}, data[:-4]),
        "nan": pack(text, nan.tobytes()),
        "no-metadata": changed(lambda h: h.pop("__metadata__")),
        "other-metadata": changed(lambda h: h.update(__metadata__={"format": "pt"})),
        "metadata-no-json": changed(lambda h: h.update(__metadata__={"chainrule": "{"})),
        "metadata-list": changed(lambda h: h.update(__metadata__={"chainrule": "[]"})),
        "format-2": field("format", 2),
        "format-text": field("format", "1"),
        "no-seed": changed(describe=lambda d: d.pop("seed")),
        "seed-65-bits": field("seed", 2**64),
        "epochs-negative": field("epochs_trained", -1),
        "sizes-large": field("layer_sizes", [2, 2**62, 1]),
        "sizes-zero": field("layer_sizes", [2, 0, 1]),
        "sizes-one": field("layer_sizes", [2]),
        "sizes-more": field("layer_sizes", [2, 3, 3, 1]),
        "sizes-text": field("layer_sizes", "231"),
        "activation-unknown": field("hidden_activation", [["rellu", None]]),
        "activation-bad": field("hidden_activation", [["elu", -1.0]]),
        "activation-infinite": field("hidden_activation", [["elu", 1e999]]),
        "activation-softmax": field("hidden_activation", [["softmax", None]]),
        "activation-surplus": field("hidden_activation", [["tanh", None], ["tanh", None]]),
        "activation-number": field("hidden_activation", [3]),
        "output-of-bce": field("output_activation", ["tanh", None]),
        "loss-unknown": field("loss", ["mes", []]),
        "loss-parameter": field("loss", ["bce", [1.0]]),
        "loss-quantiles": field("loss", ["quantile", [0.2, 0.4]]),
        "dtype-16": field("dtype", "float16"),
        "dtype-64": field("dtype", "float64"),
        "dropout-one": field("dropout", [1.0]),
        "dropout-none": field("dropout", []),
        "surplus": pack({**json.loads(text), "fit.x": {"dtype": "U8", "shape": [0], "data_offsets": [56, 56]}}, data),
    }
    for name, content in hostile.items():
        (FILES / "hostile" / f"{name}.safetensors").write_bytes(content)


if __name__ == "__main__":
    write_all()
