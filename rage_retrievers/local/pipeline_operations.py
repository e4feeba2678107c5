"""The operations on pipelines themselves: list, create, get, delete, start, stop, events, metrics."""

from __future__ import annotations

from rage_retrievers.local.pipelines import Pipelines
from rage_retrievers.local.wire import Call, LocalResponse, reply


def answer(call: Call, pipelines: Pipelines, rest: tuple[str, ...]) -> LocalResponse | None:
    """The operations below `/org/{id}/pipelines`; None for a path that is none of theirs."""
    match call.method, *rest:
        case ("GET",):
            every = [pipelines.summary(record) for record in pipelines.every()]
            return reply({"message": "Pipelines retrieved", "data": every})
        case ("POST",):
            made = pipelines.create(call.json())
            return reply({"message": "Pipeline created", "data": {"id": made.id}})
        case "GET", identity:
            return reply({"message": "Pipeline retrieved", "data": pipelines.details(pipelines.find(identity))})
        case "DELETE", identity:
            pipelines.delete(pipelines.find(identity))
            return reply({"message": "Pipeline deleted"})
        case "POST", identity, ("start" | "stop") as verb:
            pipelines.stop(pipelines.find(identity), verb == "stop")
            return reply({"message": "Pipeline stopped" if verb == "stop" else "Pipeline started"})
        case "GET", identity, "events":
            return reply(pipelines.events(pipelines.find(identity).id, call.query.get("nextToken", "")))
        case "GET", identity, "metrics":
            return reply(pipelines.metrics(pipelines.find(identity).id))
    return None
