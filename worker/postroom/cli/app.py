"""The entry point of `postroom`: one function for each command.

Input: the command line. Output: the exit status: 0 success; 1 a problem, printed with its remedy; 2 invalid
usage; 130 ended by Ctrl-C. Each command imports its implementation when it runs, so that `--help` stays fast.
`UserError` and `Rejected` become lines on standard error, never tracebacks.
"""

import gc
import importlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from postroom.cli.dead_letter_commands import dlq
from postroom.cli.options import DATA, Connections, Data, Namespace
from postroom.cli.recipient_commands import recipients, suppressions
from postroom.letter.problems import Rejected, Severity
from postroom.local.design_import.dialects import Dialect
from postroom.local.errors import UserError

app = typer.Typer(
    name="postroom",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(dlq, name="dlq", help="List, show and replay dead letters.")
app.add_typer(suppressions, name="suppressions", help="List, add and remove suppressed addresses.")
app.add_typer(recipients)


class ReportFormat(StrEnum):
    """The output format of `check`."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


BootstrapServers = Annotated[
    str | None,
    Option(
        "--bootstrap-servers", help="Use these Kafka brokers, not the embedded one.", metavar="HOST:PORT,…"
    ),
]
Gateway = Annotated[
    str | None, Option("--gateway", help="The gateway. Default: the gateway of the local run.", metavar="URL")
]
Ledgers = Annotated[
    list[Path] | None, Option("--ledger", help="Search this ledger (repeatable).", metavar="FILE")
]
Text = str | None


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Send e-mail letters from Kafka events, with templates that are validated before they go live.

    Start with **postroom up**: it runs everything on this machine and prints the address of the inbox.
    """


@app.command()
def up(
    context: typer.Context,
    folder: Annotated[Path | None, Argument(help="Your manifests. Default: examples.", metavar="DIR")] = None,
    data: Data = DATA,
    once: Annotated[bool, Option("--once", help="Send every sample, wait for its letter, exit.")] = False,
    bootstrap_servers: BootstrapServers = None,
    deliver: Annotated[
        bool, Option("--deliver", help="Let profiles in mode SMTP send to their relay.")
    ] = False,
    port_inbox: Annotated[int, Option(help="Port of the inbox.", min=0, max=65535)] = 8025,
    port_gateway: Annotated[int, Option(help="Port of the gateway.", min=0, max=65535)] = 8080,
    port_smtp: Annotated[int, Option(help="Port of the sandbox's mail server.", min=0, max=65535)] = 1025,
    port_broker: Annotated[int, Option(help="Port of the embedded broker.", min=0, max=65535)] = 9092,
    port_studio: Annotated[int, Option(help="Port of the template studio.", min=0, max=65535)] = 8026,
) -> None:
    """Run everything on this machine: broker, workers, inbox, gateway, template studio.

    After an edit of a manifest the studio shows its letters at once, and the next letter uses the new
    revision. An invalid edit is reported with file and line, and the last good revision stays live. Without
    --deliver every letter goes to the inbox. All programs listen on 127.0.0.1 only. If a default port is
    taken, a free port is used.
    """
    import asyncio

    from rich.console import Console

    from postroom.local import session
    from postroom.local.plan import Ports, UpOptions

    ports = Ports(port_broker, port_smtp, port_inbox, port_gateway, port_studio)
    chosen = frozenset(
        name
        for name in ("broker", "smtp", "inbox", "gateway", "studio")
        if (source := context.get_parameter_source(f"port_{name}")) and source.name == "COMMANDLINE"
    )
    manifests = folder or _examples()
    options = UpOptions(
        manifests, data, bootstrap_servers, deliver, ports, chosen, custom_manifests=bool(folder)
    )
    run = session.run_once if once else session.run_until_stopped
    raise typer.Exit(asyncio.run(run(options, Console())))


@app.command()
def check(
    folder: Annotated[
        Path, Argument(help="A folder of manifests, one file, or - for a pipe.", metavar="DIR")
    ],
    form: Annotated[ReportFormat, Option("--format", help="The output format.")] = ReportFormat.TEXT,
    strict: Annotated[bool, Option("--strict", help="Warnings count as errors; infos do not.")] = False,
    no_info: Annotated[bool, Option("--no-info", help="Omit infos.")] = False,
    context: Annotated[
        list[Path] | None,
        Option(
            help="A folder whose objects may be referenced; it is not checked itself (repeatable).",
            metavar="DIR",
        ),
    ] = None,
    ignore_missing_references: Annotated[
        bool,
        Option(
            "--ignore-missing-references",
            help="Report missing profiles and layouts as warnings that --strict does not count.",
        ),
    ] = False,
    browser: Annotated[
        bool,
        Option(
            "--browser",
            help="Compare each sample's letter with its source page in Chromium (on PATH).",
        ),
    ] = False,
) -> None:
    """Validate every template offline, with the code that workers use.

    Each finding has file, line, column, the reason and how to fix it. The exit status is 1 when an object may
    not go live. Formats: text for people, concise for editors (one line for each finding), json for programs,
    sarif for code scanning, github for annotations in a workflow.
    """
    from rich.console import Console

    from postroom.local import check
    from postroom.local.manifests import read_input, require_manifests
    from postroom.local.parallel import validate_in_processes

    # validation creates few reference cycles; the default thresholds cost a fifteenth of its time
    gc.set_threshold(100_000, 50, 100)
    inspection = None
    if browser:
        from postroom.local.browser_check import add_browser_findings

        inspection = add_browser_findings
    manifest_set = read_input(
        folder,
        context or (),
        elsewhere=ignore_missing_references,
        validate_each=validate_in_processes,
        inspection=inspection,
    )
    require_manifests(manifest_set, folder)
    if no_info:
        manifest_set = manifest_set.without(Severity.INFO)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for line in check.format_report(manifest_set, form.value, console.width):
        console.print(line)
    raise typer.Exit(0 if check.may_go_live(manifest_set, strict=strict) else 1)


@app.command()
def build(
    folder: Annotated[Path, Argument(help="A folder of manifests, or one file.", metavar="DIR")],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Write here. Default: standard output.", metavar="FILE")
    ] = None,
    context: Annotated[
        list[Path] | None,
        Option(help="A folder whose objects may be referenced; it is not built (repeatable).", metavar="DIR"),
    ] = None,
    ignore_missing_references: Annotated[
        bool,
        Option("--ignore-missing-references", help="Accept missing profiles and layouts."),
    ] = False,
) -> None:
    """Write one YAML stream, with the texts of htmlFile, textFile and cssFile inlined.

    For example: `postroom build letters | kubectl apply -f -`. All objects are validated first, as `check`
    does. After an error nothing is written, and the exit status is 1.
    """
    from postroom.local import build as building
    from postroom.local import check
    from postroom.local.manifests import read_input, require_manifests

    manifest_set = read_input(folder, context or (), elsewhere=ignore_missing_references)
    require_manifests(manifest_set, folder)
    for line in (
        *map(str, manifest_set.errors),
        *(f"excluded: {line}" for line in building.excluded_objects(manifest_set)),
    ):
        typer.echo(line, err=True)
    if not check.may_go_live(manifest_set, strict=False):
        typer.echo(f"{check.summary_line(manifest_set)}; nothing was written", err=True)
        raise typer.Exit(1)
    building.write_stream(building.build_stream(manifest_set), output)


