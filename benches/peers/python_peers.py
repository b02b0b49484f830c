#!/usr/bin/env python3
"""PyTorch and onnxruntime on one case, as JSON rows; and the ONNX files that onnxruntime and tract run.

    python_peers.py --engine pytorch --mode train --case T=128,B=32,I=256,H=256
    python_peers.py --export DIR --case ...

A training step is forward, mean of squares of the output, backward, Adam. f32 turns TF32 off, tf32 turns it on, f16
casts model and input (CUDA only). On CUDA times are taken by events. An engine that does not import is left out.
"""
import argparse
import json
import os
import statistics
import sys
import time


def parse_case(text):
    case = dict(T=0, B=0, I=0, H=0, L=1)
    for part in text.split(","):
        name, value = part.split("=")
        case[name] = int(value)
    return tuple(case[name] for name in "TBIHL")


def median(work, budget, clock):
    last = clock(work)
    if last < 2000:
        for _ in range(2):
            last = clock(work)
    runs = int(max(3, min(2000, budget * 1e3 / max(last, 1e-4))))
    return statistics.median(clock(work) for _ in range(runs)), runs


def wall(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def pytorch(case, mode, args):
    import torch

    t, b, i, h, l = case
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.dtype == "tf32"
    options = dict(device=args.device, dtype=torch.float16 if args.dtype == "f16" else torch.float32)
    model = torch.nn.LSTM(i, h, l, **options)
    inputs = [torch.rand(t, b, i, **options) * 2 - 1 for _ in range(4)]
    turn = [0]

    def x():
        turn[0] += 1
        return inputs[turn[0] % 4]

    def forward():
        with torch.no_grad():
            model(x())

    adam = torch.optim.Adam(model.parameters())

    def train():
        adam.zero_grad(set_to_none=True)
        y, _ = model(x())
        (y * y).mean().backward()
        adam.step()

    def events(work):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    cuda = args.device == "cuda"
    ms, runs = median(forward if mode == "forward" else train, args.budget, events if cuda else wall)
    device = torch.cuda.get_device_name() if cuda else "cpu"
    return dict(version=torch.__version__, device=device, ms=ms, runs=runs, threads=torch.get_num_threads())


def model_path(folder, case):
    return os.path.join(folder, "lstm_t{}_b{}_i{}_h{}_l{}.onnx".format(*case))


def export(case, folder):
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    t, b, i, h, l = case
    random = numpy.random.default_rng(1)
    nodes, weights, flow = [], [numpy_helper.from_array(numpy.array([1], "int64"), "axes")], "X"
    for layer in range(l):
        shapes = dict(W=(1, 4 * h, i if layer == 0 else h), R=(1, 4 * h, h), B=(1, 8 * h))
        for name, shape in shapes.items():
            values = random.uniform(-(h**-0.5), h**-0.5, shape).astype("float32")
            weights.append(numpy_helper.from_array(values, f"{name}{layer}"))
        nodes.append(helper.make_node("LSTM", [flow, *(f"{n}{layer}" for n in shapes)], [f"Y{layer}"], hidden_size=h))
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axes"], [f"S{layer}"]))
        flow = f"S{layer}"
    value = helper.make_tensor_value_info
    inputs, outputs = [value("X", TensorProto.FLOAT, [t, b, i])], [value(flow, TensorProto.FLOAT, [t, b, h])]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, model_path(folder, case))


def onnxruntime(case, mode, args):
    import numpy
    import onnxruntime as runtime

    t, b, i, _, _ = case
    options = runtime.SessionOptions()
    if args.threads:
        options.intra_op_num_threads = args.threads
    session = runtime.InferenceSession(model_path(args.models, case), options, providers=["CPUExecutionProvider"])
    inputs = [numpy.random.uniform(-1, 1, (t, b, i)).astype("float32") for _ in range(4)]
    turn = [0]

    def work():
        turn[0] += 1
        session.run(None, {"X": inputs[turn[0] % 4]})

    ms, runs = median(work, args.budget, wall)
    return dict(version=runtime.__version__, device="cpu", ms=ms, runs=runs, threads=args.threads or os.cpu_count())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=["pytorch", "onnxruntime"])
    parser.add_argument("--mode", default="forward", choices=["forward", "train"])
    parser.add_argument("--case", action="append", type=parse_case, required=True)
    parser.add_argument("--models", default=".", help="folder of ONNX files")
    parser.add_argument("--export", help="write the ONNX files of the cases to this folder, and stop")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default="f32", choices=["f32", "tf32", "f16"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each row")
    args = parser.parse_args()
    for case in args.case:
        if args.export:
            export(case, args.export)
            continue
        for name in args.engine or ["pytorch", "onnxruntime"]:
            if name == "onnxruntime" and (args.mode == "train" or args.device == "cuda"):
                continue
            row = dict(name=name, mode=args.mode, **dict(zip("tbihl", case)), d=1, dtype=args.dtype)
            try:
                row.update({"pytorch": pytorch, "onnxruntime": onnxruntime}[name](case, args.mode, args))
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
