"""What a client can do, as flows: each operation is written here once, and the two clients only drive it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import SecretStr

from . import _endpoint
from ._checks import typed
from ._connection import Connection, check_settings, checked_id, connect
from ._credential import Credential
from ._endpoint import Address, Operation
from ._flow import Clock, Flow, Send, Sleep, WireResponse, is_async
from ._listeners import listeners_of
from ._options import ResearchOptions, ResearchPlan, checked_options
from ._policies import policies_of
from .engines._answer import bare
from .errors import ConfigurationError, DeadlineExceededError, RageError, UnauthorizedError
from .models import PipelineStatus, Query, Research, ResearchEvent, Retrieval
from .observability.correlation import DEFAULT_PREFIX, HEADER, correlation_id, new_id
from .observability.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CallCompleted,
    CallStarted,
    Listener,
    sending,
    tell,
)
from .observability.secrets import register_secret
from .resilience import Call, Deadline, Homes, Pipeline
from .resilience.pipeline import shared_homes

T = TypeVar("T")

_LONGEST_SEND = 86_400.0
_ADDRESS = ("organization", "pipeline_id")
_FOR_SETTINGS = (*_ADDRESS, "base_url", "environment", "retrieval_url", "allow_insecure",
                 "max_response_mib", "user_agent")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calls:
    """The operations on one pipeline of the service, as flows. Frozen: options make a changed copy."""

    connection: Connection
    resilience: Pipeline
    defaults: Mapping[str, Any]
    """Query options given to the client."""
    min_scores: tuple[float | None, float | None] = (None, None)
    """The least relevancy and the least similarity, from the settings."""
    listeners: tuple[Listener, ...] = ()
    enabled: bool = True
    id_prefix: str = DEFAULT_PREFIX
    homes: Homes = field(default=shared_homes, repr=False)

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Calls:
        """Calls from a client's options; see `ClientOptions`. Raises ConfigurationError or TypeError."""
        options = checked_options(given)
        # Before anything can be wrong: no error shows a token that is known.
        credential = Credential(options.pop("api_key")) if "api_key" in options else None
        settings = options.pop("settings", None)
        own = {name: options.pop(name) for name in _FOR_SETTINGS if name in options}
        if settings is None:
            from .settings import VectorizeSettings

            settings = VectorizeSettings.load(**own)
        else:
            check_settings(settings)
            settings = settings.changed(**own)
        connection = connect(settings, credential=credential, engine=options.pop("engine", None))
        _agrees(connection.address, own)
        base = cls(
            connection,
            policies_of(settings),
            {"num_results": settings.num_results, "rerank": settings.rerank},
            (settings.min_relevance_score, settings.min_similarity_score),
            listeners_of(settings),
            enabled=settings.enabled,
            id_prefix=settings.correlation_id_prefix,
        )
        if "listeners" in options:
            options["listeners"] = (*base.listeners, *_listeners(options["listeners"]))
        return base.with_options(options)

    def with_options(self, given: Mapping[str, Any]) -> Calls:
        """A copy with these options changed; address and engine stay."""
        options = checked_options(given)
        fixed = [name for name in ("settings", "base_url", "environment", "retrieval_url", "engine",
                                   "allow_insecure", "max_response_mib", "user_agent") if name in options]  # fmt: skip
        if fixed:
            raise ConfigurationError(f"{fixed[0]} is fixed when a client is made; make another client to change it.")
        resilience = options.pop("resilience", self.resilience)
        if not isinstance(resilience, Pipeline):
            raise ConfigurationError("resilience needs a Pipeline, such as default_pipeline().without('retry').")
        timeout = options.pop("timeout", None)
        if timeout is not None:
            resilience = resilience.with_policies(Deadline(timeout))
        connection = self.connection
        if "api_key" in options:
            connection = replace(connection, credential=Credential(options.pop("api_key")))
        elsewhere: dict[str, str] = {name: options.pop(name) for name in _ADDRESS if name in options}
        if elsewhere:
            connection = replace(connection, address=_redirected(connection.address, elsewhere))
        listeners = _listeners(options.pop("listeners", self.listeners))
        defaults = {**self.defaults, **options}
        Query.make({"question": "?", **defaults})
        return replace(self, connection=connection, resilience=resilience, listeners=listeners, defaults=defaults)

    def retrieve(self, clock: Clock, question: str, options: Mapping[str, Any]) -> Flow[Retrieval]:
        """The passages for a question. Whatever is wrong with the question is raised before anything is sent."""
        values = {**self.defaults, "question": question, **options}
        address = self.connection.address
        if "pipeline_id" in values or "organization" in values:
            elsewhere = {name: values.pop(name) for name in _ADDRESS if name in values}
            address = _redirected(address, elsewhere)
        query = self._query(values)
        if not self.enabled:
            return _disabled(query)
        operation = _endpoint.retrieve(address, query, max_bytes=self.connection.max_bytes)
        return self._run(clock, operation, address, query=query, timeout=query.timeout)

    def pipeline(self, clock: Clock) -> Flow[PipelineStatus]:
        """The pipeline's status."""
        address = self._api("the pipeline's status")
        return self._run(clock, _endpoint.pipeline_status(address), address, without=("cache", "hedge", "degradation"))

    def deep_research(self, clock: Clock, query: str, options: ResearchOptions) -> Flow[Research]:
        """Start a deep research and ask how it stands until it is ready or its time has passed."""
        if not isinstance(query, str) or not query.strip():
            raise ConfigurationError("query is empty; say what to research.")
        plan = ResearchPlan.make(options)
        address = self._api("deep research")
        start = _endpoint.start_research(address, query, web_search=plan.web_search, schema=plan.schema, n8n=plan.n8n)
        return self._research(clock, start, address, plan)

    def _research(self, clock: Clock, start: Operation[str], address: Address, plan: ResearchPlan) -> Flow[Research]:
        started = clock.monotonic()
        # A second start would be a second research, so only the polls are retried.
        aside = ("cache", "hedge", "degradation")
        last: list[Call] = []
        research_id = yield from self._run(
            clock, start, address, timeout=plan.timeout, without=("retry", *aside), last=last
        )
        poll = _endpoint.poll_research(address, research_id)
        polls = 0
        while True:
            left = started + plan.timeout - clock.monotonic()
            if left <= 0:
                late = DeadlineExceededError(
                    f"The deep research {research_id} was not ready within {plan.timeout:.3g} s and {polls} polls; "
                    "raise timeout= if it needs longer."
                )
                _identify(late, *last)
                raise late
            research = yield from self._run(clock, poll, address, timeout=self._at_most(left), without=aside, last=last)
            polls += 1
            elapsed = clock.monotonic() - started
            if plan.on_progress is not None:
                ready = research is not None
                plan.on_progress(ResearchEvent(research_id=research_id, polls=polls, elapsed=elapsed, ready=ready))
            if research is not None:
                return research
            yield Sleep(min(plan.poll_every, max(0.0, plan.timeout - elapsed)))

    def _at_most(self, left: float) -> float:
        deadline = self.resilience.get("deadline")
        return min(left, deadline.timeout) if isinstance(deadline, Deadline) else left

    def _query(self, values: dict[str, Any]) -> Query:
        if "min_score" not in values:
            relevancy, similarity = self.min_scores
            least = relevancy if values.get("rerank") else similarity
            if least is not None:
                values["min_score"] = least
        return Query.make(values)

    def _api(self, what: str) -> Address:
        if self.connection.address.retrieval_url is not None:
            raise ConfigurationError(
                f"The older gateway's retrieval_url knows nothing of {what}; use organization and pipeline_id instead."
            )
        return self.connection.address

    def _run(
        self,
        clock: Clock,
        operation: Operation[T],
        address: Address,
        *,
        query: Query | None = None,
        timeout: float | None = None,
        without: tuple[str, ...] = (),
        last: list[Call] | None = None,
    ) -> Flow[T]:
        """One logical call: the policies around the attempt, and an event at either end. It is left in `last`."""
        resilience = self.resilience.without(*without) if without else self.resilience
        started = clock.monotonic()
        call = Call(
            operation.name,
            address.target,
            clock,
            self.homes.of(address.target),
            query=query,
            credential=self.connection.credential.digest,
            timeout=timeout,
            call_id=new_id(self.id_prefix),
            listeners=self.listeners,
            started=started,
        )
        if last is not None:
            last[:] = (call,)
        if timeout is not None:
            call.deadline = started + timeout
        call.emit(CallStarted, operation.name, query)
        try:
            answer = yield from resilience.around(partial(self._attempt, operation))(call)
        except BaseException as error:  # cancelled calls are told of too
            if isinstance(error, RageError):
                _identify(error, call)
            self._completed(call, None, error)
            raise
        if isinstance(answer, Retrieval):
            answer = answer.with_facts(attempts=call.attempts, elapsed=clock.monotonic() - started)
        self._completed(call, answer, None)
        return answer  # type: ignore[no-any-return]  # what operation.read gave, or a fallback in its place

    @staticmethod
    def _completed(call: Call, answer: object, error: BaseException | None) -> None:
        if call.listeners:
            elapsed = call.clock.monotonic() - call.started
            retrieval = answer if isinstance(answer, Retrieval) else None
            try:
                call.emit(CallCompleted, call.operation, call.query, call.attempts, elapsed, retrieval, error)
            except RageError as refused:  # by a listener without whose record there is no answer
                _identify(refused, call)
                raise

    def _attempt(self, operation: Operation[T], call: Call) -> Flow[T]:
        """One attempt; a token that the service refuses is asked for once more, where it can be asked for."""
        credential = self.connection.credential
        token = credential.current()
        if token is None:
            token = yield from credential.token(call.clock, call.remaining)
        try:
            return (yield from self._send(operation, call, token))
        except UnauthorizedError:
            if not credential.renewable:
                raise
            credential.expire(token)
        renewed = yield from credential.token(call.clock, call.remaining)
        return (yield from self._send(operation, call, renewed))

    def _send(self, operation: Operation[T], call: Call, token: SecretStr) -> Flow[T]:
        """One request and the reading of its answer."""
        remaining = call.remaining()
        if remaining <= 0:
            raise DeadlineExceededError(
                f"The time of the call was spent after {call.attempts} attempts; raise timeout= if it needs longer."
            )
        call.attempts += 1
        # Again, where many others have come since: the last ones alone are remembered.
        register_secret(token.get_secret_value())
        request = operation.build(token.get_secret_value(), ((HEADER, correlation_id.get() or call.call_id),))
        send = Send(request, min(remaining, _LONGEST_SEND), self.connection.max_bytes)
        if call.listeners:
            return (yield from self._told(operation, call, send))
        try:
            return operation.read((yield send))
        except RageError as error:
            _redacted(error)
            raise

    @staticmethod
    def _told(operation: Operation[T], call: Call, send: Send) -> Flow[T]:
        """The same, with the listeners told, and their headers and context around the request."""
        request = send.request
        began = AttemptStarted(call.call_id, call.target, call.attempts, request.method, request.url)
        tell(call.listeners, began)
        started = call.clock.monotonic()
        response: WireResponse | None = None
        try:
            with sending(call.listeners, began) as headers:
                send.request = request.with_headers(headers)
                response = yield send
            status, answer = response.status, operation.read(response)
        except RageError as error:
            response = None  # see `_redacted`
            elapsed = call.clock.monotonic() - started
            call.emit(AttemptFailed, began.attempt, elapsed, _redacted(error), request.method)
            raise
        call.emit(AttemptSucceeded, began.attempt, call.clock.monotonic() - started, status, request.method)
        return answer


