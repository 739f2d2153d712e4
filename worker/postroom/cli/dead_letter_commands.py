"""`postroom dlq`: list, show and replay dead letters.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

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
    parse_time,
    print_json,
)
from postroom.local.errors import UserError

if TYPE_CHECKING:
    from postroom.cli.dead_letters import DeadLetterFilter, ReplayResult, StoredDeadLetter
    from postroom.cli.environment import Environment

dlq = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Codes = Annotated[
    list[str] | None,
    Option("--code", help="Only dead letters with this problem code (repeatable).", metavar="CODE"),
]
EventType = Annotated[str, Option("--type", help="Only events of this type.", metavar="TYPE")]
Recipient = Annotated[str, Option("--to", help="Only events for this recipient.", metavar="ADDRESS")]
Since = Annotated[str, Option(help="Only since this time: 2h or 3d ago, or RFC 3339.", metavar="TIME")]
Until = Annotated[str, Option(help="Only until this time.", metavar="TIME")]
Insist = Annotated[
    list[str] | None,
    Option(
        help="Replay also dead letters with this code, which are skipped otherwise (repeatable): expired, "
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
    """List dead letters: records that could not become a letter, and letters that failed for good.

    Addresses are masked without --reveal. The command changes nothing and commits no consumer offset.
    """
    from postroom.cli import tables
    from postroom.cli.dead_letters import find_dead_letters
    from postroom.local.terminal import wide_console

    filter_ = _filter((), code, event_type, to, (since, until))
    found = find_dead_letters(
        _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, None)), filter_
    )
    if as_json:
        print_json([tables.dead_letter_json(dead_letter, reveal) for dead_letter in found])
    elif found:
        wide_console().print(tables.dead_letter_table(found, reveal))
    else:
        typer.echo("no dead letters" if filter_.is_empty else "no matching dead letter")


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
    """Show a dead letter: its problem, its record, and with --reveal its content."""
    from postroom.cli import tables
    from postroom.cli.dead_letters import find_dead_letters
    from postroom.local.terminal import wide_console

    environment = _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, None))
    found = find_dead_letters(environment, _filter((wanted,)))
    if not found:
        raise UserError(f"No dead letter has the id {wanted}.", "See `postroom dlq list`.")
    if as_json:
        print_json([tables.dead_letter_json(dead_letter, reveal) for dead_letter in found])
        return
    for dead_letter in found:
        wide_console().print(tables.dead_letter_detail(dead_letter, reveal))


@dlq.command("replay")
def replay_(
    ids: Ids = None,
    code: Codes = None,
    event_type: EventType = "",
    to: Recipient = "",
    since: Since = "",
    until: Until = "",
    everything: Annotated[bool, Option("--all", help="All dead letters.")] = False,
    dry_run: DryRun = False,
    to_sandbox: Annotated[
        bool,
        Option(
            "--to-sandbox", help="Render with today's template and send to the sandbox; nothing else changes."
        ),
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
    """Publish dead letters again, after their cause was fixed.

    A replay reopens a letter that failed, could not be rendered or expired, but never an accepted letter.
    A replay takes effect once: replaying a dead letter twice does not send it twice.
    """
    filter_ = _filter(tuple(ids or ()), code, event_type, to, (since, until))
    if filter_.is_empty and not everything:
        raise UserError(
            "No dead letters are selected.", "Name ids, or use --code, --type, --to, --since or --all"
        )
    environment = _environment(data, bootstrap_servers, connections, topic, (profile_file, bundles, sandbox))
    results = _replay(environment, filter_, _ReplayMode(dry_run, to_sandbox, frozenset(insist or ())))
    done = "sent to the sandbox" if to_sandbox else "replayed"
    _print_results(results, f"to be {done}" if dry_run else done, as_json)
    if any(result.blocker for result in results) or not results:
        raise typer.Exit(1)


class _ReplayMode(NamedTuple):
    """The options of a replay; `overridden` are codes that do not block it."""

    dry_run: bool
    to_sandbox: bool
    overridden: frozenset[str]


def _replay(
    environment: "Environment", filter_: "DeadLetterFilter", mode: _ReplayMode
) -> "list[ReplayResult]":
    from postroom.cli.dead_letters import (
        ReplayResult,
        find_dead_letters,
        publish_replays,
        replay_blocker,
        send_to_sandbox,
    )
    from postroom.clock import SystemClock

    now, found = SystemClock().now(), find_dead_letters(environment, filter_)
    if mode.to_sandbox:
        return (
            [ReplayResult(dead_letter) for dead_letter in found]
            if mode.dry_run
            else send_to_sandbox(environment, found, now)
        )
    checked = [
        ReplayResult(dead_letter, replay_blocker(dead_letter, now, mode.overridden)) for dead_letter in found
    ]
    if mode.dry_run:
        return checked
    replayable = [result.dead_letter for result in checked if not result.blocker]
    return [*publish_replays(environment, replayable), *(result for result in checked if result.blocker)]


def _print_results(results: "list[ReplayResult]", done: str, as_json: bool) -> None:
    if as_json:
        print_json([_result_json(result, done) for result in results])
        return
    for result in results:
        outcome = f"not {done}: {result.blocker}" if result.blocker else done
        typer.echo(f"{result.dead_letter.id}  {result.dead_letter.code}  {outcome}")
    count = sum(not result.blocker for result in results)
    typer.echo(f"{count} of {len(results)} {done}" if results else "no matching dead letter")


def _result_json(result: "ReplayResult", done: str) -> dict[str, Any]:
    dead_letter: StoredDeadLetter = result.dead_letter
    outcome = "not done" if result.blocker else done
    return {
        "id": dead_letter.id,
        "code": dead_letter.code,
        "replay_id": dead_letter.replay_id,
        "outcome": outcome,
        "blocker": result.blocker,
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
