"""Work that a client starts with one request and polls for with others.

Its record is kept in the account, so that an answer outlives the process; work that a process left undone is started
again by the first request that asks for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from rage_retrievers.local.account import Account, Job

_log = logging.getLogger("rage_retrievers.local")


class Background:
    """Runs work beside the requests: in the executor given, else in two threads of its own, started when needed."""

    def __init__(self, executor: Executor | None = None) -> None:
        self._given = executor
        self._own: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._running: set[str] = set()

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do `work` soon; work of a name that is already under way is not started twice."""
        with self._lock:
            if name in self._running:
                return
            self._running.add(name)
            if self._given is None and self._own is None:
                self._own = ThreadPoolExecutor(max_workers=2, thread_name_prefix="rage-local-job")
            executor = self._given or self._own
        assert executor is not None
        executor.submit(self._run, name, work)

    def close(self) -> None:
        """Wait for what is under way; what has not begun is left for the next start."""
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)

    def _run(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # nobody waits for this thread, so the log is the place to tell
            _log.exception("local.job_failed")
        finally:
            with self._lock:
                self._running.discard(name)


class Jobs:
    """The jobs of an account."""

    def __init__(self, account: Account, background: Background) -> None:
        self._account = account
        self._background = background

    def start(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> None:
        """Keep the job and do it soon; its result is what `work` returns, or says that it failed."""
        self._account.put(job)
        self._submit(job, work)

    def poll(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> dict[str, Any]:
        """The protocol's answer: `ready`, and `data` once it is."""
        if job.result is not None:
            return {"ready": True, "data": job.result}
        self._submit(job, work)
        return {"ready": False}

    def _submit(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> None:
        self._background.run(job.id, lambda: self._do(job, work))

    def _do(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> None:
        try:
            result = work(job)
        except Exception as error:  # the protocol has a place for a failure
            _log.exception("local.job_failed")
            result = {"success": False, "error": type(error).__name__}
        self._account.put(replace(job, result=result))
