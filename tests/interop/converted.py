#!/usr/bin/env python3
"""Converts files with the example and opens the results with the packages that they are for, under the names that a user gives
them: Keras's load_model, ONNX Runtime, and safetensors with PyTorch's load_state_dict. Each must give what run_model gives of the
source.

`scripts/test --interop` runs it. By hand, from the repository's root:

    pip install torch keras onnxruntime numpy safetensors
    python tests/interop/converted.py
"""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pathlib
import subprocess
import tempfile

import keras
import numpy as np
import onnxruntime
import safetensors.torch
import torch
from torch import nn

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
# Both sides compute in float32; relative to the largest output of a feature, as the example's own check.
TOLERANCE = 1e-5

# source and target
CASES = [
    ("onnx/pytorch_lstm_linear_script_12.onnx", "weights.safetensors"),
    ("onnx/tf2onnx_lstm_stack.onnx", "stack.keras"),
    ("onnx/pytorch_bilstm_linear_script_17.onnx", "bilstm.onnx"),
    ("onnx/tf2onnx_bilstm.onnx", "bilstm.keras"),
    ("keras/everything.keras", "everything.onnx"),
    ("keras/merges.keras", "merges.onnx"),
    ("keras/masked_repeats.keras", "masked.keras"),
    ("keras/masked_largest.keras", "words.keras"),
    ("keras2/masked_sequences.h5", "older.keras"),
    ("keras/means.keras", "means.safetensors"),
    ("keras_rnn/simple.keras", "simple.onnx"),
    ("keras_rnn/simple_directions.keras", "directions.onnx"),
    ("keras_rnn/simple_masked.keras", "simple_masked.keras"),
    ("onnx/pytorch_rnn_linear_script_12.onnx", "rnn.keras"),
]


def example(name, *arguments):
    command = ["cargo", "run", "--quiet", "--example", name, "--", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def outputs(folder, file, x):
    np.save(folder / "x.npy", x)
    example("run_model", file, "--input", folder / "x.npy", "--output", folder / "y.npz", "--device", "cpu")
    with np.load(folder / "y.npz") as y:
        return y[y.files[0]]


def same(given, expected):
    assert given.shape == expected.shape, (given.shape, expected.shape)
    scale = np.abs(expected).max(axis=tuple(range(expected.ndim - 1)))
    worst = float((np.abs(given - expected) / np.maximum(scale, 1e-3 * scale.max())).max())
    assert worst <= TOLERANCE, worst
    return worst


def check(folder, source, name):
    own, target = folder / "between.safetensors", folder / name
    example("convert", FIXTURES / source, own, "--to", "own")
    random = np.random.default_rng(1)
    with safetensors.safe_open(own, "np") as file:
        model = json.loads(file.metadata()["wgpu_lstm"])["model"]
    features, first = model["input"], model["layers"][0]
    indices = first["layer"] == "embedding"
    if indices:
        x = random.integers(1, first["entries"], (3, 6, 1)).astype(np.float32)
    else:
        x = random.normal(size=(3, 6, features)).astype(np.float32)
    padding = first.get("value", 0)
    if "masked" in source:
        x[1, 2:], x[2, 4:] = padding, padding
    expected = outputs(folder, own, x)
    if name.endswith(".safetensors"):
        example("convert", own, target, "--to", "pytorch")
        hidden = first["hidden"]
        stack = nn.ModuleDict(dict(lstm=nn.LSTM(features, hidden, batch_first=True),
                                   dense=nn.Linear(hidden, expected.shape[-1])))
        stack.load_state_dict(safetensors.torch.load_file(target))
        with torch.no_grad():
            y = stack["lstm"](torch.from_numpy(x))[0]
            y = y if expected.ndim == 3 else (y.mean(1) if "means" in source else y[:, -1])
            return same(stack["dense"](y).numpy(), expected)
    example("convert", FIXTURES / source, target)
    if name.endswith(".keras"):
        model = keras.saving.load_model(target)
        return same(model.predict(x[:, :, 0].astype(np.int32) if indices else x, verbose=0), expected)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    return same(session.run(None, {"input": x})[0], expected)


def main():
    print(f"keras {keras.__version__}, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}")
    for source, name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{source} as {name}: within {check(pathlib.Path(folder), source, name):.1e}")


if __name__ == "__main__":
    main()
