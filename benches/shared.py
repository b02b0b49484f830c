#!/usr/bin/env python3
"""Times streams on a CPU that is shared, and writes the table of BENCHMARKS.md.

    cargo build --release --example bench
    benches/shared.py after=target/release/examples/bench --json benches/results/shared-cpu.json --table BENCHMARKS.md

Binaries of several builds, each as LABEL=PATH, take turns; a row is the best of its rounds. Without --table it prints the table
and changes nothing; without binaries it makes the table from the rows that the JSON file has."""

import argparse
import json
import subprocess

import marked

CASES = ["T=1,B=8,I=64,H=64", "T=1,B=8,I=160,H=160", "T=1,B=8,I=256,H=256", "T=24,B=32,I=64,H=64"]
# What runs beside, and how bench is told so.
LOADS = {
    "alone": [],
    "1 busy process": ["--neighbours", "1"],
    "2 busy processes": ["--neighbours", "2"],
    "2 threads, one model": ["--callers", "2"],
    "2 processes": ["--processes", "2"],
}


def run(label, path, load, budget):
    """Rows of one build under one load."""
    command = [path, "--device", "cpu", "--mode", "stream", "--lines", "--budget", str(budget), "--label", label, *LOADS[load]]
    for case in CASES:
        command += ["--case", case]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [{**json.loads(line), "load": load} for line in lines]


def key(row):
    return row["label"], row["load"], row["t"], row["b"], row["i"], row["h"]


def table(rows):
    """Markdown: a line for each case and load; for each build the median and the mean of a pass in milliseconds."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    by_key = {key(row): row for row in rows}
    cases = list(dict.fromkeys(key(row)[2:] for row in rows))
    first = rows[0]
    lines = [f"wgpu-lstm {first['version']}, at most {first['threads']} threads. Milliseconds of a pass: median (mean).", "",
             "| T, B, I, H | beside | " + " | ".join(labels) + " |", "|---|---|" + "---|" * len(labels)]
    for case in cases:
        for load in LOADS:
            found = [by_key.get((label, load, *case)) for label in labels]
            cells = [f"{row['ms']:.3g} ({row['mean_ms']:.3g})" if row else "" for row in found]
            lines.append("| " + " | ".join([", ".join(map(str, case)), load, *cells]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="*", help="LABEL=PATH of builds of the bench example")
    parser.add_argument("--json", required=True, help="file of all rows")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each row")
    parser.add_argument("--table", help="file whose part between the marks of shared is replaced")
    args = parser.parse_args()
    builds = [binary.split("=", 1) for binary in args.binaries]
    best = {}
    for _ in range(args.rounds):
        for load in LOADS:
            for label, path in builds:
                for row in run(label, path, load, args.budget):
                    if key(row) not in best or row["mean_ms"] < best[key(row)]["mean_ms"]:
                        best[key(row)] = row
    if builds:
        with open(args.json, "w") as file:
            json.dump(list(best.values()), file, indent=1)
            file.write("\n")
    with open(args.json) as file:
        text = table(json.load(file))
    if args.table is None:
        print(text)
    else:
        marked.replace(args.table, "shared", text)


main()
