"""Prove many templates on all processors: the same proofs, in the same order, in less time.

Templates with their layouts in, one `Proof` for each out, in order. Few templates, one processor, or a system
that starts no processes: they are proved in this process. Ctrl-C reaches this process alone; the others end
with it. For commands only: a process with threads of its own must not fork.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

from postroom.letter.language.bounds import Clocks
from postroom.letter.validation.validate import TemplateValidation, TemplateWithLayout, validate_template

MIN_TEMPLATES = 24
"""Up to so many templates a second process costs more than it saves."""
MAX_PROCESSES = 8
CHUNK = 4
"""Templates that a process is given at a time."""


def validate_in_processes(pairs: Iterable[TemplateWithLayout]) -> Iterable[TemplateValidation]:
    """One proof for each template and its layout, in order."""
    work = list(pairs)
    processes = min(available_processors(), MAX_PROCESSES, len(work) // (MIN_TEMPLATES // 2))
    if len(work) <= MIN_TEMPLATES or processes < 2 or threading.active_count() > 1:
        return map(_validate_pair, work)
    return _in_processes(work, processes)


def available_processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(work: Sequence[TemplateWithLayout], processes: int) -> Iterable[TemplateValidation]:
    # a fork starts at once and shares what is loaded; elsewhere than on Linux it is not safe
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        pool = ProcessPoolExecutor(processes, context, initializer=_ignore_interrupts)
    except (OSError, ImportError, NotImplementedError):  # no semaphores, no shared memory
        return map(_validate_pair, work)
    try:
        with _interrupts_blocked():  # until every process is known, so that none is left behind
            proofs = pool.map(_validate_pair, work, chunksize=CHUNK)
        return list(proofs)
    except (OSError, BrokenProcessPool):  # no more processes, or one was ended
        return map(_validate_pair, work)
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()  # what it proves is not wanted any more
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _validate_pair(pair: TemplateWithLayout) -> TemplateValidation:
    return validate_template(*pair, Clocks(time.monotonic, time.thread_time))


_ignore_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C waits until the block is over."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
