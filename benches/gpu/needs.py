"""Which packages parts of the check need that a machine made for kernels may lack.

The operators, their tests and their benchmarks need torch, Triton, numpy and pytest alone.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

NEEDS = {
    "training": ("pydantic", "omegaconf", "lightning_fabric", "torchmetrics", "scipy"),
    "models": ("pydantic", "omegaconf"),
}
"""Part of the check -> what it imports: runs of `fusionkit.train`, and models of methods."""

_LOST = {
    "training": "the captured training runs of tests/training",
    "models": "the training steps of MMLatch and MulT, with their goals",
}
HELP = "put their wheels into .whl (docs/benchmarks.md, 'On a GPU')"


def missing(part: str) -> list[str]:
    """What cannot be imported here."""
    return [name for name in NEEDS[part] if find_spec(name) is None]


def lines(part: str) -> list[str]:
    """What is left out for it and how to have it, in one line; nothing if all is there."""
    names = missing(part)
    return [f"left out for want of {', '.join(names)}: {_LOST[part]}; {HELP}"] if names else []


def main() -> None:
    """Print the lines; the exit code is 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=NEEDS)
    found = [line for part in parser.parse_args().parts for line in lines(part)]
    print("\n".join(found), end="\n" if found else "")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
