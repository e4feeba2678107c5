"""Workspaces: the local service has one."""

from __future__ import annotations

from rage_retrievers.local.wire import LocalResponse, RefusedError, reply

LOCAL_WORKSPACE = "00000000-0000-4000-8000-000000000004"
_ONLY = {"id": LOCAL_WORKSPACE, "name": "Local", "createdAt": None, "updatedAt": None}


def workspaces(rest: tuple[str, ...]) -> LocalResponse:
    """The list of all, or one by its id; 404 for any other."""
    if not rest:
        return reply({"workspaces": [_ONLY]})
    if rest == (LOCAL_WORKSPACE,):
        return reply(_ONLY)
    raise RefusedError(404, "Workspace not found", "this service has one workspace")
