"""What operators are told by `rage serve`: `/rage/health`, `/rage/metrics`, `/rage/circuit` and `/rage/config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..asgi import routes
from ..client import VectorizeClient
from ..errors import ConfigurationError
from ..local.server import is_loopback
from ..models import PipelineStatus
from ..observability.metrics import Metrics
from ..settings import VectorizeSettings

if TYPE_CHECKING:
    from starlette.routing import Route

    from ..local import LocalService


class SelfProbe:
    """Asks the server this process runs how it is, over its own address, as a client of it would."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._client: VectorizeClient | None = None

    def knows(self, url: str, service: LocalService, api_key: str | None) -> None:
        """The server is there: this is where and who it is."""
        # Whatever the environment says of another service does not concern this one.
        settings = VectorizeSettings.load().model_copy(update={"retrieval_url": None})
        self._client = VectorizeClient(
            settings=settings,
            base_url=url,
            organization=service.organization,
            pipeline_id=service.pipeline_id,
            api_key=api_key or "local",
            engine="httpx",
            listeners=(self.metrics,),
        )

    def pipeline(self) -> PipelineStatus:
        """The pipeline's status; raises a RageError where there is none."""
        if self._client is None:
            raise ConfigurationError("the server is still starting")
        return self._client.pipeline()


def operator_routes(host: str, probe: SelfProbe) -> list[Route]:
    """The operators' routes; none where other machines could ask, since they name settings without asking a token."""
    if not is_loopback(host):
        return []
    return routes(probe, metrics=probe.metrics, settings=VectorizeSettings.load())
