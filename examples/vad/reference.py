"""What ONNX Runtime computes in the recurrent layer of silero-vad, frame by frame, for `--example vad`.

    pip install numpy onnx onnxruntime
    pip download --no-deps silero-vad==6.2.3 && unzip silero_vad-6.2.3-py3-none-any.whl 'silero_vad/data/*'
    python examples/vad/reference.py silero_vad/data/silero_vad_16k_sequence.onnx frames.npz [SPEECH.wav]

The file is silero-vad's (MIT licence, https://github.com/snakers4/silero-vad). The sound is 16 kHz, mono, 16 bit; without one, a
tone that comes and goes in noise is made up: then the probabilities mean little, and the numbers are as good a test. Kept are the
features that the layer takes, its outputs and states, and the probabilities of speech.
"""

import sys
import wave

import numpy as np
import onnx
import onnxruntime

RATE, FRAME, CONTEXT = 16_000, 512, 64


def sound(path):
    if path is None:
        time = np.arange(10 * RATE) / RATE
        loud = (np.sin(2 * np.pi * 0.4 * time) > 0) * np.sin(2 * np.pi * (180 + 40 * np.sin(3 * time)) * time)
        return (0.3 * loud + 0.02 * np.random.RandomState(0).randn(time.size)).astype(np.float32)
    with wave.open(path) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), "16 kHz, mono, 16 bit, please"
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def main():
    model_path, out, *rest = sys.argv[1:]
    samples = sound(rest[0] if rest else None)
    count = samples.size // FRAME
    # Each frame with the end of the one before it
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    frames = np.stack([padded[k * FRAME : k * FRAME + FRAME + CONTEXT] for k in range(count)])

    model = onnx.load(model_path)
    (lstm,) = [node for node in model.graph.node if node.op_type == "LSTM"]
    for name in (lstm.input[0], lstm.output[0]):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    zeros = np.zeros((1, 1, 128), np.float32)
    x, y, h, c, probabilities = session.run(
        [lstm.input[0], lstm.output[0], "hn", "cn", "speech_probs"], {"input": frames, "h": zeros, "c": zeros}
    )
    np.savez(out, x=x[:, 0], y=y[:, 0, 0], h=h[0, 0], c=c[0, 0], probabilities=probabilities.reshape(-1))
    print(f"{count} frames of {x.shape[-1]} features by node {lstm.name}, to {out}")


if __name__ == "__main__":
    main()
