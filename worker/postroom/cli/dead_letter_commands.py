"""`postroom dlq`: list, show and replay dead letters. What they do is beside this, imported when needed."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer import Argument, Option

from postroom.cli.options import (
    DATA,
    Bootstrap,
    Bundles,
    Connections,
    Data,
    DryRun,
    Json,
    ProfileFile,
    Reveal,
    Sandbox,
    Topic,
    console,
    parse_time,
    print_json,
)
from postroom.local.errors import UserError

if TYPE_CHECKING:
    from postroom.cli.dead_letters import DeadLetterFilter, ReplayResult, StoredDeadLetter
    from postroom.cli.environment import Environment

dlq = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Codes = Annotated[
    list[str] | None, Option("--code", help="Only with this problem code (repeatable).", metavar="CODE")
]
EventType = Annotated[str, Option("--type", help="Only of this event type.", metavar="TYPE")]
Recipient = Annotated[str, Option("--to", help="Only for this recipient.", metavar="ADDRESS")]
Since = Annotated[str, Option(help="Only since then: 2h, 3d, or RFC 3339.", metavar="TIME")]
Until = Annotated[str, Option(help="Only until then.", metavar="TIME")]
Insist = Annotated[
    list[str] | None,
    Option(
        help="Also those with this code that are left where they are otherwise (repeatable): expired, "
        "too_old_to_deduplicate, undecided.",
        metavar="CODE",
    ),
]
Ids = Annotated[list[str] | None, Argument(help="Ids of dead letters or of events.", metavar="ID")]


@dlq.command("list")
def list_(
    code: Codes = None,
    event_type: EventType = "",
    to: Recipient = "",
    since: Since = "",
    until: Until = "",
    reveal: Reveal = False,
    as_json: Json = False,
    topic: Topic = None,
    data: Data = DATA,
    bootstrap_servers: Bootstrap = None,
    connections: Connections = None,
    profile_file: ProfileFile = None,
    bundles: Bundles = None,
) -> None:
    """List dead letters: records that made no letter, and letters that were given up.

    Addresses are masked, unless --reveal asks for them. Nothing is changed, and no consumer is moved by it.
    """
    from postroom.cli import tables
    from postroom.cli.dead_letters import find_dead_letters

    chosen = _filter((), code, event_type, to, (since, until))
    found = find_dead_letters(
        _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, None)), chosen
    )
    if as_json:
        print_json([tables.dead_letter_json(one, reveal) for one in found])
    elif found:
        console().print(tables.dead_letter_table(found, reveal))
    else:
        typer.echo("no dead letters" if chosen.is_empty else "no dead letter fits")


@dlq.command("show")
def show_(
    wanted: Annotated[str, Argument(help="The id of a dead letter, or of its event.", metavar="ID")],
    reveal: Reveal = False,
    as_json: Json = False,
    topic: Topic = None,
    data: Data = DATA,
    bootstrap_servers: Bootstrap = None,
    connections: Connections = None,
    profile_file: ProfileFile = None,
    bundles: Bundles = None,
) -> None:
    """Show one dead letter: its problem, its record, and with --reveal what is in it."""
    from postroom.cli import tables
    from postroom.cli.dead_letters import find_dead_letters

    place = _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, None))
    found = find_dead_letters(place, _filter((wanted,)))
    if not found:
        raise UserError(f"No dead letter has the id {wanted}.", "`postroom dlq list` shows which there are.")
    if as_json:
        print_json([tables.dead_letter_json(one, reveal) for one in found])
        return
    for one in found:
        console().print(tables.dead_letter_detail(one, reveal))


@dlq.command("replay")
def replay_(
    ids: Ids = None,
    code: Codes = None,
    event_type: EventType = "",
    to: Recipient = "",
    since: Since = "",
    until: Until = "",
    everything: Annotated[bool, Option("--all", help="All there are.")] = False,
    dry_run: DryRun = False,
    to_sandbox: Annotated[
        bool, Option("--to-sandbox", help="Send to the sandbox as it would be now; nothing else changes.")
    ] = False,
    insist: Insist = None,
    as_json: Json = False,
    topic: Topic = None,
    data: Data = DATA,
    bootstrap_servers: Bootstrap = None,
    connections: Connections = None,
    profile_file: ProfileFile = None,
    bundles: Bundles = None,
    sandbox: Sandbox = None,
) -> None:
    """Publish dead letters again, once whatever was wrong is mended.

    A replay opens a letter again that failed, could not be rendered or expired; never one that was accepted.
    Each dead letter counts once: to replay it twice sends nothing twice.
    """
    chosen = _filter(tuple(ids or ()), code, event_type, to, (since, until))
    if chosen.is_empty and not everything:
        raise UserError(
            "Which dead letters?", "Name ids, choose some with --code, --type, --to, --since, or --all"
        )
    place = _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, sandbox))
    fates = _replay(place, chosen, _ReplayMode(dry_run, to_sandbox, frozenset(insist or ())))
    done = "sent to the sandbox" if to_sandbox else "replayed"
    _print_results(fates, f"to be {done}" if dry_run else done, as_json)
    if any(fate.blocker for fate in fates) or not fates:
        raise typer.Exit(1)


class _ReplayMode(NamedTuple):
    """What a replay was asked to do, and the codes that it is to overlook."""

    dry_run: bool
    to_sandbox: bool
    insisted: frozenset[str]


def _replay(place: "Environment", chosen: "DeadLetterFilter", how: _ReplayMode) -> "list[ReplayResult]":
    from postroom.cli.dead_letters import (
        ReplayResult,
        find_dead_letters,
        publish_replays,
        replay_blocker,
        send_to_sandbox,
    )
    from postroom.clock import SystemClock

    now, found = SystemClock().now(), find_dead_letters(place, chosen)
    if how.to_sandbox:
        return [ReplayResult(one) for one in found] if how.dry_run else send_to_sandbox(place, found, now)
    judged = [ReplayResult(one, replay_blocker(one, now, how.insisted)) for one in found]
    if how.dry_run:
        return judged
    going = [fate.dead_letter for fate in judged if not fate.blocker]
    return [*publish_replays(place, going), *(fate for fate in judged if fate.blocker)]


def _print_results(fates: "list[ReplayResult]", done: str, as_json: bool) -> None:
    if as_json:
        print_json([_result_json(fate, done) for fate in fates])
        return
    for fate in fates:
        one = fate.dead_letter
        typer.echo(f"{one.id}  {one.code}  {f'not {done}: {fate.blocker}' if fate.blocker else done}")
    count = sum(not fate.blocker for fate in fates)
    typer.echo(f"{count} of {len(fates)} {done}" if fates else "no dead letter fits")


def _result_json(fate: "ReplayResult", done: str) -> dict[str, Any]:
    one: StoredDeadLetter = fate.dead_letter
    outcome = "not done" if fate.blocker else done
    return {
        "id": one.id,
        "code": one.code,
        "replay_id": one.replay_id,
        "outcome": outcome,
        "blocker": fate.blocker,
    }


def _environment(
    data: Any, servers: Any, connections: Any, topic: Any, here: tuple[Any, Any, Any]
) -> "Environment":
    from postroom.cli.environment import Environment, Options

    profile, bundles, sandbox = here
    return Environment(Options(data, servers, connections, "", topic, profile, bundles, sandbox))


def _filter(
    ids: tuple[str, ...],
    codes: list[str] | None = None,
    event_type: str = "",
    to: str = "",
    times: tuple[str, str] = ("", ""),
) -> "DeadLetterFilter":
    from postroom.cli.dead_letters import DeadLetterFilter
    from postroom.clock import SystemClock

    now = SystemClock().now()
    since, until = (parse_time(text, now) for text in times)
    return DeadLetterFilter(frozenset(ids), frozenset(codes or ()), event_type, to, since, until)
