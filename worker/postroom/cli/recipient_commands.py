"""Commands about recipients: `postroom erase` and `postroom suppressions`."""

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
    print_json,
)
from postroom.local.errors import UserError
from postroom.ports.ledger import SuppressionReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postroom.adapters.ledger.administration import LedgerAdministration

recipients = typer.Typer()
suppressions = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Ledgers = Annotated[list[Path] | None, Option("--ledger", help="A ledger file (repeatable).", metavar="FILE")]
Inbox = Annotated[
    str | None,
    Option("--inbox", help="The sandbox's inbox. Default: the inbox of the local run.", metavar="URL"),
]
Address = Annotated[str, Argument(help="The recipient's address.", metavar="ADDRESS")]
Profile = Annotated[
    str, Option("--profile", help="The profile, as namespace/name; optional if there is only one.")
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
    """Erase a person: address, names and texts in ledgers and inbox.

    A digest stays, so that no letter is sent twice. The command may be repeated. Kafka removes records only
    by retention; the command prints the topics that may still hold events of the person.
    """
    from postroom.cli.environment import Environment, Options, open_ledgers
    from postroom.cli.erase import ErasureReport, erase_in_inbox, parse_address, topics_with_events
    from postroom.cli.erase import erase_address as erase_in_ledgers
    from postroom.clock import SystemClock

    person = parse_address(address)
    environment = Environment(
        Options(data, connections=connections, topic=topic, profile=profile_file, bundles=data)
    )
    local = not connections and not ledger
    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        erased = erase_in_ledgers(ledgers, person, SystemClock().now(), dry_run)
    found = inbox or (environment.running.inbox if local and environment.running else None)
    report = ErasureReport(
        erased, erase_in_inbox(found, person, dry_run), topics_with_events(environment), dry_run
    )
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo("\n".join(report.lines()))
    if erased.in_progress:
        raise typer.Exit(1)


@suppressions.command("list")
def list_(
    address: Annotated[str, Argument(help="Only entries of this address.", metavar="ADDRESS")] = "",
    profile: Profile = "",
    reveal: Reveal = False,
    as_json: Json = False,
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """List the suppressed addresses and the reasons; addresses are masked without --reveal."""
    from postroom.cli.environment import open_ledgers
    from postroom.cli.tables import suppression_json, suppression_table
    from postroom.local.terminal import wide_console

    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        found = [entry for ledger in ledgers for entry in ledger.suppressions(profile, address)]
    if as_json:
        print_json([suppression_json(entry, reveal) for entry in found])
    elif found:
        wide_console().print(suppression_table(found, reveal))
    else:
        typer.echo("no suppressed address found")


@suppressions.command("add")
def add(
    address: Address,
    reason: Annotated[SuppressionReason, Option(help="The reason.")] = SuppressionReason.MANUAL,
    note: Annotated[str, Option(help="A note, for instance the ticket.")] = "",
    profile: Profile = "",
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Suppress an address: from the next attempt on, no letter is sent to it.

    `unsubscribe` stops templates of category Subscription; every other reason stops all letters.
    """
    from postroom.cli.environment import open_ledgers
    from postroom.cli.erase import parse_address
    from postroom.clock import SystemClock
    from postroom.ports.ledger import Suppression

    now: datetime = SystemClock().now()
    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        target, profile_name = _select_profile(ledgers, profile)
        new = target.suppress([Suppression(profile_name, parse_address(address), reason, now, note)])
    typer.echo(f"{'suppressed' if new else 'already suppressed'} for {profile_name} as {reason}")


@suppressions.command("remove")
def remove(
    address: Address,
    reason: Annotated[SuppressionReason | None, Option(help="Only the entry with this reason.")] = None,
    profile: Profile = "",
    ledger: Ledgers = None,
    data: Data = DATA,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Remove an address from the list; letters that were suppressed in the meantime are not sent."""
    from postroom.cli.environment import open_ledgers
    from postroom.cli.erase import parse_address

    with open_ledgers(data, ledger or (), connections, namespace) as ledgers:
        target, profile_name = _select_profile(ledgers, profile)
        removed = target.lift(profile_name, parse_address(address), reason)
    if not removed:
        raise UserError(
            f"The address is not suppressed for {profile_name}.", "See `postroom suppressions list`."
        )
    typer.echo(f"removed from the list of {profile_name}: {removed} entr{'y' if removed == 1 else 'ies'}")


def _select_profile(
    ledgers: "Sequence[LedgerAdministration]", profile: str
) -> "tuple[LedgerAdministration, str]":
    """Return the ledger and the profile's name; raises UserError when the profile is ambiguous."""
    known = {name: ledger for ledger in ledgers for name in ledger.profiles()}
    if profile and (profile in known or len(ledgers) == 1):
        return known.get(profile, ledgers[0]), profile
    if not profile and len(known) == 1:
        [(name, ledger)] = known.items()
        return ledger, name
    names = ", ".join(sorted(known)) or "none has a letter yet"
    raise UserError(f"The profile is ambiguous; known profiles: {names}.", "Use --profile NAMESPACE/NAME")
