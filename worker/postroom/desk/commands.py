"""`postroom dlq`: list, show and replay dead letters. What they do is beside this, imported when needed."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer import Argument, Option

from postroom.desk.options import (
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
    as_moment,
    console,
    print_json,
)
from postroom.local.trouble import Trouble

if TYPE_CHECKING:
    from postroom.desk.deadletters import Choice, DeadLetter
    from postroom.desk.place import Place
    from postroom.desk.replay import Fate

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
    from postroom.desk import show
    from postroom.desk.replay import find

    chosen = _choice((), code, event_type, to, (since, until))
    found = find(_place(data, bootstrap_servers, connections, topic, (profile_file, bundles, None)), chosen)
    if as_json:
        print_json([show.as_json(one, reveal) for one in found])
    elif found:
        console().print(show.table(found, reveal))
    else:
        typer.echo("no dead letters" if chosen.everything else "no dead letter fits")


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
    from postroom.desk import show
    from postroom.desk.replay import find

    place = _place(data, bootstrap_servers, connections, topic, (profile_file, bundles, None))
    found = find(place, _choice((wanted,)))
    if not found:
        raise Trouble(f"No dead letter has the id {wanted}.", "`postroom dlq list` shows which there are.")
    if as_json:
        print_json([show.as_json(one, reveal) for one in found])
        return
    for one in found:
        console().print(show.whole(one, reveal))


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
    chosen = _choice(tuple(ids or ()), code, event_type, to, (since, until))
    if chosen.everything and not everything:
        raise Trouble(
            "Which dead letters?", "Name ids, choose some with --code, --type, --to, --since, or --all"
        )
    place = _place(data, bootstrap_servers, connections, topic, (profile_file, bundles, sandbox))
    fates = _replay(place, chosen, _How(dry_run, to_sandbox, frozenset(insist or ())))
    done = "sent to the sandbox" if to_sandbox else "replayed"
    _tell(fates, f"to be {done}" if dry_run else done, as_json)
    if any(fate.why_not for fate in fates) or not fates:
        raise typer.Exit(1)


class _How(NamedTuple):
    """What a replay was asked to do, and the codes that it is to overlook."""

    dry_run: bool
    to_sandbox: bool
    insisted: frozenset[str]


def _replay(place: "Place", chosen: "Choice", how: _How) -> "list[Fate]":
    from postroom.clock import SystemClock
    from postroom.desk.rehearse import rehearse
    from postroom.desk.replay import Fate, find, publish, why_not

    now, found = SystemClock().now(), find(place, chosen)
    if how.to_sandbox:
        return [Fate(one) for one in found] if how.dry_run else rehearse(place, found, now)
    judged = [Fate(one, why_not(one, now, how.insisted)) for one in found]
    if how.dry_run:
        return judged
    going = [fate.dead_letter for fate in judged if not fate.why_not]
    return [*publish(place, going), *(fate for fate in judged if fate.why_not)]


def _tell(fates: "list[Fate]", done: str, as_json: bool) -> None:
    if as_json:
        print_json([_as_json(fate, done) for fate in fates])
        return
    for fate in fates:
        one = fate.dead_letter
        typer.echo(f"{one.id}  {one.code}  {f'not {done}: {fate.why_not}' if fate.why_not else done}")
    count = sum(not fate.why_not for fate in fates)
    typer.echo(f"{count} of {len(fates)} {done}" if fates else "no dead letter fits")


def _as_json(fate: "Fate", done: str) -> dict[str, Any]:
    one: DeadLetter = fate.dead_letter
    outcome = "not done" if fate.why_not else done
    return {
        "id": one.id,
        "code": one.code,
        "replay_id": one.replay_id,
        "outcome": outcome,
        "why_not": fate.why_not,
    }


def _place(data: Any, servers: Any, connections: Any, topic: Any, here: tuple[Any, Any, Any]) -> "Place":
    from postroom.desk.place import Place, Told

    profile, bundles, sandbox = here
    return Place(Told(data, servers, connections, "", topic, profile, bundles, sandbox))


def _choice(
    ids: tuple[str, ...],
    codes: list[str] | None = None,
    event_type: str = "",
    to: str = "",
    times: tuple[str, str] = ("", ""),
) -> "Choice":
    from postroom.clock import SystemClock
    from postroom.desk.deadletters import Choice

    now = SystemClock().now()
    since, until = (as_moment(text, now) for text in times)
    return Choice(frozenset(ids), frozenset(codes or ()), event_type, to, since, until)
