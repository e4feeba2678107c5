"""`FAULTS`: every fault the library is proven against, each with the outcome it must have.

The groups, by the first part of the name: `status`, `retry-after`, `redirect`, `content` (whole answers), `connection`,
`time`, `framing` (the wire), `coding` and `size`. A refused connection has no server; see `refused_url`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from types import MappingProxyType

from . import faults_replies, faults_sizes, faults_wire
from .faults_case import FaultCase


def _named(cases: Iterable[FaultCase]) -> Mapping[str, FaultCase]:
    named: dict[str, FaultCase] = {}
    for case in cases:
        if case.name in named:
            raise ValueError(f"two faults are called {case.name}")
        named[case.name] = case
    return MappingProxyType(named)


FAULTS: Mapping[str, FaultCase] = _named(
    chain(
        faults_replies.statuses(),
        faults_replies.informational(),
        faults_replies.retry_after(),
        faults_replies.redirects(),
        faults_replies.content(),
        faults_wire.connections(),
        faults_wire.times(),
        faults_wire.lengths(),
        faults_wire.chunks(),
        faults_wire.garbage(),
        faults_wire.nearly_http(),
        faults_sizes.codings(),
        faults_sizes.sizes(),
        faults_sizes.values(),
        faults_sizes.heads(),
    )
)
