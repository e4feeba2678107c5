"""Every measure of the resilience in one table, its bar beside it. Takes some minutes.

python benchmarks/resilience.py [--smoke]
"""

from __future__ import annotations

import sys

import resilience_cost
import resilience_faults
import resilience_outage
import resilience_success
from _table import show, smoke_asked

PARTS = (resilience_faults, resilience_outage, resilience_cost, resilience_success)


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    assert __doc__ is not None
    smoke = smoke_asked(__doc__)
    return show([row for part in PARTS for row in part.rows(smoke)])


if __name__ == "__main__":
    sys.exit(main())
