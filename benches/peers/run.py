#!/usr/bin/env python3
"""Every engine on every size, one after the other, in one run on one machine; a table in BENCHMARKS.md.

    python3 benches/peers/run.py --python PYTHON            # CPU engines, and the adapter beside Burn's wgpu
    python3 benches/peers/run.py --from benches/results/peers.json    # tables only

PYTHON is an interpreter with torch, onnx and onnxruntime; engines that it lacks are left out.
"""
import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

SMALL = [(1, 1, 128, 128, 1), (24, 32, 4, 32, 1), (96, 32, 8, 64, 2), (128, 32, 256, 256, 1), (50, 64, 512, 512, 1),
         (25, 32, 1024, 1024, 1), (100, 1, 512, 512, 1)]
CPU_PEERS = ["pytorch", "onnxruntime", "tract", "candle", "burn-flex", "burn-ndarray"]
GPU_PEERS = ["burn-wgpu"]


def case_text(case):
    return ",".join(f"{name}={size}" for name, size in zip("TBIHL", case))


def rows_of(command, timeout):
    """The JSON lines that a command prints; a row with an error where it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return [], f"took over {timeout} s"
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return rows, None if rows else (done.stderr.strip().splitlines() or ["no output"])[-1][:200]


def measure(args):
    peers = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "target")), "release", "peers")
    subprocess.run(["cargo", "build", "--release", "--manifest-path", os.path.join(HERE, "Cargo.toml")], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
    subprocess.run(["cargo", "build", "--release", "--example", "bench"], cwd=ROOT, check=True, env=environment)
    ours = os.path.join(ROOT, "target", "release", "examples", "bench")
    rows = []
    chosen = [case for case in SMALL if not args.case or case_text(case) in args.case]
    with tempfile.TemporaryDirectory() as models:
        cases = [option for case in chosen for option in ("--case", case_text(case))]
        python = [args.python, os.path.join(HERE, "python_peers.py")]
        subprocess.run([*python, "--export", models, *cases], check=False)
        for mode in args.mode:
            for case in chosen:
                single = ["--case", case_text(case), "--budget", str(args.budget)]
                commands = []
                for device in args.device:
                    # a single step is what streaming does
                    own = "stream" if mode == "forward" and case[0] == 1 else mode
                    own = [ours, "--device", device, "--mode", own, *single, "--lines"]
                    commands.append((f"wgpu-lstm {device}", own))
                    for name in CPU_PEERS if device == "cpu" else GPU_PEERS:
                        if name in ("pytorch", "onnxruntime"):
                            if mode == "forward" or name == "pytorch":
                                command = [*python, "--engine", name, "--mode", mode, "--models", models, *single]
                                commands.append((name, command + ["--threads", str(os.cpu_count())]))
                        elif mode == "forward" or name != "tract":
                            engine = [peers, "--engine", name, "--mode", mode, "--models", models, *single]
                            commands.append((name, engine))
                # Twice around, the better median of each: a neighbour's load comes and goes.
                for _ in range(args.rounds):
                    for name, command in commands:
                        found, error = rows_of(command, args.timeout)
                        for row in found or [dict(name=name.split()[0], error=error)]:
                            row.update(mode=mode, case=case_text(case), engine=name)
                            rows.append(row)
                            print(name, mode, case_text(case), row.get("ms", row.get("error")), flush=True)
    cpu = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read()).group(1)
        flags = re.search(r"flags\s*: (.*)", open("/proc/cpuinfo").read()).group(1).split()
        cpu += " (AVX-512)" if "avx512f" in flags else " (AVX2)" if "avx2" in flags else ""
    versions = {row["engine"]: row["version"] for row in rows if "version" in row}
    devices = {row["engine"]: row["device"] for row in rows if "device" in row and row["device"] != "cpu"}
    return dict(date=datetime.date.today().isoformat(), cpu=cpu, threads=os.cpu_count(), os=platform.system(),
                versions=versions, devices=devices, rounds=args.rounds, rows=rows)


def best(results, mode, case, engine):
    times = [row["ms"] for row in results["rows"]
             if row["mode"] == mode and row["case"] == case_text(case) and row["engine"] == engine and row.get("ms")]
    return min(times) if times else None


def table(results, mode, device):
    """Markdown: milliseconds of every engine, and how the best of the others compares with ours."""
    ours = f"wgpu-lstm {device}"
    peers = CPU_PEERS if device == "cpu" else GPU_PEERS
    peers = [name for name in peers if any(best(results, mode, case, name) for case in SMALL)]
    lines = ["| T, B, I, H, L | wgpu-lstm | " + " | ".join(peers) + " | best other / wgpu-lstm |",
             "|---|---|" + "---|" * (len(peers) + 1)]
    for case in SMALL:
        own = best(results, mode, case, ours)
        if not own:
            continue
        others = [best(results, mode, case, name) for name in peers]
        known = [other for other in others if other]
        ratio = f"{min(known) / own:.2f}" if own and known else ""
        digits = lambda time: "" if not time else f"{time:.0f}" if time >= 100 else f"{time:.3g}"
        cells = [digits(time) for time in [own, *others]]
        lines.append("| " + " | ".join([", ".join(map(str, case)), *cells, ratio]) + " |")
    return "\n".join(lines)


def heading(results, device):
    engines = [f"wgpu-lstm {device}", *(CPU_PEERS if device == "cpu" else GPU_PEERS)]
    versions = ", ".join(f"{name} {results['versions'][name]}" for name in engines if name in results["versions"])
    on = results["devices"].get(engines[0])
    rounds = "" if results["rounds"] == 1 else f" The better of {results['rounds']} rounds."
    return (f"{results['cpu']}, {results['threads']} threads, {results['date']}" + (f"; {on}" if on else "")
            + f"; {versions}. Milliseconds, medians.{rounds}\n\n")


def write(results, path):
    text = open(path).read()
    for device in ("cpu", "gpu", "software"):
        for mode in ("forward", "train"):
            if not any(row["engine"] == f"wgpu-lstm {device}" and row["mode"] == mode for row in results["rows"]):
                continue
            name, part = f"{device}-{mode}", heading(results, device) + table(results, mode, device)
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
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each row")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--results", default=os.path.join(ROOT, "benches", "results", "peers.json"))
    parser.add_argument("--add", action="store_true", help="add the rows to those of the results file")
    parser.add_argument("--from", dest="source", help="write the tables from this file instead of measuring")
    parser.add_argument("--table", default=os.path.join(ROOT, "BENCHMARKS.md"))
    args = parser.parse_args()
    args.mode, args.device = args.mode or ["forward", "train"], args.device or ["cpu", "software"]
    if args.source:
        results = json.load(open(args.source))
    else:
        results = measure(args)
        if args.add and os.path.exists(args.results):
            results["rows"] = json.load(open(args.results))["rows"] + results["rows"]
        os.makedirs(os.path.dirname(args.results), exist_ok=True)
        with open(args.results, "w") as file:
            json.dump(results, file, indent=1)
    write(results, args.table)


if __name__ == "__main__":
    main()
