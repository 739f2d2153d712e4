"""Offsets on their way from the loop, which says what is done, to the client, which commits it.

In: offsets, on any thread. Out: commits, on the polling thread. One that fails is told and forgotten: its
records come again and are met by their ledger rows, a nuisance and never a loss.

What is on its way from the polling thread to the event loop, counted.

A busy loop takes its time, and a full topic is read faster than that: without a bound, what was read piles
up before anybody can ask for a pause.

Whether a topic is still the one that it was: deleted and made again it has its old name and another id.

Offsets of the old one say nothing of the new one, and nobody else tells: a consumer reads on from where it
was, and what was written below that is passed over (KIP-516). The answer is asked for now and then, on the
polling thread, which never waits for it.

The consumer-group membership.

It polls on a thread of its own, always, so that slow letters never cost the membership; what it reads goes
to the event loop, and what the loop wants committed goes back. Offsets are committed by hand, never
stored. Rebalances are cooperative; a revoke waits until what is under way is decided.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]

from postroom.adapters.kafka.broker_health import BrokerHealth, is_fatal
from postroom.adapters.kafka.lag import ConsumerLag
from postroom.adapters.kafka.settings import LOG_SETTINGS, GroupMembership, consumer_settings
from postroom.adapters.kafka.topic_reader import record_of
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.kafka import Partition, RecordReceiver

log = structlog.get_logger("postroom.kafka")


class OffsetCommits:
    """What one consumer has committed and is to commit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Partition, int] = {}
        self._latest: dict[Partition, int] = {}
        """The offsets of what is assigned that were handed to the client, on the polling thread."""

    def request(self, offsets: Mapping[Partition, int]) -> None:
        """Have these committed, on any thread; a later call supersedes an earlier one."""
        with self._lock:
            self._wanted.update(offsets)

    def commit_async(self, consumer: Consumer) -> None:
        """Hand what is wanted to the client, and do not wait for it."""
        wanted = self._take()
        if wanted:
            self._latest |= wanted
            with _log_failure():
                consumer.commit(offsets=topic_partitions(wanted), asynchronous=True)

    def commit_sync(self, consumer: Consumer) -> None:
        """Commit all again and wait: nobody hears whether what `soon` handed over arrived."""
        self._latest |= self._take()
        if self._latest:
            with _log_failure():
                for place in consumer.commit(offsets=topic_partitions(self._latest), asynchronous=False):
                    if place.error is not None:
                        raise KafkaException(place.error)

    def withdraw(self, partitions: Collection[Partition]) -> None:
        """They are another's: nothing of them may be committed any more."""
        with self._lock:
            for one in partitions:
                self._wanted.pop(one, None)
        self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are given away, and what was said of them is committed."""
        self._latest = {one: offset for one, offset in self._latest.items() if one not in partitions}

    def _take(self) -> dict[Partition, int]:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
        return wanted


def topic_partitions(offsets: Mapping[Partition, int]) -> list[TopicPartition]:
    """Offsets as the client takes them."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@contextmanager
def _log_failure() -> Iterator[None]:
    try:
        yield
    except KafkaException as failure:
        log.warning("offsets were not committed", error=str(failure))


class HandoffCounter:
    """Counts records handed on and not yet taken; safe on both threads."""

    def __init__(self, room: int) -> None:
        self._capacity = room
        self._in_flight = 0
        self._moved = threading.Condition()

    def begin(self, count: int) -> None:
        """So many were handed on."""
        with self._moved:
            self._in_flight += count

    def end(self, count: int) -> None:
        """So many were taken."""
        with self._moved:
            self._in_flight -= count
            self._moved.notify()

    def wait_for_capacity(self, seconds: float) -> bool:
        """Whether no more than there is room for is on the way, or will be within the time."""
        with self._moved:
            return self._moved.wait_for(lambda: self._in_flight <= self._capacity, seconds)


TOPIC_ID_INTERVAL_SECONDS = 5.0
TOPIC_ID_TIMEOUT_SECONDS = 5.0
TOPIC_PROBE_SECONDS = 1.0


