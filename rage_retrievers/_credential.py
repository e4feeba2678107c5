"""The token, fixed or asked for."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import re
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

from pydantic import SecretStr

from ._checks import typed
from ._flow import Ask, Clock, Flow, LateError, Wait, is_async
from .errors import ConfigurationError, DeadlineExceededError, RageError
from .observability.secrets import register_secret

TokenSource: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]
ApiKey: TypeAlias = str | SecretStr | TokenSource

# A function that has not returned by then is taken for lost, and the next call that needs the token asks once more.
_LOST_SECONDS = 60.0


def register_key(key: object) -> None:
    """Register a token with redaction, where it is known without asking; what is wrong with it is told elsewhere."""
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    if isinstance(text, str):
        register_secret(text.strip())


class Credential:
    """The token, fixed or asked for. A callable is asked once, and again after a 401. Never shown, never pickled.

    Calls that need the token while it is asked for wait for the same answer, and its failure is everyone's. No call
    waits beyond its time. Then, or when it is cancelled, a sync function goes on for the others and for later calls; an
    async one ends with the call that asks, and another takes over.
    """

    __slots__ = ("_asking", "_begun", "_digest", "_lock", "_process", "_source", "_token")

    def __init__(self, key: ApiKey) -> None:
        self._source = key if callable(key) else None
        self._token: SecretStr | None = None
        self._lock = threading.Lock()
        self._asking: Future[RageError | None] | None = None
        self._begun = -math.inf
        self._process = 0
        self._digest = ""
        if isinstance(key, SecretStr):
            self._keep(key.get_secret_value())
        elif isinstance(key, str):
            self._keep(key)
        elif not callable(key):
            raise ConfigurationError(
                f"api_key is {typed(key)}; give a text, a SecretStr, or a function that returns the token."
            )

    @property
    def renewable(self) -> bool:
        """Whether the token is asked for, so that a fresh one may be had."""
        return self._source is not None

    @property
    def digest(self) -> str:
        """Tells tokens apart without holding one; empty until a callable was asked."""
        return self._digest

    def token(self, clock: Clock, remaining: Callable[[], float]) -> Flow[SecretStr]:
        """The token; asked for where that is needed, by one of the calls that need it. `remaining` is this call's time.

        Raises ConfigurationError if the function fails, DeadlineExceededError if it takes longer than the call has.
        """
        while True:
            with self._lock:
                if self._token is not None:
                    return self._token
                mine = self._is_to_be_asked(clock.monotonic())
                if mine:
                    self._asking, self._begun, self._process = Future(), clock.monotonic(), os.getpid()
                asking = self._asking
            assert asking is not None  # the lines above have made it
            try:
                yield self._ask(asking, remaining()) if mine else Wait(asking, max(0.0, remaining()))
            except (LateError, TimeoutError):
                raise DeadlineExceededError(
                    "The time of the call was spent waiting for api_key's function; raise timeout= if it needs longer."
                ) from None
            except BaseException:
                if mine and self._claim(asking):  # cancelled before the function was called: it will not be
                    self._end(asking, None)
                raise
            failed = asking.result(0)
            if failed is not None:
                if mine:
                    raise failed
                # An exception collects the traceback of everyone who raises it, so each raises its own.
                raise copy.copy(failed) from failed

    def _is_to_be_asked(self, now: float) -> bool:
        # A child of a fork inherits what its parent asked, and would never hear the answer.
        return self._asking is None or self._process != os.getpid() or now - self._begun > _LOST_SECONDS

    def _ask(self, asking: Future[RageError | None], timeout: float) -> Ask:
        source: Any = self._source

        def call() -> None:
            if not self._claim(asking):
                return
            try:
                token = source()
            except BaseException as error:
                self._failed(asking, error)
            else:
                self._had(asking, token)

        async def acall() -> None:
            if not self._claim(asking):
                return
            try:
                token = await source()
            except BaseException as error:
                self._failed(asking, error)
            else:
                self._had(asking, token)

        return Ask(acall=acall, timeout=timeout) if is_async(source) else Ask(call=call, timeout=timeout)

    def _claim(self, asking: Future[RageError | None]) -> bool:
        """Whether it falls to the caller to settle it: to whoever calls the function, unless its call ended before."""
        with self._lock:
            return not (asking.running() or asking.done()) and asking.set_running_or_notify_cancel()

    def _had(self, asking: Future[RageError | None], token: object) -> None:
        try:
            self._keep(token)
        except ConfigurationError as error:
            self._end(asking, error)
        else:
            self._end(asking, None)

    def _failed(self, asking: Future[RageError | None], error: BaseException) -> None:
        if isinstance(error, Exception):
            self._end(asking, _not_had(error))
        else:  # cancelled
            self._end(asking, None)
            raise error

    def _end(self, asking: Future[RageError | None], failed: RageError | None) -> None:
        with self._lock:
            if self._asking is asking:
                self._asking = None
        asking.set_result(failed)

    def current(self) -> SecretStr | None:
        """The token, if it is known without asking."""
        return self._token

    def expire(self, token: SecretStr) -> None:
        """The service refused `token`: ask again, unless somebody already has."""
        if self._token is token:
            self._token = None

    def _keep(self, token: object) -> SecretStr:
        text = token.get_secret_value() if isinstance(token, SecretStr) else token
        if not isinstance(text, str):
            raise ConfigurationError(f"api_key gave {typed(text)}; it must return the token as text.")
        text = text.strip()
        if not text:
            raise ConfigurationError("api_key is empty; give the token, or set VECTORIZE_API_KEY.")
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            raise ConfigurationError("api_key holds a space, a control or a non-ASCII character; a token has none.")
        register_secret(text)
        self._token = kept = SecretStr(text)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return kept

    def __repr__(self) -> str:
        return "Credential(***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a credential is not pickled; it is read again where it is needed")


def _not_had(error: Exception) -> RageError:
    """What the user's function raised, told by its class and place: its words, and its chain's, may hold the token."""
    if isinstance(error, RageError):
        return error
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # which reads no files; the last one is where it began
        place = f" at {os.path.basename(frame.f_code.co_filename)}:{line}"
    return ConfigurationError(
        f"api_key could not be had: the function that returns it raised {type(error).__name__}{place}; its words "
        "are not shown, for they may hold the token."
    )
