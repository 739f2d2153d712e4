"""`postroom`: the command line. One function a command; what they do is elsewhere, imported when needed.

Exit codes: 0 done; 1 something is wrong, and it was said what and what to do; 2 the command line itself;
130 ended by Ctrl-C. Errors of the domain are lines, never tracebacks.
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
from postroom.cli.options import DATA, NO_WRAP_COLUMNS, Connections, Data, Namespace
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
app.add_typer(dlq, name="dlq", help="Dead letters: look at them, replay them.")
app.add_typer(suppressions, name="suppressions", help="The addresses that are not written to.")
app.add_typer(recipients)


class ReportFormat(StrEnum):
    """How `check` says what it found."""

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
    str | None, Option("--gateway", help="The gateway; without it the running one's.", metavar="URL")
]
Ledgers = Annotated[
    list[Path] | None, Option("--ledger", help="Look in this ledger (repeatable).", metavar="FILE")
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
    """Letters from events: templates are declared, proved before they are live, no letter is lost.

    Start with **postroom up**: it runs everything on this machine and says where the inbox is.
    """


@app.command()
def up(
    context: typer.Context,
    folder: Annotated[Path | None, Argument(help="Your manifests. Default: examples.", metavar="DIR")] = None,
    data: Data = DATA,
    once: Annotated[bool, Option("--once", help="Send every sample, see it arrive, end.")] = False,
    bootstrap_servers: BootstrapServers = None,
    deliver: Annotated[bool, Option("--deliver", help="Let mode SMTP send to its relay.")] = False,
    port_inbox: Annotated[int, Option(help="Port of the inbox.", min=0, max=65535)] = 8025,
    port_gateway: Annotated[int, Option(help="Port of the gateway.", min=0, max=65535)] = 8080,
    port_smtp: Annotated[int, Option(help="Port of the sandbox's mail server.", min=0, max=65535)] = 1025,
    port_broker: Annotated[int, Option(help="Port of the embedded broker.", min=0, max=65535)] = 9092,
    port_studio: Annotated[int, Option(help="Port of the template studio.", min=0, max=65535)] = 8026,
) -> None:
    """Run everything on this machine: broker, workers, inbox, gateway, template studio.

    Edit a manifest: the studio shows its letters at once, and the next letter is of the new revision. A bad
    edit is shown by file and line, and the last good revision keeps serving. Without --deliver every letter
    ends in the inbox. Nothing listens beyond 127.0.0.1. Where a port is taken another one is chosen, unless
    you named it.
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
    form: Annotated[ReportFormat, Option("--format", help="How to say it.")] = ReportFormat.TEXT,
    strict: Annotated[bool, Option("--strict", help="Warnings count as errors; infos do not.")] = False,
    no_info: Annotated[bool, Option("--no-info", help="Leave infos out.")] = False,
    context: Annotated[
        list[Path] | None,
        Option(
            help="What is declared here may be referred to; itself it is not checked (repeatable).",
            metavar="DIR",
        ),
    ] = None,
    ignore_missing_references: Annotated[
        bool,
        Option(
            "--ignore-missing-references",
            help="Profiles and layouts that are not here are elsewhere: a warning, also with --strict.",
        ),
    ] = False,
    browser: Annotated[
        bool,
        Option(
            "--browser",
            help="Compare each sample's letter with its source page in Chromium, which must be on PATH.",
        ),
    ] = False,
) -> None:
    """Prove every template offline, with the code that workers send with.

    Each finding names file, line and column, underlines the words, and says why it matters and what to do.
    The exit code is 1 when something may not go live. Formats: text for people, concise for editors (one line
    a finding), json for programs, sarif for code scanning, github for annotations in a workflow.
    """
    from rich.console import Console

    from postroom.local import check
    from postroom.local.manifests import read_input, require_manifests
    from postroom.local.parallel import validate_in_processes

    # a proof leaves few cycles behind; to look for them so often took a fifteenth of its time
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
        Option(help="What is declared here may be referred to; it is not built (repeatable).", metavar="DIR"),
    ] = None,
    ignore_missing_references: Annotated[
        bool,
        Option("--ignore-missing-references", help="Profiles and layouts that are not here are elsewhere."),
    ] = False,
) -> None:
    """Write whole manifests: one YAML stream with the texts of htmlFile, textFile and cssFile inside.

    For instance: `postroom build letters | kubectl apply -f -`. Everything is proved first as `check` does.
    With an error nothing is written, and the exit code is 1.
    """
    from postroom.local import build as building
    from postroom.local import check
    from postroom.local.manifests import read_input, require_manifests

    manifest_set = read_input(folder, context or (), elsewhere=ignore_missing_references)
    require_manifests(manifest_set, folder)
    for line in (
        *map(str, manifest_set.errors),
        *(f"left out: {each}" for each in building.excluded_objects(manifest_set)),
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
        Dialect | None, Option("--from", help="What its placeholders are. Default: what it looks like.")
    ] = None,
    name: Annotated[Text, Option(help="The template's name. Default: the file's.")] = None,
    event_type: Annotated[Text, Option(help="The event that the letter answers.", metavar="TYPE")] = None,
    profile: Annotated[Text, Option(help="The SmtpProfile. Default: a new one, mail.")] = None,
    subject: Annotated[Text, Option(help="The subject. Default: the page's title.")] = None,
    force: Annotated[bool, Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Make a template out of a page: placeholders become Jinja, with a schema and a sample.

    Handlebars, Mustache, Liquid, ERB, EJS, Django, Jinja, Go templates and merge tags are understood. The
    page stays a file of its own, the same but for its placeholders. What has no translation is listed by
    line, and the exit code is 1 then, or if `postroom check` refuses the result.
    """
    from postroom.local import check
    from postroom.local.design_import.design import Wishes, import_design
    from postroom.local.manifests import read_manifest_folder

    done = import_design(Wishes(source, to, dialect, name, event_type, profile, subject, force))
    for file, found in done.dialects.items():
        typer.echo(f"{file}: read as {found.value}")
    for finding in done.findings:
        typer.echo(f"{finding}{'' if finding.note.lost else ' (look at it)'}")
    for file in done.written:
        typer.echo(f"wrote {file}")
    manifest_set = read_manifest_folder(to)
    for line in check.format_report(manifest_set, "text"):
        typer.echo(line)
    raise typer.Exit(1 if done.lost or manifest_set.errors else 0)


@app.command()
def send(
    event_type: Annotated[str, Argument(help="What happened, for instance shop.user.welcomed.")],
    pairs: Annotated[list[str] | None, Argument(help="name=text or name:=json.", metavar="DATA")] = None,
    to: Annotated[str, Option("--to", help="The recipient's address.", metavar="ADDRESS")] = "",
    file: Annotated[Path | None, Option(help="The data as a JSON file; DATA adds to it.")] = None,
    message_id: Annotated[Text, Option("--id", help="The message's id; twice the same is sent once.")] = None,
    locale: Annotated[Text, Option(help="The reader's language, for instance de.")] = None,
    not_before: Annotated[Text, Option(help="Send at this time (RFC 3339), not now.")] = None,
    profile: Annotated[Text, Option(help="Where several profiles serve the event type.")] = None,
    gateway: Gateway = None,
    data: Data = DATA,
) -> None:
    """Hand one message in, as an application would.

    For instance: `postroom send shop.user.code-requested --to mira@example.com code=492087`
    """
    from postroom.local import send
    from postroom.local.plan import command_line

    if not to:
        raise UserError("A message has a recipient.", "Add --to mira@example.com")
    message = {"event_type": event_type, "recipient": to, "data": send.gather_data(pairs or (), file)}
    options = {"message_id": message_id, "locale": locale, "not_before": not_before}
    message |= {name: value for name, value in options.items() if value is not None}
    accepted = send.send_message(message, gateway, data, profile)
    if accepted.existing_state:
        there = (
            f"id {accepted.id} is on record already ({accepted.existing_state}): it will not be sent again"
        )
        typer.echo(f"accepted; {there}")
    else:
        typer.echo(f"accepted as {accepted.id} for profile {accepted.profile}")
    if accepted.inbox:
        typer.echo(f"inbox: {accepted.inbox}   its way: {command_line('letter', accepted.id, data=data)}")


@app.command()
def letter(
    wanted: Annotated[str, Argument(help="An id, Message-ID, request id, user id or address.")],
    data: Data = DATA,
    ledger: Ledgers = None,
    connections: Connections = None,
    namespace: Namespace = "",
) -> None:
    """Say what became of a letter: its state, its times, every attempt and the relay's answers."""
    from rich.console import Console

    from postroom.local import letters
    from postroom.local.data_folder import DataFolder

    if connections and not ledger:
        from postroom.local import letters

        found = letters.find_letters_on_server(wanted, connections, namespace)
    else:
        found = letters.find_letters(wanted, ledger or DataFolder(data).ledgers())
    if not found:
        topics = " and ".join(letters.dead_letter_topics(DataFolder(data))) or "<topic>.dlq"
        raise UserError(
            f"No ledger knows {wanted}.",
            f"It is known once a worker has taken its event. Records that are no events are on {topics}.",
        )
    console = Console()
    if not console.is_terminal:
        console.width = NO_WRAP_COLUMNS  # a program reads it, line by line
    console.print(letters.draw_letters(found))


@app.command()
def worker() -> None:
    """Run one profile's worker; configured by POSTROOM_PROFILE, POSTROOM_BUNDLES and others."""
    importlib.import_module("postroom.worker.main").main()


@app.command()
def migrate() -> None:
    """Make the PostgreSQL ledger's schema, or bring it forward; configured by POSTROOM_CONNECTIONS.

    The exit code is 0 when the schema is there, and when the Secret with its address is not there yet; 1 when
    PostgreSQL was not reached in time or refuses, or the ledger needs a newer Postroom; 2 when a setting is
    missing or wrong. One line says which. Nothing is changed unless all of it is.
    """
    importlib.import_module("postroom.worker.migrate").main()


@app.command()
def sandbox() -> None:
    """Run the mail server that captures every letter, and its inbox; configured by POSTROOM_SANDBOX_…."""
    importlib.import_module("postroom.sandbox.main").main()


@app.command()
def bounces() -> None:
    """Take reports about letters in over SMTP or LMTP; configured by POSTROOM_BOUNCES_… and others."""
    importlib.import_module("postroom.bounces.main").main()


@app.command()
def gateway() -> None:
    """Run the HTTP intake; configured by POSTROOM_GATEWAY_…, POSTROOM_BUNDLES and others."""
    importlib.import_module("postroom.gateway.main").main()


@app.command()
def operator() -> None:
    """Run the operator: from custom resources to running workers; configured by POSTROOM_IMAGE and others."""
    try:
        program = importlib.import_module("postroom_operator.__main__")
    except ModuleNotFoundError as missing:
        remedy = "Install it with pip install 'postroom[operator]'; the image has it."
        raise UserError(f"The operator needs {missing.name}, which is not installed.", remedy) from None
    program.main()


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(f"postroom {installed('postroom')}")


def _examples() -> Path:
    """The example manifests: in the package of a wheel, in the tree of a checkout."""
    here = Path(__file__).parents[1]
    shipped = here / "local" / "examples"
    return shipped if shipped.is_dir() else here.parents[1] / "manifests" / "examples"


def main() -> None:
    """Run the command line; what the domain refuses becomes lines on standard error."""
    try:
        app()
    except UserError as trouble:
        sys.stderr.write(f"postroom: {trouble}\n")
        sys.exit(1)
    except Rejected as rejected:
        sys.stderr.writelines(f"postroom: {problem}\n" for problem in rejected.problems)
        sys.exit(1)
