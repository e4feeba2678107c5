"""Fakes that are part of the product: a server that fails in every way we know, and worlds made for tests.

    from rage_retrievers.testing import FaultServer, answer, fail_then, status

    with FaultServer(fail_then(2, status(503))) as server:
        ...  # point a client at server.url: it is refused twice, then answered

Importing this package is cheap; its parts are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import loader

if TYPE_CHECKING:
    from rage_retrievers.testing.faults import (
        Close,
        Drip,
        Fault,
        Flood,
        Hang,
        ReceivedRequest,
        Reset,
        Script,
        Wait,
        Write,
        answer,
        answer_body,
        chunk,
        delay,
        fail_then,
        fraction,
        http,
        refused_url,
        status,
    )
    from rage_retrievers.testing.faults_case import FaultCase
    from rage_retrievers.testing.faults_catalogue import FAULTS
    from rage_retrievers.testing.faults_server import FaultServer
    from rage_retrievers.testing.vectorize import VectorizeServer, vectorize_server
    from rage_retrievers.testing.world import REFUSED, SILENCE, AsyncVirtualWorld, Reply, Running, VirtualWorld

_HOMES = {
    "FAULTS": "faults_catalogue",
    "Close": "faults",
    "Drip": "faults",
    "Fault": "faults",
    "FaultCase": "faults_case",
    "FaultServer": "faults_server",
    "Flood": "faults",
    "Hang": "faults",
    "ReceivedRequest": "faults",
    "Reset": "faults",
    "Script": "faults",
    "Wait": "faults",
    "Write": "faults",
    "answer": "faults",
    "answer_body": "faults",
    "chunk": "faults",
    "delay": "faults",
    "fail_then": "faults",
    "fraction": "faults",
    "http": "faults",
    "refused_url": "faults",
    "status": "faults",
    "AsyncVirtualWorld": "world",
    "REFUSED": "world",
    "Reply": "world",
    "Running": "world",
    "SILENCE": "world",
    "VectorizeServer": "vectorize",
    "VirtualWorld": "world",
    "vectorize_server": "vectorize",
}

__all__ = [
    "FAULTS",
    "REFUSED",
    "SILENCE",
    "AsyncVirtualWorld",
    "Close",
    "Drip",
    "Fault",
    "FaultCase",
    "FaultServer",
    "Flood",
    "Hang",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "Running",
    "Script",
    "VectorizeServer",
    "VirtualWorld",
    "Wait",
    "Write",
    "answer",
    "answer_body",
    "chunk",
    "delay",
    "fail_then",
    "fraction",
    "http",
    "refused_url",
    "status",
    "vectorize_server",
]

__getattr__ = loader(__name__, _HOMES)
