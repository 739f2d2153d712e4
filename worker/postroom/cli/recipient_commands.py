"""`postroom erase` and `postroom suppressions`: what a person asks for who gets letters."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from postroom.cli.options import (
    DATA,
    Connections,
    Data,
    DryRun,
    Json,
    Namespace,
    ProfileFile,
    Reveal,
    Topic,
    console,
    print_json,
)
from postroom.local.errors import UserError
from postroom.ports.ledger import SuppressionReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.adapters.ledger.administration import LedgerAdministration

recipients = typer.Typer()
suppressions = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Ledgers = Annotated[
    list[Path] | None, Option("--ledger", help="This ledger file (repeatable).", metavar="FILE")
]
Inbox = Annotated[
    str | None, Option("--inbox", help="The sandbox's inbox; without it the running one's.", metavar="URL")
]
Address = Annotated[str, Argument(help="The person's address.", metavar="ADDRESS")]
Profile = Annotated[
    str, Option("--profile", help="Whose list, as namespace/name; may be left out for a single one.")
]


@recipients.command("erase")
def erase(
    address: Address,
    dry_run: DryRun = False,
    as_json: Json = False,
    inbox: Inbox = None,
    ledger: Ledgers = None,
    topic: Topic = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
    profile_file: ProfileFile = None,
) -> None:
    """Erase a person: their address, names and texts in ledgers and inbox.

    What keeps a letter from being sent twice stays, as a digest. To run it again does no harm. Kafka removes
    records by its retention alone: the command says on which topics.
    """
    from postroom.cli.environment import Environment, Options, open_ledgers
    from postroom.cli.erase import ErasureReport, erase_in_inbox, parse_address, topics_with_events
    from postroom.cli.erase import erase_address as erase_in
    from postroom.clock import SystemClock

    person = parse_address(address)
    place = Environment(
        Options(data, connections=connections, topic=topic, profile=profile_file, bundles=data)
    )
    local = not connections and not ledger
    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        gone = erase_in(ledgers, person, SystemClock().now(), dry_run)
    found = inbox or (place.running.inbox if local and place.running else None)
    report = ErasureReport(gone, erase_in_inbox(found, person, dry_run), topics_with_events(place), dry_run)
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo("\n".join(report.lines()))
    if gone.in_progress:
        raise typer.Exit(1)


@suppressions.command("list")
def list_(
    address: Annotated[str, Argument(help="Only this address.", metavar="ADDRESS")] = "",
    profile: Profile = "",
    reveal: Reveal = False,
    as_json: Json = False,
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """List the addresses that are not written to, and why; masked, unless --reveal asks for them."""
    from postroom.cli.environment import open_ledgers
    from postroom.cli.tables import suppression_json, suppression_table

    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        found = [one for each in ledgers for one in each.suppressions(profile, address)]
    if as_json:
        print_json([suppression_json(one, reveal) for one in found])
    elif found:
        console().print(suppression_table(found, reveal))
    else:
        typer.echo("no address is on the suppression list")


@suppressions.command("add")
def add(
    address: Address,
    reason: Annotated[SuppressionReason, Option(help="Why.")] = SuppressionReason.MANUAL,
    note: Annotated[str, Option(help="What gave cause.")] = "",
    profile: Profile = "",
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Put an address on the list: from its next attempt on it is not written to.

    `unsubscribe` stops templates of category Subscription; every other reason stops all letters.
    """
    from postroom.cli.environment import open_ledgers
    from postroom.cli.erase import parse_address
    from postroom.clock import SystemClock
    from postroom.ports.ledger import Suppression

    now: datetime = SystemClock().now()
    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        home, whose = _select_profile(ledgers, profile)
        new = home.suppress([Suppression(whose, parse_address(address), reason, now, note)])
    typer.echo(
        f"on the list of {whose} as {reason}" if new else f"is on the list of {whose} already as {reason}"
    )


@suppressions.command("remove")
def remove(
    address: Address,
    reason: Annotated[SuppressionReason | None, Option(help="Only for this reason.")] = None,
    profile: Profile = "",
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Take an address off the list; letters that were suppressed meanwhile are not sent by it."""
    from postroom.cli.environment import open_ledgers
    from postroom.cli.erase import parse_address

    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        home, whose = _select_profile(ledgers, profile)
        gone = home.lift(whose, parse_address(address), reason)
    if not gone:
        raise UserError(
            f"The address is not on the list of {whose}.", "`postroom suppressions list` shows who is."
        )
    typer.echo(f"taken off the list of {whose}: {gone} entr{'y' if gone == 1 else 'ies'}")


def _select_profile(
    ledgers: "Sequence[LedgerAdministration]", profile: str
) -> "tuple[LedgerAdministration, str]":
    """The ledger and the profile that are meant; raises Trouble where that is not clear."""
    known = {name: each for each in ledgers for name in each.profiles()}
    if profile and (profile in known or len(ledgers) == 1):
        return known.get(profile, ledgers[0]), profile
    if not profile and len(known) == 1:
        [(name, home)] = known.items()
        return home, name
    there = ", ".join(sorted(known)) or "none has had a letter yet"
    raise UserError(f"Whose list? Profiles here: {there}.", "Name one: --profile NAMESPACE/NAME")
