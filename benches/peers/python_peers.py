#!/usr/bin/env python3
"""Times PyTorch, onnxruntime and OpenVINO on the CPU, as JSON rows; writes the ONNX files that tract runs.

    python_peers.py --limit 100 --json rows.json                      # every engine, 1 and 2 threads, the grid "small"
    python_peers.py --engine pytorch --mode train --threads 2 --case T=128,B=32,I=256,H=256
    python_peers.py --export DIR --case ...

Rows are printed as they come. Engines that do not import are left out with a line on stderr. All have the same weights
and inputs. README.md tells what each engine is.
"""
import argparse
import collections
import functools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))

# Flags of /proc/cpuinfo (x86, then aarch64) that decide which kernels an engine takes
INSTRUCTION_SETS = """avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_int8
    asimd asimddp i8mm bf16 sve sve2""".split()

# Variables that limit engines to AVX2. They are read when an engine is loaded; onnxruntime's MLAS has none.
AVX2_LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels, and inductor's code
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # oneDNN in PyTorch, and in OpenVINO
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # MKL in PyTorch
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",  # products of PyTorch's int8 layers
}

# Largest difference from PyTorch's f32, absolute for outputs (which lie in ±1), over the largest gradient for gradients:
# ten times what sums in another order and other approximations of σ and tanh gave on the grid "small".
TOLERANCE = 2e-5

# An engine that is ready to run: `run` takes one of `inputs`; `checked` gives what is compared, output or gradients.
# `options` stand in the row.
Peer = collections.namedtuple("Peer", "version inputs run checked options", defaults=[{}])


class OutOfTime(BaseException):
    """The limit is over. No Exception, which engines would catch."""


def grids():
    """The grids of the bench example by name: of each case T, B, I, H, L."""
    with open(os.path.join(HERE, "..", "..", "examples", "bench", "grids.json"), encoding="utf-8") as file:
        return {name: [tuple(case[size] for size in "TBIHL") for case in cases] for name, cases in json.load(file).items()}


def count(text):
    """A number that is at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 on")
    return int(text)


def parse_case(text):
    sizes = dict(part.partition("=")[::2] for part in text.split(","))
    if not set("TBIH") <= set(sizes) <= set("TBIHL"):
        raise argparse.ArgumentTypeError(f"{text}: expected sizes such as T=24,B=32,I=4,H=32,L=1 (without L: 1)")
    return tuple(count(sizes.get(name, "1")) for name in "TBIHL")


def processor():
    """Name of the processor, and those of its instruction sets that matter here."""
    name, flags = "unknown", set()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    name = value.strip()
                elif key.strip() in ("flags", "Features"):
                    flags.update(value.split())
    return name, [flag for flag in INSTRUCTION_SETS if flag in flags]


def layers(case):
    """Weights of each layer in PyTorch's order of gates (i, f, g, o): W (4H, I), R (4H, H), and two biases (4H)."""
    import numpy

    _, _, i, h, l = case
    random = numpy.random.default_rng(1)
    shapes = [((4 * h, i if layer == 0 else h), (4 * h, h), (4 * h,), (4 * h,)) for layer in range(l)]
    return [[random.uniform(-(h**-0.5), h**-0.5, shape).astype("float32") for shape in layer] for layer in shapes]


def inputs(case):
    """Four inputs (T, B, I), taken in turn."""
    import numpy

    random = numpy.random.default_rng(2)
    return [random.uniform(-1, 1, case[:3]).astype("float32") for _ in range(4)]


def timed(run, inputs, budget):
    """Median, least and most milliseconds of `run`, and the number of runs, after a warm-up."""

    def once(turn):
        start = time.perf_counter()
        run(inputs[turn % len(inputs)])
        return (time.perf_counter() - start) * 1e3

    last = once(0)
    if last < budget * 1e3:
        last = min(once(turn) for turn in range(1, 4))
    runs = int(max(3, min(2000, budget * 1e3 / max(last, 1e-4))))
    times = [once(turn) for turn in range(runs)]
    return statistics.median(times), [min(times), max(times)], runs


