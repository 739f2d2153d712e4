"""The consumer-group membership.

It polls on a thread of its own, always, so that slow letters never cost the membership; what it reads goes
to the event loop, and what the loop wants committed goes back. Offsets are committed by hand, never
stored. Rebalances are cooperative; a revoke waits until what is under way is decided.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from postroom.adapters.kafka.commits import Commits, places
from postroom.adapters.kafka.crossing import Crossing
from postroom.adapters.kafka.lag import Lag
from postroom.adapters.kafka.reading import record_of
from postroom.adapters.kafka.settings import Membership, consumer_settings
from postroom.adapters.kafka.standing import Standing, is_fatal
from postroom.adapters.kafka.topicid import TopicId
from postroom.connections import KafkaConnection
from postroom.letter.event import Record
from postroom.ports.events import Partition, Receiver

POLL_SECONDS = 0.1
LAG_SECONDS = 1.0
KNOCK_SECONDS = 1.0
LEAVE_SECONDS = 0.5
"""How long a broker that is there may take to let a member go, before it is asked whether it is."""
BATCH = 500
"""Records read at once; while more than that is on the way to the loop, nothing further is fetched."""

log = structlog.get_logger("postroom.kafka")


class KafkaEvents:
    """Implements ports.events.Events for one topic."""

    def __init__(self, kafka: KafkaConnection, topic: str, member: Membership) -> None:
        self._kafka = kafka
        self._settings = consumer_settings(kafka, member)
        self.standing = Standing(topic, member.group)
        self._topic = topic
        self._patience = member.patience
        self._commits = Commits()
        self._crossing = Crossing(BATCH)
        self._pause_wanted = False
        self._paused: bool | None = False
        """Of all that is assigned; None when that has to be said anew."""
        self._stopping = threading.Event()
        self._left = threading.Event()
        """The group was left, or polling has failed."""
        self._thread = threading.Thread(target=self._poll, name="kafka", daemon=True)
        self._lag = Lag()
        self._lag_due = 0.0
        self._fatal: KafkaError | None = None
        self._assignment: list[TopicPartition] = []
        self._topic_id: TopicId
        self._loop: asyncio.AbstractEventLoop
        self._receiver: Receiver
        self._ended: asyncio.Future[None]

    @property
    def connected(self) -> bool | None:
        """See the port."""
        return self.standing.connected

    @property
    def lag(self) -> int | None:
        """Records on the assigned partitions that were not received yet; None while nobody can tell."""
        return self._lag.records

    @property
    def ended(self) -> "asyncio.Future[None]":
        """Done when polling ends; carries the error when it was not asked to."""
        return self._ended

    async def start(self, receiver: Receiver) -> None:
        """See the port."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._receiver = receiver
        self._consumer = Consumer(self._settings | {"error_cb": self._on_error})
        self._topic_id = TopicId(self._kafka, self._topic)
        self._thread.start()

    def pause(self) -> None:
        """See the port."""
        self._pause_wanted = True

    def resume(self) -> None:
        """See the port."""
        self._pause_wanted = False

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """See the port."""
        self._commits.want(offsets)

    async def stop(self, offsets: Mapping[Partition, int]) -> None:
        """See the port."""
        self.commit(offsets)
        self._stopping.set()
        # it is not alive when it was never started: the settings may be refused
        while self._thread.is_alive() and not self._left.is_set():
            left = await asyncio.to_thread(self._left.wait, LEAVE_SECONDS)
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
                self._hand_on(self._consumer.consume(BATCH, POLL_SECONDS))
                if self._fatal is not None:
                    raise KafkaException(self._fatal)
                if self._topic_id.changed():
                    self._begin_anew()
                self._apply_pause()
                self._commits.soon(self._consumer)
                self._measure_lag()
            self._commits.now(self._consumer)
            self._consumer.close()
        except BaseException as failure:  # noqa: BLE001 - handed to the program, which ends by it
            error = failure
        self._left.set()
        self._have_done(self._end, error)
        self._topic_id.close()  # which takes as long as what it asked last may be answered

    def _have_done(self, what: Callable[..., None], *given: Any) -> None:
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

    def _hand_on(self, messages: Sequence[Message]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif is_fatal(error):
                raise KafkaException(error)
            else:
                self.standing.failed(error)
        if records:
            self.standing.served()
            self._crossing.begin(len(records))
            self._have_done(self._take, records)

    def _take(self, records: Sequence[Record]) -> None:
        """On the loop: the other end of `_hand_on`."""
        try:
            self._receiver.received(records)
        finally:
            self._crossing.end(len(records))

    def _measure_lag(self) -> None:
        if time.monotonic() < self._lag_due:
            return
        self._lag_due = time.monotonic() + LAG_SECONDS
        if self.standing.uncertain:
            self._knock()
        if self.standing.uncertain:
            self._lag.unknown()
        else:  # what is paused is not fetched, and nothing would tell how it grows
            self._lag.measure(self._consumer, self._assignment, fresh=bool(self._paused))

    def _knock(self) -> None:
        """On a quiet topic nothing else would tell that the brokers are back."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=KNOCK_SECONDS).topics[self._topic]
        except KafkaException:
            return
        self.standing.answered(found.error)

    def _apply_pause(self) -> None:
        # a loop that is behind for a moment is waited for: a pause throws away what was prefetched
        wanted = not self._crossing.clear(POLL_SECONDS) or self._pause_wanted
        if wanted == self._paused:
            return
        (self._consumer.pause if wanted else self._consumer.resume)(self._assignment)
        self._paused = wanted

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.standing.served()
        if not self._stopping.is_set():  # ahead of the first record, which goes to the loop the same way
            self._have_done(self._receiver.assigned, _names(partitions))
        consumer.incremental_assign(partitions)
        self._assignment += partitions
        self._lag.moved(member=True)
        self._paused = None  # new partitions fetch at once, others may be paused: the next round says which
        log.info("partitions assigned", partitions=[p.partition for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions revoked", partitions=[p.partition for p in partitions])
        try:
            offsets = self._ask_for_offsets(_names(partitions))
        except TimeoutError:
            log.warning("letters of revoked partitions were not decided in time", patience=self._patience)
            self._on_lost(consumer, partitions)
            return
        self.commit(offsets)
        self._commits.now(consumer)
        self._unassign(consumer, partitions)

    def _begin_anew(self) -> None:
        """The topic was made again: offsets of the one before would pass over what is in this one."""
        names = _names(self._assignment)
        log.warning("the topic was made again and is read from its beginning", topic=self._topic)
        try:
            self._ask_for_offsets(names)
        except TimeoutError:
            self._have_done(self._receiver.lost, names)
        self._consumer.incremental_unassign(self._assignment)
        self._commits.withdraw(names)  # what was committed meanwhile is of the one before
        self._commits.want(dict.fromkeys(names, 0))
        self._commits.now(self._consumer)
        self._have_done(self._receiver.assigned, names)
        self._lag.moved(member=True)
        self._assignment = places(dict.fromkeys(names, OFFSET_BEGINNING))
        self._consumer.incremental_assign(self._assignment)
        self._paused = None

    def _ask_for_offsets(self, names: Sequence[Partition]) -> Mapping[Partition, int]:
        """Raises TimeoutError when what is under way is not decided within the patience."""
        if self._stopping.is_set():
            return {}  # the program drained already, and its loop may be waiting for this thread
        answer = asyncio.run_coroutine_threadsafe(self._tell_revoked(names), self._loop)
        try:
            return answer.result(self._patience)
        except TimeoutError:
            answer.cancel()
            raise

    async def _tell_revoked(self, names: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._receiver.revoked(names)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", partitions=[p.partition for p in partitions])
        names = _names(partitions)
        self._commits.withdraw(names)
        self._have_done(self._receiver.lost, names)
        self._unassign(consumer, partitions)
        self._lag.moved(member=False)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        # kept here: a consumer that is closing refuses to say what it has, on no exception that can be caught
        gone = set(_names(partitions))
        self._commits.forget(gone)
        self._assignment = [one for one in self._assignment if (one.topic, one.partition) not in gone]

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._fatal = error  # this consumer never reads again; the polling ends by it
        self.standing.failed(error)


def _names(partitions: Sequence[TopicPartition]) -> list[Partition]:
    return [(one.topic, one.partition) for one in partitions]
