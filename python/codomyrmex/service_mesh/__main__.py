"""`python -m codomyrmex.service_mesh demo`."""

from __future__ import annotations

import sys

_HELP = """\
Usage: python -m codomyrmex.service_mesh demo
       python -m codomyrmex.service_mesh --help

demo    sends HTTP requests through one proxy to three servers of this process that fail, hang and die, and tells what
        the callers noticed. It takes nine seconds, no arguments, and nothing but the standard library.

Exit status: 0 if every call was answered, 1 if not, 2 for a wrong argument, 130 if Ctrl-C ended it (what is known until
then is told)."""


def main(arguments: list[str]) -> int:
    """Does what the arguments say; the result is the exit status."""
    match arguments:
        case [] | ["--help" | "-h"] | ["demo", "--help" | "-h"]:
            sys.stdout.write(f"{_HELP}\n")
            return 0
        case ["demo"]:
            from .demo import run

            return run()
        case ["demo", other, *_]:
            mistake = f"demo takes no arguments, but was given {other}"
        case _:
            other = arguments[0]
            mistake = f"there is no command {other}, only demo"
    sys.stderr.write(f"{mistake}; try --help\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
