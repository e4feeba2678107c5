"""Adaptive throttling: a service that turns calls away is sent fewer of them, by a rule each client applies. Opt-in.

The rule is the client-side throttling of Google's "Site Reliability Engineering", chapter 21, "Handling Overload".
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from .._flow import Flow
from ..errors import ThrottledError
from ..observability.events import Rejected
from .failures import is_overload, is_service_failure
from .pipeline import Call, Step, above, at_least
from .window import Window


class Acceptance:
    """Requests that the service accepted, and those that it or this policy turned away, of the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._window = Window(seconds)

    def add(self, now: float, *, accepted: bool) -> None:
        """Count one request."""
        with self._lock:
            self._window.add(now, bad=not accepted)

    def refusal(self, now: float, k: float) -> float:
        """The probability with which the next request is refused here."""
        with self._lock:
            accepts, turned_away = self._window.totals(now)
        requests = accepts + turned_away
        return max(0.0, (requests - k * accepts) / (requests + 1))


@dataclass(frozen=True, slots=True)
class AdaptiveThrottle:
    """Refuses a request with probability max(0, (requests - `k` * accepts) / (requests + 1)), with `ThrottledError`.

    Both are counted over `window` seconds. A 429 or 503 is not accepted; neither is what was refused here. A failure
    that says nothing of the service's load (a broken connection, a deadline) is left to the circuit breaker. With k = 2
    about as many requests are sent in vain as are accepted. Defaults: k 2, window 120 s.
    """

    kind: ClassVar[str] = "throttle"
    k: float = 2.0
    window: float = 120.0

    def __post_init__(self) -> None:
        at_least("k", self.k, 1)
        above("window", self.window)

    def __call__(self, call: Call, proceed: Step, /) -> Flow[Any]:
        """Refuse by chance, or proceed and count how the service took it."""
        acceptance = call.home.state(self, self._make)
        now = call.clock.monotonic()
        refusal = acceptance.refusal(now, self.k)
        if refusal and call.clock.random() < refusal:
            acceptance.add(now, accepted=False)
            raise self._refusal(call, refusal)
        try:
            answer = yield from proceed(call)
        except Exception as error:
            if is_overload(error):
                acceptance.add(call.clock.monotonic(), accepted=False)
            elif getattr(error, "status", None) is not None and not is_service_failure(error):
                acceptance.add(call.clock.monotonic(), accepted=True)
            raise
        acceptance.add(call.clock.monotonic(), accepted=True)
        return answer

    def _make(self) -> Acceptance:
        return Acceptance(self.window)

    def _refusal(self, call: Call, refusal: float) -> ThrottledError:
        error = ThrottledError(
            f"The service has been turning calls away, so {refusal:.0%} of them are refused here for now; nothing was "
            "sent. Lower the load."
        )
        call.emit(Rejected, self.kind, error)
        return error
