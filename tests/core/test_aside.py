"""Work aside: its outcome, and the threads it is done in."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from concurrent.futures import Future

import pytest

from rage_retrievers import _aside
from rage_retrievers._aside import aside


def test_the_future_has_the_outcome() -> None:
    """What the work returned or raised, from a thread that does not keep the process from ending."""
    assert aside(lambda: threading.current_thread().daemon).result(5)
    with pytest.raises(SystemExit):
        aside(lambda: exit(1)).result(5)


def test_one_after_the_other_shares_a_thread() -> None:
    """As many threads as are busy at once, and no more."""
    assert len({aside(threading.get_ident).result(5) for _ in range(100)}) == 1
    meet = threading.Barrier(5)
    busy = [aside(lambda: meet.wait(5)) for _ in range(5)]
    assert sorted(one.result(5) for one in busy) == [0, 1, 2, 3, 4]


def test_what_is_cancelled_before_it_began_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its thread takes the next job."""
    done: list[int] = []
    cancelled: Future[None] = Future()
    cancelled.cancel()
    worker = aside(threading.current_thread).result(5)
    assert isinstance(worker, _aside._Worker)
    with monkeypatch.context() as patch:
        patch.setattr(_aside, "Future", lambda: cancelled)
        aside(lambda: done.append(1))
    then: Future[int] = Future()
    worker.jobs.put((lambda: 2, then))
    assert (then.result(5), done) == (2, [])
    _aside._idle.clear()


def test_nothing_of_the_work_is_kept() -> None:
    """It holds a request, and so a credential."""

    class Request:
        pass

    request = Request()
    gone = weakref.ref(request)
    aside(lambda held=request: None).result(5)  # type: ignore[misc]
    del request
    aside(lambda: None).result(5)
    gc.collect()
    assert gone() is None


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without work."""
    _aside._idle.clear()
    monkeypatch.setattr(_aside, "_IDLE_SECONDS", 0.01)
    worker = aside(threading.current_thread).result(5)
    worker.join(5)
    assert not worker.is_alive()
    assert not _aside._idle
    assert aside(lambda: 1).result(5) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    """Its parent's do not live there."""
    aside(lambda: None).result(5)
    child = os.fork()
    if child == 0:
        os._exit(aside(lambda: 7).result(5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