def torch_module(case):
    """PyTorch and its nn.LSTM with the weights of the case."""
    import torch

    _, _, i, h, l = case
    module = torch.nn.LSTM(i, h, l)
    with torch.no_grad():
        for parameter, values in zip(module.parameters(), (values for layer in layers(case) for values in layer)):
            parameter.copy_(torch.from_numpy(values))
    return torch, module


def torch_peer(torch, module, output, case, mode):
    """A peer that runs `output`, a function of x, with the parameters of the module."""
    import numpy

    # fused is the fastest that PyTorch has
    adam = torch.optim.Adam(module.parameters(), fused=True) if mode == "train" else None

    def forward(x):
        with torch.no_grad():
            return output(x)

    def gradients(x):
        module.zero_grad(set_to_none=True)
        y = output(x)
        (y * y).mean().backward()

    def train(x):
        gradients(x)
        adam.step()

    def checked(x):
        if mode == "forward":
            return forward(x).numpy()
        gradients(x)
        return numpy.concatenate([parameter.grad.numpy().ravel() for parameter in module.parameters()])

    arrays = [torch.from_numpy(x) for x in inputs(case)]
    return Peer(torch.__version__, arrays, forward if mode == "forward" else train, checked)


def pytorch(case, mode, threads, folder):
    torch, module = torch_module(case)
    torch.set_num_threads(threads)
    return torch_peer(torch, module, lambda x: module(x)[0], case, mode)


def pytorch_int8(case, mode, threads, folder):
    torch, module = torch_module(case)
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        module = torch.nn.Sequential(module)  # of which it replaces parts, never the whole
        module = torch.ao.quantization.quantize_dynamic(module, {torch.nn.LSTM}, dtype=torch.qint8)
    return torch_peer(torch, module, lambda x: module(x)[0], case, mode)


