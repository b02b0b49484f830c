#!/usr/bin/env python3
"""Every engine on every size, one after the other, in one run on one machine; a table in BENCHMARKS.md.

    python3 benches/peers/run.py --python PYTHON            # CPU engines, and the adapter beside Burn's wgpu
    python3 benches/peers/run.py --from benches/results/peers.json    # tables only

PYTHON is an interpreter with torch, onnx, onnxruntime and openvino; engines that it lacks are left out.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile

import python_peers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

SMALL = python_peers.grids()["small"]
# In f32; int8 engines have columns of their own
CPU_PEERS = ["pytorch", "torch-compile", "torch-compile-step", "onnxruntime", "openvino", "tract", "candle", "burn-flex",
             "burn-ndarray"]
GPU_PEERS = ["burn-wgpu"]
TRAIN = [name for name in CPU_PEERS + GPU_PEERS if name in python_peers.TRAIN or name.startswith(("candle", "burn"))]
# Variables that say how many threads ours, candle and Burn take; tract takes one
THREADS = ["WGPU_LSTM_THREADS", "RAYON_NUM_THREADS"]


def case_text(case):
    return ",".join(f"{name}={size}" for name, size in zip("TBIHL", case))


def rows_of(command, timeout, variables):
    """The JSON lines that a command prints with these variables; and what went wrong where there are none."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                              env=dict(os.environ, **variables))
    except subprocess.TimeoutExpired:
        return [], f"took over {timeout} s"
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows, None if rows else (done.stderr.strip().splitlines() or ["no output"])[-1][:200]