class TopicIdWatcher:
    """The id of one topic, as the brokers say it."""

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._admin: AdminClient | None = AdminClient(
            {**kafka.client_settings(), "client.id": "postroom-worker", **LOG_SETTINGS}
        )
        self._topic = topic
        self._known = ""
        self._asked: Future[TopicDescription] | None = None
        self._due = 0.0

    def changed(self) -> bool:
        """Whether the topic is another one than at the last answer. A broker without ids never says so."""
        now = time.monotonic()
        if self._asked is None:
            if self._admin is not None and now >= self._due:
                self._due = now + TOPIC_ID_INTERVAL_SECONDS
                wanted = TopicCollection([self._topic])
                self._asked = self._admin.describe_topics(wanted, request_timeout=TOPIC_ID_TIMEOUT_SECONDS)[
                    self._topic
                ]
            return False
        if not self._asked.done():
            return False
        answer, self._asked = self._asked, None
        try:
            found = str(answer.result().topic_id)
        except KafkaException:
            return False  # it is not there, or nobody answers: the consumer hears of that itself
        before, self._known = self._known, found
        return before not in ("", found)

    def answered(self) -> bool:
        """Whether a broker answers anything within a second; waits for it, on any thread."""
        admin = self._admin
        try:
            if admin is not None:  # it is let go of at the end, and then there is nothing to wait for
                admin.list_topics(self._topic, timeout=TOPIC_PROBE_SECONDS)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        """Let the client go, here and now.

        Garbage is collected on any thread. On the client's own, with an answer that comes late, that would
        be its end: the library aborts the process.
        """
        self._admin = None


POLL_SECONDS = 0.1
LAG_SECONDS = 1.0
PROBE_SECONDS = 1.0
LEAVE_TIMEOUT_SECONDS = 0.5
"""How long a broker that is there may take to let a member go, before it is asked whether it is."""
BATCH_RECORDS = 500
"""Records read at once; while more than that is on the way to the loop, nothing further is fetched."""