def inductor(threads):
    """PyTorch, ready to compile for so many threads."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise ImportError("inductor needs g++")
    # Compiled here: idle workers would stay beside what is timed.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    import torch

    torch.set_num_threads(threads)  # of which compiled code is a function: Dynamo compiles again for another number
    return torch


def torch_compile(case, mode, threads, folder):
    torch = inductor(threads)
    torch._dynamo.reset()  # nothing is kept for other cases, whose number is limited
    # Traces nn.LSTM to oneDNN's layer, which returns; in training PyTorch 2.15 stops at that layer's workspace, which is
    # no tensor, so there nn.LSTM stays out of the graph, as is the default.
    torch._dynamo.config.allow_rnn = mode == "forward"
    _, module = torch_module(case)
    compiled = torch.compile(module, dynamic=False)
    return torch_peer(torch, module, lambda x: compiled(x)[0], case, mode)


@functools.cache
def compiled_step():
    """One step of an LSTM: hidden and cell state (B, H), W·x + b (B, 4H), R (4H, H) to the next two states."""
    import torch
    from torch.fx.experimental import _config

    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.force_parameter_static_shapes = False  # R is a parameter
    _config.use_duck_shape = False  # B = H in one case is no rule for the others

    def step(h, c, projected, r):
        i, f, g, o = (projected + h @ r.t()).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    # As fast as with fixed sizes, and what is compiled for one case serves others.
    return torch.compile(step, dynamic=True)


def torch_compile_step(case, mode, threads, folder):
    torch, module = inductor(threads), torch_module(case)[1]
    compiled = compiled_step()

    def output(x):
        for layer in range(module.num_layers):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            w, r, *biases = (getattr(module, f"{name}_l{layer}") for name in names)
            projected = torch.addmm(sum(biases), x.flatten(0, 1), w.t()).unflatten(0, x.shape[:2])
            h, c = (x.new_zeros(x.shape[1], r.shape[1]) for _ in range(2))
            ys = []
            for row in projected.unbind(0):
                h, c = compiled(h, c, row, r)
                ys.append(h)
            x = torch.stack(ys)
        return x

    return torch_peer(torch, module, output, case, mode)


def model_path(folder, case):
    return os.path.join(folder, "lstm_t{}_b{}_i{}_h{}_l{}.onnx".format(*case))


def export(case, folder):
    """Path of the ONNX file of a case, which is written if it is not there."""
    path = model_path(folder, case)
    if os.path.exists(path):
        return path
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    t, b, i, h, _ = case

    def onnx_order(values):
        input_gate, forget, cell, output = numpy.split(values, 4)
        return numpy.concatenate([input_gate, output, forget, cell])

    nodes, weights, flow = [], [numpy_helper.from_array(numpy.array([1], "int64"), "axes")], "X"
    for layer, values in enumerate(layers(case)):
        w, r, *biases = map(onnx_order, values)
        values = {f"W{layer}": w, f"R{layer}": r, f"B{layer}": numpy.concatenate(biases)}
        weights += [numpy_helper.from_array(value[numpy.newaxis], name) for name, value in values.items()]
        nodes.append(helper.make_node("LSTM", [flow, *values], [f"Y{layer}"], hidden_size=h))
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axes"], [f"S{layer}"]))
        flow = f"S{layer}"
    value = helper.make_tensor_value_info
    ends = [value("X", TensorProto.FLOAT, [t, b, i])], [value(flow, TensorProto.FLOAT, [t, b, h])]
    model = helper.make_model(helper.make_graph(nodes, "lstm", *ends, weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def onnxruntime_peer(path, case, threads):
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(x):
        return session.run(None, {"X": x})[0]

    return Peer(runtime.__version__, inputs(case), run, run)


def onnxruntime(case, mode, threads, folder):
    return onnxruntime_peer(export(case, folder), case, threads)


def onnxruntime_int8(case, mode, threads, folder):
    import logging

    from onnxruntime.quantization import quantize_dynamic

    path = export(case, folder)
    quantized = path.replace(".onnx", ".int8.onnx")
    # Without VNNI its products of u8 and i8 add pairs in 16 bits, which overflow with more than 7 bits a weight.
    options = dict(reduce_range=not any(flag.endswith("vnni") for flag in processor()[1]))
    if not os.path.exists(quantized):
        logging.disable(logging.WARNING)  # advice to prepare the model, of which an LSTM needs nothing
        quantize_dynamic(path, quantized, op_types_to_quantize=["LSTM"], **options)
        logging.disable(logging.NOTSET)
    return onnxruntime_peer(quantized, case, threads)._replace(options=options)


def openvino(case, mode, threads, folder):
    import openvino as runtime

    # f32: it takes bf16 where the processor has it
    options = dict(INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY", INFERENCE_PRECISION_HINT="f32")
    request = runtime.Core().compile_model(export(case, folder), "CPU", options).create_infer_request()

    def run(x):
        request.infer([x], share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data

    return Peer(runtime.__version__.split("-")[0], inputs(case), run, run)


# Compiling takes seconds a case: those are last, for a run with a limit.
ENGINES = {
    "pytorch": pytorch,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "pytorch-int8": pytorch_int8,
    "onnxruntime-int8": onnxruntime_int8,
    "torch-compile": torch_compile,
    "torch-compile-step": torch_compile_step,
}
TRAIN = ["pytorch", "torch-compile", "torch-compile-step"]
COMPILE = ["torch-compile", "torch-compile-step"]
INT8 = ["pytorch-int8", "onnxruntime-int8"]


def largest_difference(mode, peer, reference):
    """How far a peer is from the reference, as TOLERANCE has it."""
    import numpy

    difference = float(numpy.abs(peer.checked(peer.inputs[0]) - reference).max())
    return difference if mode == "forward" else difference / float(numpy.abs(reference).max())


def reference_of(case, mode, folder, known={}):
    """What PyTorch's f32 gives, made once a case; None without PyTorch."""
    if (case, mode) not in known:
        try:
            peer = pytorch(case, mode, 1, folder)
            known[case, mode] = peer.checked(peer.inputs[0]).copy()
        except ImportError:
            known[case, mode] = None
    return known[case, mode]


