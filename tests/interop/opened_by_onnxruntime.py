"""ONNX files written by this crate, run by ONNX Runtime and by the onnx package's reference.

    pip install numpy onnx onnxruntime
    python tests/interop/opened_by_onnxruntime.py            # writes the files by `cargo test`, then checks them
    python tests/interop/opened_by_onnxruntime.py FOLDER     # checks files that are there

Every model must pass onnx.checker, with and without shapes inferred, and give the output that the crate gave, within 1e-5; batch
and time other than those of the example must run, too.
"""

import glob
import os
import subprocess
import sys
import tempfile

import numpy as np

# This file has the name of the package.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

# f32 on both sides, sums of some dozens of terms.
TOLERANCE = 1e-5


def check(path):
    stem = path[: -len(".onnx")]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    inputs = {name: np.load(f"{stem}.{name}.npy") for name in names}
    outputs = [o.name for o in session.get_outputs()]
    worst = 0.0
    for engine, given in [
        ("onnxruntime", session.run(outputs, inputs)),
        ("onnx.reference", reference(model, inputs)),
    ]:
        if given is None:
            continue
        for name, value in zip(outputs, given):
            expected = np.load(f"{stem}.{name}.npy")
            assert value.shape == expected.shape, f"{path} {name} by {engine}: {value.shape}, expected {expected.shape}"
            difference = float(np.abs(value - expected).max())
            assert difference <= TOLERANCE, f"{path} {name} by {engine}: differs by {difference}"
            worst = max(worst, difference)
    # Another batch, and other lengths
    larger = {name: np.concatenate([a, a], axis=0 if name == "input" else 1) for name, a in inputs.items()}
    longer = {name: np.concatenate([a, a], axis=1) if name == "input" else a for name, a in inputs.items()}
    twice = session.run(outputs, larger)[0]
    expected = np.load(f"{stem}.{outputs[0]}.npy")
    assert np.abs(twice - np.concatenate([expected, expected])).max() <= TOLERANCE, f"{path}: a batch of twice the size"
    session.run(outputs, longer)
    return worst


def reference(model, inputs):
    """By the onnx package's own equations, where these have what the model uses."""
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        several = attributes.get("direction", b"forward") != b"forward"
        special = "activations" in attributes or "clip" in attributes or "input_forget" in attributes
        if node.op_type in ("LSTM", "GRU", "RNN") and (several or special):
            return None
    return ReferenceEvaluator(model).run(None, inputs)


def main():
    if len(sys.argv) > 1:
        folder = sys.argv[1]
    else:
        folder = tempfile.mkdtemp()
        command = ["cargo", "test", "--quiet", "--test", "onnx", "--", "--ignored", "--exact", "files_for_interop"]
        subprocess.run(command, check=True, env=os.environ | {"INTEROP": folder}, stdout=subprocess.DEVNULL)
    files = sorted(glob.glob(os.path.join(folder, "*.onnx")))
    assert len(files) > 15, f"{len(files)} files in {folder}"
    for path in files:
        print(f"{os.path.basename(path):24} within {check(path):.1e}")
    print(f"{len(files)} files run by ONNX Runtime {onnxruntime.__version__} as here")


if __name__ == "__main__":
    main()
