#!/usr/bin/env python3
"""Opens files that this crate writes with Keras itself and compares what it predicts.

How to run:

    pip install keras h5py torch numpy
    KERAS_BACKEND=torch python tests/interop/opened_by_keras.py

Runs `cargo test`, which writes the files: NAME.keras, NAME.x.npy, NAME.y.npy.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pathlib
import subprocess
import sys
import tempfile

import h5py
import keras
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Both sides compute in float32.
TOLERANCE = 1e-5


def main():
    print(f"keras {keras.__version__} on {keras.backend.backend()}, h5py {h5py.__version__}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "test", "--test", "files_keras", "--", "--ignored", "--exact", "write_files_for_keras"]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "KERAS_INTEROP_OUT": folder}, check=True)
        files = sorted(pathlib.Path(folder).glob("*.keras"))
        assert files, "nothing was written"
        worst = 0.0
        for file in files:
            x, y = (np.load(file.with_suffix(f".{part}.npy")) for part in "xy")
            model = keras.saving.load_model(file)
            if len(model.input_shape) == 2:
                x = x[:, :, 0].astype(np.int32)
            given = model.predict(x, verbose=0)
            assert given.shape == y.shape, (file.name, given.shape, y.shape)
            error = float(np.abs(given - y).max())
            print(f"{file.name}: {len(model.layers)} layers, {model.count_params()} parameters, error {error:.1e}")
            assert error <= TOLERANCE, file.name
            worst = max(worst, error)
            # The weights alone, by the same names, back into a model of Keras's.
            weights = pathlib.Path(folder) / "again.weights.h5"
            model.save_weights(weights)
            model.load_weights(weights)
        print(f"{len(files)} files, largest error {worst:.1e}")


if __name__ == "__main__":
    sys.exit(main())
