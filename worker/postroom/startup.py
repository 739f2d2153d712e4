"""How every program of ours begins: settings read or refused, ports bound or refused, signals heard.

A program that cannot start says so in one line for each reason (the setting, the rule, the way out), and
ends with status 2; its platform need not guess from a traceback.
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
    """What every program is told; frozen once read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    log_format: Literal["json", "console"] = logs.LOG_FORMAT


Settings = TypeVar("Settings", bound=ProgramSettings)


def run_program(
    program: str, settings: type[Settings], serve: Callable[[Settings], Coroutine[Any, Any, None]]
) -> None:
    """Read the settings, say them in one line, and run `serve` to its end."""
    try:
        told = read_settings(settings)
        logs.configure_logging(told.log_format)
        structlog.get_logger(f"postroom.{program}").info("settings", **settings_summary(told))
        asyncio.run(serve(told))
    except Rejected as rejected:
        sys.stderr.writelines(
            f"postroom {program}: {problem.field}: {problem.message}\n" for problem in rejected.problems
        )
        sys.exit(2)


def read_settings(settings: type[Settings]) -> Settings:
    """The settings from the environment; raises Rejected that names every variable and what to do."""
    try:
        return settings()
    except ValidationError as error:
        raise Rejected(*(_problem(one, settings) for one in error.errors())) from None


def exactly_one(value: object, other: object, variable: str) -> object:
    """A validator of settings: exactly one of two ways is given; `variable` is the other one."""
    if value is None and other is None:
        raise PydanticCustomError("missing", "is not set")
    if value is not None and other is not None:
        raise ValueError(f"{variable} is set as well and says the same. Remove one of them")
    return value


def settings_summary(settings: BaseSettings) -> dict[str, str]:
    """What is set and what took its default, for one line at start. No setting holds a secret."""
    chosen = settings.model_fields_set
    told = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
    defaulted = sorted(name for name in told if name not in chosen)
    return {name: value for name, value in told.items() if name in chosen} | {
        "defaults": ", ".join(f"{name}={told[name]}" for name in defaulted)
    }


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    return stopping


def listen(endpoint: Endpoint, variable: str) -> socket.socket:
    """Listen on an endpoint; raises Rejected that names the setting it came from."""
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
        remedy = "Set it in the program's environment, or start everything with postroom up"
        return Problem(Code.SETTING_MISSING, variable, f"is not set. {about} {remedy}")
    given = os.environ.get(variable)  # noqa: TID251 - to show what was read
    return Problem(Code.SETTING_INVALID, variable, f"{error['msg']} (it is {given!r})")
