"""The benchmarks are no part of the installed package: they are found in the checkout."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# At the end, so that `fusionkit` stays the installed one.
sys.path.append(str(ROOT))
