"""`python python/bench`: all tables as Markdown; a bar that we miss is written out, and makes the exit status 1."""

from __future__ import annotations

import argparse
import sys

import imports
import ours
import peers
import sleepers
from bare import bares
from report import Report
from stopwatch import Stopwatch, pin


def main() -> int:
    parser = argparse.ArgumentParser(prog="python python/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=151, help="samples of each row (151)")
    parser.add_argument("--only", default="", help="rows whose table, shape or name contains this")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is missed")
    arguments = parser.parse_args()

    slept = [] if arguments.only else sleepers.measure(rounds=max(3, arguments.rounds // 3))
    imported = [] if arguments.only else imports.measure(rounds=max(3, arguments.rounds // 6))

    core = pin()
    stopwatch = Stopwatch()
    rows = [*ours.rows(stopwatch.run), *peers.rows(stopwatch.run)]
    rows = [row for row in rows if arguments.only in f"{row.table} {row.shape} {row.who}"]
    base = bares({row.bare for row in rows})
    stopwatch.time([*base.values(), *rows], arguments.rounds)

    report = Report(core, arguments.rounds, rows, base, slept, imported)
    print(report.markdown())
    for missed in report.missed():
        print(f"missed: {missed}", file=sys.stderr)
    return 1 if arguments.strict and report.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
