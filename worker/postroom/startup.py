"""Start of every program: read settings, configure logs, bind sockets, handle stop signals.

Input: a settings class and a coroutine function. A program that cannot start prints a line for each problem
(the setting, the rule, the way out) and exits with status 2, without a traceback.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import structlog
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from postroom import logs
from postroom.http.endpoint import Endpoint
from postroom.letter.problems import Code, Problem, Rejected

BACKLOG = 512


class ProgramSettings(BaseSettings):
    """Settings that every program has; immutable."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    log_format: Literal["json", "console"] = logs.LOG_FORMAT


Settings = TypeVar("Settings", bound=ProgramSettings)


def run_program(
    program: str, settings: type[Settings], serve: Callable[[Settings], Coroutine[Any, Any, None]]
) -> None:
    """Read the settings, log them, and run `serve`; exits with status 2 when a setting is invalid."""
    try:
        values = read_settings(settings)
        logs.configure_logging(values.log_format)
        structlog.get_logger(f"postroom.{program}").info("settings", **settings_summary(values))
        asyncio.run(serve(values))
    except Rejected as rejected:
        sys.stderr.writelines(
            f"postroom {program}: {problem.field}: {problem.message}\n" for problem in rejected.problems
        )
        sys.exit(2)


def read_settings(settings: type[Settings]) -> Settings:
    """Read the settings from the environment; raises Rejected with a problem for each invalid variable."""
    try:
        return settings()
    except ValidationError as error:
        raise Rejected(*(_problem(details, settings) for details in error.errors())) from None


def exactly_one(value: object, other: object, variable: str) -> object:
    """Validate that exactly one of two settings is set; `variable` is the name of the other setting."""
    if value is None and other is None:
        raise PydanticCustomError("missing", "is not set")
    if value is not None and other is not None:
        raise ValueError(f"{variable} is set as well. Remove one of them")
    return value


def settings_summary(settings: BaseSettings) -> dict[str, str]:
    """Return set values and defaults for a log line; no setting holds a secret."""
    chosen = settings.model_fields_set
    values = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
    defaulted = sorted(name for name in values if name not in chosen)
    return {name: value for name, value in values.items() if name in chosen} | {
        "defaults": ", ".join(f"{name}={values[name]}" for name in defaulted)
    }


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    return stopping


def listen(endpoint: Endpoint, variable: str) -> socket.socket:
    """Listen on an endpoint; raises Rejected with `variable`, the setting of the endpoint."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        return socket.create_server(endpoint, family=family, backlog=BACKLOG)
    except OSError as error:
        raise Rejected(
            Problem(
                Code.SETTING_INVALID,
                variable,
                f"cannot listen on {endpoint}: {error.strerror}. Choose a free port of this machine, or "
                "port 0 for any",
            )
        ) from None


def _problem(error: Any, settings: type[BaseSettings]) -> Problem:
    name = "_".join(str(place) for place in error["loc"])
    variable = f"POSTROOM_{name.upper()}"
    if error["type"] == "missing":
        about = settings.model_fields[name].description
        remedy = "Set it in the program's environment, or run all programs with postroom up"
        return Problem(Code.SETTING_MISSING, variable, f"is not set. {about} {remedy}")
    given = os.environ.get(variable)  # noqa: TID251 - to show what was read
    return Problem(Code.SETTING_INVALID, variable, f"{error['msg']} (it is {given!r})")
