#!/usr/bin/env python3
"""Prints the results of scripts/card as tables for BENCHMARKS.md.

    benches/card/table.py benches/results/CARD-DRIVER"""

import json
import pathlib
import sys


def rows(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def case(row):
    return tuple(row[size] for size in "tbihl")


def number(value):
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(folder, mode):
    ours = {case(row): row for name in ("small", "published") for row in rows(folder, name) if row["mode"] == mode}
    tuned, half = ({case(row): row for row in rows(folder, name) if row["mode"] == mode} for name in ("tuned", "published-f16"))
    torch = {(case(row), row["dtype"]): row["ms"] for row in rows(folder, "torch") if row["mode"] == mode}
    print("| T, B, I, H, L | call | GPU | GPU, tuned | GPU, f16 | PyTorch f32 | PyTorch f16 | PyTorch f32 / GPU |")
    print("|---|---|---|---|---|---|---|---|")
    for key, row in ours.items():
        other = torch.get((key, "f32"))
        cells = [row["ms"], row["gpu_ms"], tuned.get(key, {}).get("gpu_ms"), half.get(key, {}).get("gpu_ms"), other,
                 torch.get((key, "f16")), other and other / row["gpu_ms"]]  # fmt: skip
        print("| " + ", ".join(map(str, key)) + " | " + " | ".join(map(number, cells)) + " |")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    summary, dispatch = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("summary", "dispatch"))
    print(f"{summary['adapter']}. Milliseconds, medians.\n")
    print("Forward:\n")
    table(folder, "forward")
    print("\nTraining step:\n")
    table(folder, "train")
    barriers = ", ".join(f"{b['us']:.2g} of {b['workgroups']}" for b in dispatch["device_barriers"] if b["us"] is not None)
    print(f"\nA dispatch that waits for the one before: {dispatch['dispatch_us']:.2g} µs; in a pass of its own: {dispatch['pass_us']:.2g} µs.")
    print(f"A barrier across workgroups of 256 threads, µs: {barriers}.")


if __name__ == "__main__":
    main()
