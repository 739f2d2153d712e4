"""Validate many templates in several processes: the same results in the same order.

Input: templates with their layouts. Output: one `TemplateValidation` for each, in order. With few templates,
one processor, or a system that cannot create processes, this process validates them itself. Ctrl-C interrupts
this process alone, which then ends the others. For commands only: a process with threads must not fork.
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

from postroom.letter.language.bounds import Timers
from postroom.letter.validation.validate import TemplateValidation, TemplateWithLayout, validate_template

MIN_TEMPLATES = 24
"""Up to this number of templates a second process costs more time than it saves."""
MAX_PROCESSES = 8
CHUNK = 4
"""Templates that a process takes at a time."""


def validate_in_processes(pairs: Iterable[TemplateWithLayout]) -> Iterable[TemplateValidation]:
    """Validate templates with their layouts; returns the results in order."""
    work = list(pairs)
    processes = min(available_processors(), MAX_PROCESSES, len(work) // (MIN_TEMPLATES // 2))
    if len(work) <= MIN_TEMPLATES or processes < 2 or threading.active_count() > 1:
        return map(_validate_pair, work)
    return _in_processes(work, processes)


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(work: Sequence[TemplateWithLayout], processes: int) -> Iterable[TemplateValidation]:
    # fork starts fast and shares loaded modules; it is safe on Linux only
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        pool = ProcessPoolExecutor(processes, context, initializer=_ignore_interrupts)
    except (OSError, ImportError, NotImplementedError):  # no semaphores, no shared memory
        return map(_validate_pair, work)
    interrupted = False
    try:
        with _interrupts_blocked():  # until all processes exist, so that none is left behind
            results = pool.map(_validate_pair, work, chunksize=CHUNK)
        return list(results)
    except (OSError, BrokenProcessPool):  # the process limit is reached, or a process was killed
        return map(_validate_pair, work)
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()  # its results are no longer needed
        interrupted = True
        raise
    finally:
        # after an interrupt wait: else a thread of the pool may write to a closed pipe and print a traceback
        pool.shutdown(wait=interrupted, cancel_futures=True)


def _validate_pair(pair: TemplateWithLayout) -> TemplateValidation:
    return validate_template(*pair, Timers(time.monotonic, time.thread_time))


_ignore_interrupts = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Delay Ctrl-C until the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
