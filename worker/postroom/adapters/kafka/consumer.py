"""The group consumer: the implementation of `ports.kafka.EventConsumer` for one topic.

In: the connection, the topic and the group membership. Out: records and rebalances, as calls of a
`RecordReceiver` on the event loop; next offsets go back through `commit`.

`KafkaConsumer` polls on a separate thread, always, so that slow letters never cost the membership. Offsets
are committed explicitly and never stored by the client. Rebalances are cooperative; a revocation waits until
the records in progress are settled. `OffsetCommits` passes offsets from any thread to the polling thread.
`HandoffCounter` limits the records between the polling thread and the event loop, because a full topic is
read faster than a busy loop takes records. `TopicIdWatcher` detects a topic that was deleted and created
again.

Failure: a commit that fails is logged and dropped; its records are read again and found in the ledger, so
that they are not sent twice. `KafkaConsumer.ended` has the exception when polling ends with a fatal error. A
broker that is unreachable is in `broker_health`.
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
    """The offsets that a consumer has committed and those that it must commit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Partition, int] = {}
        self._latest: dict[Partition, int] = {}
        """The offsets of assigned partitions that were given to the client; used on the polling thread."""

    def request(self, offsets: Mapping[Partition, int]) -> None:
        """Request a commit, from any thread; a later call replaces an earlier one."""
        with self._lock:
            self._wanted.update(offsets)

    def commit_async(self, consumer: Consumer) -> None:
        """Start the commit of the requested offsets without waiting."""
        wanted = self._take()
        if wanted:
            self._latest |= wanted
            with _log_failure():
                consumer.commit(offsets=topic_partitions(wanted), asynchronous=True)

    def commit_sync(self, consumer: Consumer) -> None:
        """Commit all offsets again and wait: the results of asynchronous commits are unknown."""
        self._latest |= self._take()
        if self._latest:
            with _log_failure():
                for partition in consumer.commit(offsets=topic_partitions(self._latest), asynchronous=False):
                    if partition.error is not None:
                        raise KafkaException(partition.error)

    def withdraw(self, partitions: Collection[Partition]) -> None:
        """Drop all offsets of lost partitions: another member has them."""
        with self._lock:
            for partition in partitions:
                self._wanted.pop(partition, None)
        self.forget(partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Forget the offsets of revoked partitions, which are committed."""
        self._latest = {
            partition: offset for partition, offset in self._latest.items() if partition not in partitions
        }

    def _take(self) -> dict[Partition, int]:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
        return wanted


def topic_partitions(offsets: Mapping[Partition, int]) -> list[TopicPartition]:
    """Convert offsets to the client's type."""
    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


@contextmanager
def _log_failure() -> Iterator[None]:
    try:
        yield
    except KafkaException as failure:
        log.warning("commit of offsets failed", error=str(failure))


class HandoffCounter:
    """Counts records that were handed off and not yet received; thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._in_flight = 0
        self._moved = threading.Condition()

    def begin(self, count: int) -> None:
        """Count records that were handed off."""
        with self._moved:
            self._in_flight += count

    def end(self, count: int) -> None:
        """Count records that the loop has received."""
        with self._moved:
            self._in_flight -= count
            self._moved.notify()

    def wait_for_capacity(self, seconds: float) -> bool:
        """Wait at most `seconds` until no more than `capacity` records are in flight; False on timeout."""
        with self._moved:
            return self._moved.wait_for(lambda: self._in_flight <= self._capacity, seconds)


TOPIC_ID_INTERVAL_SECONDS = 5.0
TOPIC_ID_TIMEOUT_SECONDS = 5.0
TOPIC_PROBE_SECONDS = 1.0


class TopicIdWatcher:
    """Watches the id of a topic: a topic that was deleted and created again has another id (KIP-516).

    The offsets of the former topic are invalid in the new one. The client does not notice the change: it
    continues at the old position and skips the records below it. The id is requested at intervals on the
    polling thread, which never waits for the response.
    """

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._admin: AdminClient | None = AdminClient(
            {**kafka.client_settings(), "client.id": "postroom-worker", **LOG_SETTINGS}
        )
        self._topic = topic
        self._known = ""
        self._request: Future[TopicDescription] | None = None
        self._due = 0.0

    def changed(self) -> bool:
        """Whether the id has changed since the last response; False without topic ids."""
        now = time.monotonic()
        if self._request is None:
            if self._admin is not None and now >= self._due:
                self._due = now + TOPIC_ID_INTERVAL_SECONDS
                topics = TopicCollection([self._topic])
                self._request = self._admin.describe_topics(topics, request_timeout=TOPIC_ID_TIMEOUT_SECONDS)[
                    self._topic
                ]
            return False
        if not self._request.done():
            return False
        answer, self._request = self._request, None
        try:
            found = str(answer.result().topic_id)
        except KafkaException:
            return False  # no topic or no response: the consumer receives that error itself
        before, self._known = self._known, found
        return before not in ("", found)

    def broker_responds(self) -> bool:
        """Whether a broker responds within `TOPIC_PROBE_SECONDS`; blocks, on any thread."""
        admin = self._admin
        try:
            if admin is not None:  # after `close` there is nothing to wait for
                admin.list_topics(self._topic, timeout=TOPIC_PROBE_SECONDS)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        """Destroy the client on this thread.

        Garbage collection may run on any thread. When it destroys the client on the client's own thread,
        which happens with a late response, the library aborts the process.
        """
        self._admin = None


POLL_SECONDS = 0.1
LAG_SECONDS = 1.0
PROBE_SECONDS = 1.0
LEAVE_TIMEOUT_SECONDS = 0.5
"""The wait for leaving the group before a probe checks whether a broker responds."""
BATCH_RECORDS = 500
"""Records per read; fetching pauses while more are in flight to the loop."""


class KafkaConsumer:
    """Implements `ports.kafka.EventConsumer` for one topic."""

    def __init__(self, kafka: KafkaConnection, topic: str, member: GroupMembership) -> None:
        self._kafka = kafka
        self._settings = consumer_settings(kafka, member)
        self.broker_health = BrokerHealth(topic, member.group)
        self._topic = topic
        self._revoke_timeout = member.revoke_timeout
        self._commits = OffsetCommits()
        self._handoff = HandoffCounter(BATCH_RECORDS)
        self._pause_wanted = False
        self._paused: bool | None = False
        """Whether all assigned partitions are paused; None: pause or resume must be called again."""
        self._stopping = threading.Event()
        self._left = threading.Event()
        """The group was left or polling has failed."""
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
        return self.broker_health.connected

    @property
    def lag(self) -> int | None:
        """Records of the assigned partitions that were not received yet; None while unknown."""
        return self._lag.records

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done when polling has ended; has the exception unless `stop` was called."""
        return self._ended

    async def start(self, receiver: RecordReceiver) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._receiver = receiver
        self._consumer = Consumer(self._settings | {"error_cb": self._on_error})
        self._topic_id = TopicIdWatcher(self._kafka, self._topic)
        self._thread.start()

    def pause(self) -> None:
        self._pause_wanted = True

    def resume(self) -> None:
        self._pause_wanted = False

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        self._commits.request(offsets)

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        self.commit(offsets)
        self._stopping.set()
        # the thread was never started when the client rejected the settings
        while self._thread.is_alive() and not self._left.is_set():
            left = await asyncio.to_thread(self._left.wait, LEAVE_TIMEOUT_SECONDS)
            if not left and not await asyncio.to_thread(self._topic_id.broker_responds):
                # the library would retry for a session timeout or longer and cannot be cancelled
                log.warning("no broker responds; stopping without a commit and without leaving the group")
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
        except BaseException as failure:  # noqa: BLE001 - passed to `ended`, which ends the worker
            error = failure
        self._left.set()
        self._call_on_loop(self._end, error)
        self._topic_id.close()  # blocks until the last request has a response or times out

    def _call_on_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Schedule a call on the event loop; a closed loop is ignored."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

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
        """On the event loop: pass records from `_hand_off` to the receiver."""
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
        else:  # a paused partition is not fetched, so its end offset would stay outdated
            self._lag.measure(self._consumer, self._assignment, fresh=bool(self._paused))

    def _probe_broker(self) -> None:
        """Request metadata: on a topic without records the recovery of the brokers has no other sign."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=PROBE_SECONDS).topics[self._topic]
        except KafkaException:
            return
        self.broker_health.on_answer(found.error)

    def _apply_pause(self) -> None:
        # a pause discards prefetched records, so wait for a loop that is briefly behind
        pause = not self._handoff.wait_for_capacity(POLL_SECONDS) or self._pause_wanted
        if pause == self._paused:
            return
        (self._consumer.pause if pause else self._consumer.resume)(self._assignment)
        self._paused = pause

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.broker_health.on_success()
        if not self._stopping.is_set():  # before the first record, which uses the same queue
            self._call_on_loop(self._receiver.assigned, _partition_names(partitions))
        consumer.incremental_assign(partitions)
        self._assignment += partitions
        self._lag.on_assignment_changed(member=True)
        self._paused = None  # new partitions are not paused, others may be; the next poll applies it again
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions revoked", partitions=[p.partition for p in partitions])
        try:
            offsets = self._request_offsets(_partition_names(partitions))
        except TimeoutError:
            log.warning(
                "letters of revoked partitions were not settled in time", seconds=self._revoke_timeout
            )
            self._on_lost(consumer, partitions)
            return
        self.commit(offsets)
        self._commits.commit_sync(consumer)
        self._unassign(consumer, partitions)

    def _restart_topic(self) -> None:
        """Read a topic that was created again from its beginning; offsets of the former topic are invalid."""
        names = _partition_names(self._assignment)
        log.warning("topic was created again; reading it from its beginning", topic=self._topic)
        try:
            self._request_offsets(names)
        except TimeoutError:
            self._call_on_loop(self._receiver.lost, names)
        self._consumer.incremental_unassign(self._assignment)
        self._commits.withdraw(names)  # offsets requested meanwhile are of the former topic
        self._commits.request(dict.fromkeys(names, 0))
        self._commits.commit_sync(self._consumer)
        self._call_on_loop(self._receiver.assigned, names)
        self._lag.on_assignment_changed(member=True)
        self._assignment = topic_partitions(dict.fromkeys(names, OFFSET_BEGINNING))
        self._consumer.incremental_assign(self._assignment)
        self._paused = None

    def _request_offsets(self, names: Sequence[Partition]) -> Mapping[Partition, int]:
        """Have the receiver settle records in progress; TimeoutError after the revoke timeout."""
        if self._stopping.is_set():
            return {}  # the worker has drained, and its loop may wait for this thread
        answer = asyncio.run_coroutine_threadsafe(self._revoke(names), self._loop)
        try:
            return answer.result(self._revoke_timeout)
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
        # stored here: a closing consumer cannot report its assignment
        removed = set(_partition_names(partitions))
        self._commits.forget(removed)
        self._assignment = [kept for kept in self._assignment if (kept.topic, kept.partition) not in removed]

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._fatal = error  # this consumer cannot continue; `_poll` raises it
        self.broker_health.on_error(error)


def _partition_names(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]