class KafkaConsumer:
    """Implements ports.events.Events for one topic."""

    def __init__(self, kafka: KafkaConnection, topic: str, member: GroupMembership) -> None:
        self._kafka = kafka
        self._settings = consumer_settings(kafka, member)
        self.broker_health = BrokerHealth(topic, member.group)
        self._topic = topic
        self._patience = member.patience
        self._commits = OffsetCommits()
        self._handoff = HandoffCounter(BATCH_RECORDS)
        self._pause_wanted = False
        self._paused: bool | None = False
        """Of all that is assigned; None when that has to be said anew."""
        self._stopping = threading.Event()
        self._left = threading.Event()
        """The group was left, or polling has failed."""
        self._thread = threading.Thread(target=self._poll, name="kafka", daemon=True)
        self._lag = ConsumerLag()
        self._lag_due = 0.0
        self._fatal: KafkaError | None = None
        self._assignment: list[TopicPartition] = []
        self._topic_id: TopicIdWatcher
        self._loop: asyncio.AbstractEventLoop
        self._receiver: RecordReceiver
        self._ended: asyncio.Future[None]

    @property
    def connected(self) -> bool | None:
        """See the port."""
        return self.broker_health.connected

    @property
    def lag(self) -> int | None:
        """Records on the assigned partitions that were not received yet; None while nobody can tell."""
        return self._lag.records

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done when polling ends; carries the error when it was not asked to."""
        return self._ended

    async def start(self, receiver: RecordReceiver) -> None:
        """See the port."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._receiver = receiver
        self._consumer = Consumer(self._settings | {"error_cb": self._on_error})
        self._topic_id = TopicIdWatcher(self._kafka, self._topic)
        self._thread.start()

    def pause(self) -> None:
        """See the port."""
        self._pause_wanted = True

    def resume(self) -> None:
        """See the port."""
        self._pause_wanted = False

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """See the port."""
        self._commits.request(offsets)

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        """See the port."""
        self.commit(offsets)
        self._stopping.set()
        # it is not alive when it was never started: the settings may be refused
        while self._thread.is_alive() and not self._left.is_set():
            left = await asyncio.to_thread(self._left.wait, LEAVE_TIMEOUT_SECONDS)
            if not left and not await asyncio.to_thread(self._topic_id.answered):
                # the library would try for as long as a session lasts, or longer, and has no way to be told
                log.warning("no broker answers: offsets are not committed, and the group is not told")
                return

    # --- on the polling thread ---

    def _poll(self) -> None:
        error: BaseException | None = None
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set():
                self._hand_off(self._consumer.consume(BATCH_RECORDS, POLL_SECONDS))
                if self._fatal is not None:
                    raise KafkaException(self._fatal)
                if self._topic_id.changed():
                    self._restart_topic()
                self._apply_pause()
                self._commits.commit_async(self._consumer)
                self._measure_lag()
            self._commits.commit_sync(self._consumer)
            self._consumer.close()
        except BaseException as failure:  # noqa: BLE001 - handed to the program, which ends by it
            error = failure
        self._left.set()
        self._call_on_loop(self._end, error)
        self._topic_id.close()  # which takes as long as what it asked last may be answered

    def _call_on_loop(self, what: Callable[..., None], *given: Any) -> None:
        """On the loop, soon. One that is closed did not wait for this thread to end, and needs nothing."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *given)

    def _end(self, error: BaseException | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _hand_off(self, messages: Sequence[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif is_fatal(error):
                raise KafkaException(error)
            else:
                self.broker_health.on_error(error)
        if records:
            self.broker_health.on_success()
            self._handoff.begin(len(records))
            self._call_on_loop(self._take, records)

    def _take(self, records: Sequence[Record]) -> None:
        """On the loop: the other end of `_hand_on`."""
        try:
            self._receiver.received(records)
        finally:
            self._handoff.end(len(records))

    def _measure_lag(self) -> None:
        if time.monotonic() < self._lag_due:
            return
        self._lag_due = time.monotonic() + LAG_SECONDS
        if self.broker_health.needs_probe:
            self._probe_broker()
        if self.broker_health.needs_probe:
            self._lag.mark_unknown()
        else:  # what is paused is not fetched, and nothing would tell how it grows
            self._lag.measure(self._consumer, self._assignment, fresh=bool(self._paused))

    def _probe_broker(self) -> None:
        """On a quiet topic nothing else would tell that the brokers are back."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=PROBE_SECONDS).topics[self._topic]
        except KafkaException:
            return
        self.broker_health.on_answer(found.error)

    def _apply_pause(self) -> None:
        # a loop that is behind for a moment is waited for: a pause throws away what was prefetched
        wanted = not self._handoff.wait_for_capacity(POLL_SECONDS) or self._pause_wanted
        if wanted == self._paused:
            return
        (self._consumer.pause if wanted else self._consumer.resume)(self._assignment)
        self._paused = wanted

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.broker_health.on_success()
        if not self._stopping.is_set():  # ahead of the first record, which goes to the loop the same way
            self._call_on_loop(self._receiver.assigned, _partition_names(partitions))
        consumer.incremental_assign(partitions)
        self._assignment += partitions
        self._lag.on_assignment_changed(member=True)
        self._paused = None  # new partitions fetch at once, others may be paused: the next round says which
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions revoked", partitions=[p.partition for p in partitions])
        try:
            offsets = self._request_offsets(_partition_names(partitions))
        except TimeoutError:
            log.warning("letters of revoked partitions were not decided in time", patience=self._patience)
            self._on_lost(consumer, partitions)
            return
        self.commit(offsets)
        self._commits.commit_sync(consumer)
        self._unassign(consumer, partitions)

    def _restart_topic(self) -> None:
        """The topic was made again: offsets of the one before would pass over what is in this one."""
        names = _partition_names(self._assignment)
        log.warning("the topic was made again and is read from its beginning", topic=self._topic)
        try:
            self._request_offsets(names)
        except TimeoutError:
            self._call_on_loop(self._receiver.lost, names)
        self._consumer.incremental_unassign(self._assignment)
        self._commits.withdraw(names)  # what was committed meanwhile is of the one before
        self._commits.request(dict.fromkeys(names, 0))
        self._commits.commit_sync(self._consumer)
        self._call_on_loop(self._receiver.assigned, names)
        self._lag.on_assignment_changed(member=True)
        self._assignment = topic_partitions(dict.fromkeys(names, OFFSET_BEGINNING))
        self._consumer.incremental_assign(self._assignment)
        self._paused = None

    def _request_offsets(self, names: Sequence[Partition]) -> Mapping[Partition, int]:
        """Raises TimeoutError when what is under way is not decided within the patience."""
        if self._stopping.is_set():
            return {}  # the program drained already, and its loop may be waiting for this thread
        answer = asyncio.run_coroutine_threadsafe(self._revoke(names), self._loop)
        try:
            return answer.result(self._patience)
        except TimeoutError:
            answer.cancel()
            raise

    async def _revoke(self, names: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._receiver.revoked(names)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", partitions=[p.partition for p in partitions])
        names = _partition_names(partitions)
        self._commits.withdraw(names)
        self._call_on_loop(self._receiver.lost, names)
        self._unassign(consumer, partitions)
        self._lag.on_assignment_changed(member=False)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        # kept here: a consumer that is closing refuses to say what it has, on no exception that can be caught
        gone = set(_partition_names(partitions))
        self._commits.forget(gone)
        self._assignment = [one for one in self._assignment if (one.topic, one.partition) not in gone]

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._fatal = error  # this consumer never reads again; the polling ends by it
        self.broker_health.on_error(error)


def _partition_names(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(one.topic, one.partition) for one in partitions]