def build():
    """Paths of the bench example and of the peers in Rust."""
    peers = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "target")), "release", "peers")
    subprocess.run(["cargo", "build", "--release", "--manifest-path", os.path.join(HERE, "Cargo.toml")], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
    subprocess.run(["cargo", "build", "--release", "--example", "bench"], cwd=ROOT, check=True, env=environment)
    return os.path.join(ROOT, "target", "release", "examples", "bench"), peers


def commands(mode, case, device, threads, python, programs, args):
    """Engines of a device with their commands; ours is first."""
    ours, peers = programs
    single = ["--mode", mode, "--case", case_text(case), "--budget", str(args.budget)]
    # a single step is what streaming does
    own = ["--mode", "stream", *single[2:]] if mode == "forward" and case[0] == 1 else single
    yield f"wgpu-lstm {device}", [ours, "--device", device, *own, "--lines"]
    for name in CPU_PEERS + python_peers.INT8 if device == "cpu" else GPU_PEERS:
        if mode == "train" and name not in TRAIN:
            continue
        if name in python_peers.ENGINES:
            isa = ["--isa", args.isa] if args.isa else []
            yield name, [*python, "--engine", name, "--threads", str(threads), *isa, *single]
        else:
            yield name, [peers, "--engine", name, "--models", python[-1], *single]


def measure(args):
    programs = build()
    cpu, sets = python_peers.processor()
    rows = []
    chosen = [case for case in SMALL if not args.case or case_text(case) in args.case]
    with tempfile.TemporaryDirectory() as models:
        cases = [option for case in chosen for option in ("--case", case_text(case))]
        python = [args.python, os.path.join(HERE, "python_peers.py")]
        subprocess.run([*python, "--export", models, *cases], check=False)
        python += ["--models", models]
        for mode in args.mode:
            for case in chosen:
                for threads in args.threads:
                    variables = {name: str(threads) for name in THREADS}
                    if args.isa:
                        variables["WGPU_LSTM_SIMD"] = args.isa
                    # A GPU's time does not depend on the threads.
                    devices = [device for device in args.device if device == "cpu" or threads == args.threads[-1]]
                    # Several times around, the best median of each: a neighbour's load comes and goes.
                    for device in devices * args.rounds:
                        for name, command in commands(mode, case, device, threads, python, programs, args):
                            found, error = rows_of(command, args.timeout, variables)
                            for row in found or [dict(name=name.split()[0], error=error)]:
                                row.update(mode=mode, case=case_text(case), engine=name, threads=threads, cpu=cpu, isa=sets)
                                rows.append(row)
                                print(name, mode, case_text(case), threads, row.get("ms", row.get("error")), flush=True)
    versions = {row["engine"]: row["version"] for row in rows if "version" in row}
    devices = {row["engine"]: row["device"] for row in rows if "device" in row and row["device"] != "cpu"}
    return dict(date=datetime.date.today().isoformat(), cpu=f"{cpu} ({', '.join(sets)})", isa_limit=args.isa,
                threads=args.threads, os=platform.system(), versions=versions, devices=devices, rounds=args.rounds, rows=rows)


def best(rows, mode, case, engine):
    times = [row["ms"] for row in rows
             if row["mode"] == mode and row["case"] == case_text(case) and row["engine"] == engine and row.get("ms")]
    return min(times) if times else None


def table(rows, mode, device):
    """Markdown: milliseconds of every engine, and how the best of the others in f32 compares with ours."""
    ours = f"wgpu-lstm {device}"
    timed = lambda names: [name for name in names if any(best(rows, mode, case, name) for case in SMALL)]
    peers, int8 = timed(CPU_PEERS if device == "cpu" else GPU_PEERS), timed(python_peers.INT8 if device == "cpu" else [])
    head = ["T, B, I, H, L", "wgpu-lstm", *peers, "best other / wgpu-lstm", *int8]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for case in SMALL:
        own = best(rows, mode, case, ours)
        if not own:
            continue
        others = [best(rows, mode, case, name) for name in peers]
        known = [other for other in others if other]
        ratio = f"{min(known) / own:.2f}" if known else ""
        digits = lambda time: "" if not time else f"{time:.0f}" if time >= 100 else f"{time:.3g}"
        cells = [*map(digits, [own, *others]), ratio, *(digits(best(rows, mode, case, name)) for name in int8)]
        lines.append("| " + " | ".join([", ".join(map(str, case)), *cells]) + " |")
    return "\n".join(lines)


def heading(results, device, threads):
    engines = [f"wgpu-lstm {device}", *(CPU_PEERS if device == "cpu" else GPU_PEERS)]
    versions = ", ".join(f"{name} {results['versions'][name]}" for name in engines if name in results["versions"])
    on = results["devices"].get(engines[0])
    rounds = "" if results["rounds"] == 1 else f" The better of {results['rounds']} rounds."
    limit = f" limited to {results['isa_limit']}" if results.get("isa_limit") else ""
    threads = f"{threads} thread" + "s" * (threads != 1)
    return (f"{results['cpu']}{limit}, {threads}, {results['date']}" + (f"; {on}" if on else "")
            + f"; {versions}. Milliseconds, medians.{rounds}\n\n")


def int8_errors(rows, mode, device):
    """A sentence: how far the outputs of the int8 engines are from f32."""
    largest = {}
    for row in rows:
        if row["engine"] in python_peers.INT8 and row["mode"] == mode and "max_error" in row:
            largest[row["engine"]] = max(row["max_error"], largest.get(row["engine"], 0))
    text = ", ".join(f"{name} {error:.2g}" for name, error in largest.items())
    return f"\n\nLargest difference from PyTorch's f32 output: {text}." if text and device == "cpu" else ""


def tables(results, mode, device):
    """A table with its heading for each number of threads."""
    counts = results["threads"]
    if not isinstance(counts, list):
        return heading(results, device, counts) + table(results["rows"], mode, device)
    parts = []
    for count in counts:
        rows = [row for row in results["rows"] if row.get("threads") == count]
        if any(row["engine"] == f"wgpu-lstm {device}" for row in rows):
            parts.append(heading(results, device, count) + table(rows, mode, device) + int8_errors(rows, mode, device))
    return "\n\n".join(parts)


def write(results, path):
    text = open(path).read()
    for device in ("cpu", "gpu", "software"):
        for mode in ("forward", "train"):
            if not any(row["engine"] == f"wgpu-lstm {device}" and row["mode"] == mode for row in results["rows"]):
                continue
            name, part = f"{device}-{mode}", tables(results, mode, device)
            start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
            if start in text:
                head, tail = text.split(start)[0], text.split(end)[1]
                text = f"{head}{start}\n{part}\n{end}{tail}"
            print(f"\n{name}\n{part}")
    open(path, "w").write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--mode", action="append", choices=["forward", "train"])
    parser.add_argument("--device", action="append", choices=["cpu", "gpu", "software"])
    parser.add_argument("--case", action="append", help="only these, such as T=24,B=32,I=4,H=32,L=1")
    parser.add_argument("--threads", action="append", type=python_peers.count, help="of the CPU; several may be given (default: all)")
    parser.add_argument("--isa", choices=["avx2"], help="limit ours and the Python peers to it, where they can be")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each row")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--results", default=os.path.join(ROOT, "benches", "results", "peers.json"))
    parser.add_argument("--add", action="store_true", help="add the rows to those of the results file")
    parser.add_argument("--from", dest="source", help="write the tables from this file instead of measuring")
    parser.add_argument("--table", default=os.path.join(ROOT, "BENCHMARKS.md"))
    args = parser.parse_args()
    args.mode, args.device = args.mode or ["forward", "train"], args.device or ["cpu", "software"]
    args.threads = args.threads or [os.cpu_count()]
    if args.source:
        results = json.load(open(args.source))
    else:
        results = measure(args)
        if args.add and os.path.exists(args.results):
            known = json.load(open(args.results))
            counts = known["threads"] if isinstance(known["threads"], list) else [known["threads"]]
            results["threads"] = sorted({*counts, *results["threads"]})
            results["rows"] = known["rows"] + results["rows"]
        os.makedirs(os.path.dirname(args.results), exist_ok=True)
        with open(args.results, "w") as file:
            json.dump(results, file, indent=1)
    write(results, args.table)


if __name__ == "__main__":
    main()
