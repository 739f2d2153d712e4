"""Hands results back in groups: one call of each `report` for all that was decided in a turn of the loop.

Failure: a report that raises is a bug of its owner; it goes to the loop's handler and holds up no other.
"""

import asyncio

from postroom.adapters.smtp.counters import Counters
from postroom.adapters.smtp.ticket import Ticket
from postroom.ports.relay import Lost, Parcel, Reply, Report, Result


class Reports:
    """Results that wait for the end of the turn."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._told: dict[Report, list[tuple[Parcel, Result]]] = {}

    def tell(self, ticket: Ticket, result: Result) -> None:
        """Have a ticket's result reported, and count it."""
        self._count(result)
        told = self._told
        if not told:
            self._loop.call_soon(self.flush)
        group = told.get(ticket.report)
        if group is None:
            told[ticket.report] = [(ticket.parcel, result)]
        else:
            group.append((ticket.parcel, result))

    def flush(self) -> None:
        """Report now what is decided."""
        told, self._told = self._told, {}
        for report, results in told.items():
            try:
                report(results)
            except Exception as error:  # noqa: BLE001 - one owner's bug must not keep others from their results
                context = {"message": "a report of results raised", "exception": error}
                self._loop.call_exception_handler(context)

    def _count(self, result: Result) -> None:
        counters = self._counters
        if type(result) is Reply:
            if result.code < 400:
                counters.accepted += 1
            elif result.code < 500:
                counters.deferred += 1
            else:
                counters.refused += 1
        elif type(result) is Lost:
            counters.lost += 1
            counters.in_doubt += result.dot_sent
        else:
            counters.withheld += 1