def _identify(error: RageError, call: Call) -> None:
    error.attempts = call.attempts
    error.correlation_id = correlation_id.get() or call.call_id


def _redacted(error: RageError) -> RageError:
    """The same error without what a service or a gateway may have echoed of the request, and without its answer, which
    the frames that it passed through hold."""
    from .observability.redaction import DEFAULT_REDACTOR

    bare(error)
    return DEFAULT_REDACTOR.error(error)


def _listeners(given: object) -> tuple[Listener, ...]:
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"listeners is {typed(given)}; give a list of listeners.")
    listeners = tuple(given)
    for listener in listeners:
        if isinstance(listener, type) or not callable(getattr(listener, "on_event", None)):
            raise ConfigurationError(f"listeners holds {typed(listener)}; a listener has on_event(event).")
        if is_async(listener.on_event):
            raise ConfigurationError(
                f"listeners holds {typed(listener)} whose on_event is async; nobody would await it."
            )
    return listeners


def _agrees(address: Address, own: Mapping[str, Any]) -> None:
    """Refuse an id that would be passed over because the older gateway's address names another."""
    if address.retrieval_url is None:
        return
    for name in _ADDRESS:
        named = getattr(address.target, name)
        if own.get(name) is not None and str(own[name]).strip() != named:
            raise ConfigurationError(
                f"{name} = {own[name]!r} cannot be used, for retrieval_url names {named!r}; give one of them."
            )


def _redirected(address: Address, elsewhere: Mapping[str, str]) -> Address:
    """The address of another pipeline or organization of the same service."""
    if address.retrieval_url is not None:
        raise ConfigurationError(f"{next(iter(elsewhere))} cannot be changed: retrieval_url names it.")
    ids = {name: checked_id(value, name) for name, value in elsewhere.items()}
    return replace(address, target=address.target._replace(**ids))


def _disabled(query: Query) -> Flow[Retrieval]:
    """RAGE_ENABLED is false: nothing is asked, and the answer says so."""
    empty = Retrieval(documents=(), question=query.question)
    return empty.with_facts(ordered_by=query.ordered_by, attempts=0, degraded="disabled")
    yield Sleep(0)  # type: ignore[unreachable]  # makes this function a generator