@app.command("import")
def import_page(
    source: Annotated[Path, Argument(help="A page (HTML or MJML), or a folder of pages.", metavar="PAGE")],
    to: Annotated[Path, Option("--to", help="Write here. Default: letters.", metavar="DIR")] = Path(
        "letters"
    ),
    dialect: Annotated[
        Dialect | None, Option("--from", help="The placeholder syntax. Default: detected.")
    ] = None,
    name: Annotated[Text, Option(help="The template's name. Default: the file's.")] = None,
    event_type: Annotated[
        Text, Option(help="The event type that triggers the letter.", metavar="TYPE")
    ] = None,
    profile: Annotated[Text, Option(help="The SmtpProfile. Default: a new one, mail.")] = None,
    subject: Annotated[Text, Option(help="The subject. Default: the page's title.")] = None,
    force: Annotated[bool, Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Convert a page into a template: placeholders become Jinja, with a schema and a sample.

    Supported: Handlebars, Mustache, Liquid, ERB, EJS, Django, Jinja, Go templates and merge tags. The page
    stays a file of its own; only its placeholders change. Constructs without a translation are listed by
    line; then, or if `postroom check` finds an error in the result, the exit status is 1.
    """
    from postroom.local import check
    from postroom.local.design_import.design import ImportOptions, import_design
    from postroom.local.manifests import read_manifest_folder

    done = import_design(ImportOptions(source, to, dialect, name, event_type, profile, subject, force))
    for file, found in done.dialects.items():
        typer.echo(f"{file}: read as {found.value}")
    for finding in done.findings:
        typer.echo(f"{finding}{'' if finding.note.lost else ' (please review)'}")
    for file in done.written:
        typer.echo(f"wrote {file}")
    manifest_set = read_manifest_folder(to)
    for line in check.format_report(manifest_set, "text"):
        typer.echo(line)
    raise typer.Exit(1 if done.lost or manifest_set.errors else 0)


@app.command()
def send(
    event_type: Annotated[str, Argument(help="The event type, for example shop.user.welcomed.")],
    pairs: Annotated[list[str] | None, Argument(help="name=text or name:=json.", metavar="DATA")] = None,
    to: Annotated[str, Option("--to", help="The recipient's address.", metavar="ADDRESS")] = "",
    file: Annotated[Path | None, Option(help="The data as a JSON file; DATA adds to it.")] = None,
    message_id: Annotated[
        Text, Option("--id", help="The message's id; messages with the same id are sent once.")
    ] = None,
    locale: Annotated[Text, Option(help="The recipient's language, for example de.")] = None,
    not_before: Annotated[Text, Option(help="Send at this time (RFC 3339), not now.")] = None,
    profile: Annotated[Text, Option(help="The profile, if several serve the event type.")] = None,
    gateway: Gateway = None,
    data: Data = DATA,
) -> None:
    """Submit a message to the gateway, as an application does.

    For example: `postroom send shop.user.code-requested --to mira@example.com code=492087`
    """
    from postroom.local import send
    from postroom.local.plan import command_line

    if not to:
        raise UserError("The recipient is missing.", "Add --to mira@example.com")
    message = {"event_type": event_type, "recipient": to, "data": send.gather_data(pairs or (), file)}
    options = {"message_id": message_id, "locale": locale, "not_before": not_before}
    message |= {name: value for name, value in options.items() if value is not None}
    accepted = send.send_message(message, gateway, data, profile)
    if accepted.existing_state:
        state = accepted.existing_state
        typer.echo(f"accepted; a letter with id {accepted.id} exists ({state}) and is not sent again")
    else:
        typer.echo(f"accepted as {accepted.id} for profile {accepted.profile}")
    if accepted.inbox:
        typer.echo(f"inbox: {accepted.inbox}   status: {command_line('letter', accepted.id, data=data)}")


@app.command()
def letter(
    wanted: Annotated[str, Argument(help="An id, Message-ID, request id, user id or address.")],
    data: Data = DATA,
    ledger: Ledgers = None,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Show a letter: its state, times, every attempt and the relay's replies."""
    from postroom.local import letters
    from postroom.local.data_folder import DataFolder
    from postroom.local.terminal import wide_console

    if connections and not ledger:
        from postroom.local import letters

        found = letters.find_letters_on_server(wanted, connections, namespace)
    else:
        found = letters.find_letters(wanted, ledger or DataFolder(data).ledgers())
    if not found:
        topics = " and ".join(letters.dead_letter_topics(DataFolder(data))) or "<topic>.dlq"
        raise UserError(
            f"No letter found for {wanted}.",
            f"A letter exists once a worker has claimed its event. Invalid records are on {topics}.",
        )
    wide_console().print(letters.draw_letters(found))


@app.command()
def worker() -> None:
    """Run one profile's worker; configured by POSTROOM_PROFILE, POSTROOM_BUNDLES and others."""
    importlib.import_module("postroom.worker.main").main()


@app.command()
def migrate() -> None:
    """Create or upgrade the schema of the PostgreSQL ledger; configured by POSTROOM_CONNECTIONS.

    The exit status is 0 when the schema is current, and when the Secret with its address does not exist yet;
    1 when PostgreSQL does not answer in time or rejects a statement, or when the ledger needs a newer
    Postroom; 2 when a setting is missing or invalid. The result is printed as one line. The upgrade is one
    transaction.
    """
    importlib.import_module("postroom.worker.migrate").main()


@app.command()
def sandbox() -> None:
    """Run the mail server that captures every letter, and its inbox; configured by POSTROOM_SANDBOX_…."""
    importlib.import_module("postroom.sandbox.main").main()


@app.command()
def bounces() -> None:
    """Run the bounce server, which takes reports over SMTP or LMTP; configured by POSTROOM_BOUNCES_…."""
    importlib.import_module("postroom.bounces.main").main()


@app.command()
def gateway() -> None:
    """Run the HTTP gateway; configured by POSTROOM_GATEWAY_…, POSTROOM_BUNDLES and others."""
    importlib.import_module("postroom.gateway.main").main()


@app.command()
def operator() -> None:
    """Run the Kubernetes operator; configured by POSTROOM_IMAGE and others."""
    try:
        program = importlib.import_module("postroom_operator.__main__")
    except ModuleNotFoundError as missing:
        remedy = "Install it: pip install 'postroom[operator]'. The container image contains it."
        raise UserError(f"The operator needs {missing.name}, which is not installed.", remedy) from None
    program.main()


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(f"postroom {installed('postroom')}")


def _examples() -> Path:
    """Return the folder of the example manifests, in an installed wheel or in a checkout."""
    here = Path(__file__).parents[1]
    shipped = here / "local" / "examples"
    return shipped if shipped.is_dir() else here.parents[1] / "manifests" / "examples"


def main() -> None:
    """Run the command line; a `UserError` or `Rejected` becomes lines on standard error."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"postroom: {error}\n")
        sys.exit(1)
    except Rejected as rejected:
        sys.stderr.writelines(f"postroom: {problem}\n" for problem in rejected.problems)
        sys.exit(1)
