#!/usr/bin/env python3
"""Writes the table of variants from rows that the bench example made.

    taskset -c 1 cargo run --release --example bench -- --device cpu --variants --rounds 8 --budget 0.1 \
        --mode forward --mode train --case T=96,B=32,I=64,H=64 --case T=24,B=16,I=256,H=256 \
        --json benches/results/variants-cpu.json
    benches/variants.py benches/results/variants-cpu.json --table BENCHMARKS.md

Without --table it prints the table and changes nothing."""

import argparse
import json

import marked

SIZES = ("t", "b", "i", "h", "l", "d")


def table(rows):
    """Markdown: a line for each variant, for each size and mode milliseconds and how many times the plain one's."""
    def unique(values):
        return list(dict.fromkeys(values))

    def least(variant, sizes, mode):
        found = [row["ms_range"][0] for row in rows
                 if (row["variant"], row["mode"], tuple(row[size] for size in SIZES)) == (variant, mode, sizes)]
        return min(found) if found else None

    cases = unique(tuple(row[size] for size in SIZES) for row in rows)
    columns = [(sizes, mode) for sizes in cases for mode in unique(row["mode"] for row in rows)]
    heads = [f"{', '.join(map(str, sizes))}: {mode}" for sizes, mode in columns]
    lines = ["| T, B, I, H, L, D | " + " | ".join(f"{head} | × plain" for head in heads) + " |",
             "|---|" + "---|---|" * len(heads)]
    for variant in unique(row["variant"] for row in rows):
        cells = []
        for sizes, mode in columns:
            own, plain = least(variant, sizes, mode), least("plain", sizes, mode)
            cells += [f"{own:.3g}" if own else "", f"{own / plain:.2f}" if own and plain else ""]
        lines.append("| " + " | ".join([variant, *cells]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="file that --json of the bench example wrote")
    parser.add_argument("--table", help="file whose part between the marks of variants is replaced")
    args = parser.parse_args()
    with open(args.rows) as file:
        rows = json.load(file)
    text = table(rows)
    if args.table is None:
        print(text)
    else:
        marked.replace(args.table, "variants", text)


if __name__ == "__main__":
    main()
