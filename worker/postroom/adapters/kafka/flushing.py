"""Waiting for a producer's acknowledgements beside the loop, and no longer than somebody wants to know.

A thread cannot be cancelled, and a program that ends waits for its threads: without this, dead letters that
no broker took held up its end for as long as they may be tried.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Producer

LOOK_SECONDS = 0.2

Published = TypeVar("Published")


async def beside(publish: Callable[[threading.Event], Published]) -> Published:
    """Run it on a thread; the event is set when whoever waits is cancelled."""
    called_off = threading.Event()
    try:
        return await asyncio.to_thread(publish, called_off)
    finally:
        called_off.set()


def flush(producer: Producer, seconds: float, called_off: threading.Event) -> None:
    """Wait for so long until all that was produced is acknowledged or given up, or until it is called off."""
    end = time.monotonic() + seconds
    left = max(0.0, seconds)  # below zero the library waits for ever
    while producer.flush(min(LOOK_SECONDS, left)) and not called_off.is_set():
        left = end - time.monotonic()
        if left <= 0:
            return