def row_of(name, case, mode, threads, args):
    """A row; its `error` says why there are no milliseconds."""
    cpu, sets = processor()
    limit = args.isa if not name.startswith("onnxruntime") else None
    row = dict(name=name, mode=mode, **dict(zip("tbihl", case)), d=1, dtype="int8" if name in INT8 else "f32",
               device="cpu", threads=threads, cpu=cpu, isa=sets, isa_limit=limit)
    reference = reference_of(case, mode, args.models)
    peer = ENGINES[name](case, mode, threads, args.models)
    row.update(version=peer.version, **peer.options)
    if reference is not None:
        start = time.perf_counter()
        row["max_error"] = largest_difference(mode, peer, reference)
        if name in COMPILE:
            row["compile_s"] = time.perf_counter() - start
        if name not in INT8:
            row["tolerance"] = TOLERANCE
            if not row["max_error"] <= TOLERANCE:
                return dict(row, error=f"differs from PyTorch's f32 by {row['max_error']:.2g}, more than {TOLERANCE}")
    ms, ms_range, runs = timed(peer.run, peer.inputs, args.budget)
    t, b, i, h, l = case
    flops = 2 * t * b * 4 * h * ((i + h) + (l - 1) * 2 * h) * (3 if mode == "train" else 1)
    return dict(row, ms=ms, ms_range=ms_range, runs=runs, gflops=flops / ms / 1e6)


def plan(args):
    """What to time, in order: engines of a case one after the other, those that compile after all others."""
    names = args.engine or list(ENGINES)
    for part in ([name for name in names if name not in COMPILE], *([name] for name in names if name in COMPILE)):
        for mode in args.mode:
            for case in args.case:
                for threads in args.threads:
                    yield from ((name, case, mode, threads) for name in part if mode == "forward" or name in TRAIN)


def measure(args):
    """Prints the rows and returns them."""
    rows, missing, todo = [], set(), list(plan(args))
    if args.isa and any(name.startswith("onnxruntime") for name, *_ in todo):
        print("onnxruntime cannot be limited: its rows have isa_limit null", file=sys.stderr)

    def out_of_time(*_):
        raise OutOfTime

    try:
        if args.limit:
            signal.signal(signal.SIGALRM, out_of_time)
            signal.setitimer(signal.ITIMER_REAL, args.limit)
        while todo:
            name, case, mode, threads = todo[0]
            if name not in missing:
                try:
                    row = row_of(name, case, mode, threads, args)
                except ImportError as error:
                    missing.add(name)
                    print(f"{name} is left out: {error}", file=sys.stderr)
                    continue
                except Exception as error:
                    text = (str(error).strip().splitlines() or [""])[0][:200]
                    row = dict(name=name, mode=mode, **dict(zip("tbihl", case)), threads=threads,
                               error=f"{type(error).__name__}: {text}")
                rows.append(row)
                print(json.dumps(row), flush=True)
            todo.pop(0)
        if args.limit:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        left = [f"{name} {mode} {case} on {threads} threads" for name, case, mode, threads in todo if name not in missing]
        print(f"{args.limit:g} s are over: {len(left)} rows are left out", *left[:1], sep=", from ", file=sys.stderr)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=list(ENGINES), help="default: all")
    parser.add_argument("--mode", action="append", choices=["forward", "train"], help="default: both")
    parser.add_argument("--case", action="append", type=parse_case, help="such as T=24,B=32,I=4,H=32,L=1")
    parser.add_argument("--grid", default="small", choices=list(grids()), help="the cases, where --case is not given")
    parser.add_argument("--threads", action="append", type=count, help="default: 1 and 2")
    parser.add_argument("--isa", choices=["avx2"], help="limit engines to it, on a processor that has more")
    parser.add_argument("--budget", type=float, default=0.2, help="seconds for each row")
    parser.add_argument("--limit", type=float, help="seconds after which the run ends")
    parser.add_argument("--models", help="folder of ONNX files (default: a temporary one)")
    parser.add_argument("--export", metavar="DIR", help="write the ONNX files of the cases to this folder, and stop")
    parser.add_argument("--json", help="file for the rows")
    args = parser.parse_args()
    args.case, args.threads = args.case or grids()[args.grid], args.threads or [1, 2]
    args.mode = args.mode or ["forward", "train"]
    if args.export:
        for case in args.case:
            export(case, args.export)
        return
    if args.isa:
        os.environ.update(AVX2_LIMITS)
    with tempfile.TemporaryDirectory() as folder:
        args.models = args.models or folder
        rows = measure(args)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
