#!/usr/bin/env python3
"""Times PyTorch's nn.LSTM (on a card: cuDNN's) on the grids of the bench example, as rows of JSON to stand beside its rows.

    benches/torch_lstm.py --device cuda --grid small --mode forward --mode train --dtype f32 --dtype f16 --json rows.json

f32 turns TF32 off for cuDNN and for products, tf32 turns it on, f16 has model and input in f16 (CUDA only). A training step is
forward, mean of squares of the output, backward, Adam. Input is on the device; rows of the bench example count their copies in `ms`
and leave them out in `gpu_ms`. Times are medians in milliseconds after a warm-up, with four inputs in turn: on CUDA by events around
the work, on a CPU by the wall clock."""

import argparse
import json
import pathlib
import statistics
import time

import torch

# The grids of the bench example: of each case T, B, I, H, L
FILE = pathlib.Path(__file__).parent.parent / "examples/bench/grids.json"
GRIDS = {
    name: [tuple(case[size] for size in "TBIHL") for case in cases]
    for name, cases in json.loads(FILE.read_text(encoding="utf-8")).items()
}


def timed(work, cuda, budget):
    """Median, least and most milliseconds of `work`, and the number of runs."""

    def once():
        if not cuda:
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) * 1e3
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    for _ in range(3):
        warm = once()
    runs = max(5, min(200, int(budget * 1e3 / max(warm, 1e-3))))
    times = [once() for _ in range(runs)]
    return statistics.median(times), [min(times), max(times)], runs


def work_of(model, inputs, train):
    """The operation to time."""
    turn = iter(range(1 << 62))

    def forward():
        with torch.no_grad():
            model(inputs[next(turn) % len(inputs)])

    if not train:
        return forward
    optimiser = torch.optim.Adam(model.parameters())

    def step():
        optimiser.zero_grad(set_to_none=True)
        y, _ = model(inputs[next(turn) % len(inputs)])
        (y * y).mean().backward()
        optimiser.step()

    return step


def row(case, mode, dtype, device, budget):
    t, b, i, h, l = case
    cuda = device == "cuda"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    kind = torch.float16 if dtype == "f16" else torch.float32
    model = torch.nn.LSTM(i, h, l, device=device, dtype=kind)
    inputs = [torch.randn(t, b, i, device=device, dtype=kind) for _ in range(4)]
    ms, ms_range, runs = timed(work_of(model, inputs, mode == "train"), cuda, budget)
    flops = 2 * t * b * 4 * h * ((i + h) + (l - 1) * 2 * h) * (3 if mode == "train" else 1)
    return {
        "name": "pytorch", "version": torch.__version__, "cudnn": torch.backends.cudnn.version() if cuda else None,
        "device": torch.cuda.get_device_name() if cuda else "cpu", "threads": torch.get_num_threads(), "mode": mode,
        "t": t, "b": b, "i": i, "h": h, "l": l, "d": 1, "dtype": dtype, "ms": ms, "ms_range": ms_range, "runs": runs,
        "gflops": flops / ms / 1e6,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--grid", action="append", choices=GRIDS, help="default: small")
    parser.add_argument("--mode", action="append", choices=["forward", "train"], help="default: forward")
    parser.add_argument("--dtype", action="append", choices=["f32", "tf32", "f16"], help="default: f32")
    parser.add_argument("--threads", type=int, help="of a CPU")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each row")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no row is begun")
    parser.add_argument("--json", help="file for the rows")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    begin, rows = time.monotonic(), []
    for dtype in arguments.dtype or ["f32"]:
        for mode in arguments.mode or ["forward"]:
            for case in (case for grid in arguments.grid or ["small"] for case in GRIDS[grid]):
                if time.monotonic() - begin < arguments.limit:
                    rows.append(row(case, mode, dtype, arguments.device, arguments.budget))
                    print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
