"""What a worker is told by its environment: variables that begin with POSTROOM_.

At start one line says which are set and which took their default; a missing one is named with where to
set it.
"""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from postroom.letter.problems import Code, Problem, Rejected
from postroom.web import Endpoint, EndpointSetting


class WorkerSettings(BaseSettings):
    """A worker's settings, frozen once read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    profile: Path = Field(description="The SmtpProfile manifest that this worker serves. Required.")
    bundles: Path = Field(description="The folder with the profile's compiled templates (*.json). Required.")
    bootstrap_servers: str = Field(min_length=1, description="The Kafka brokers, as host:port,… Required.")
    ledger: Path = Field(description="The SQLite file of the delivery ledger, on a local disk. Required.")
    sandbox: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 1025),
        description="Where the sandbox takes letters, as host:port; used in mode Sandbox.",
    )
    http: EndpointSetting = Field(
        default=Endpoint("127.0.0.1", 9464),
        description="Where /healthz, /readyz, /metrics and /statusz are served, as host:port.",
    )
    secrets: Path = Field(
        default=Path("/var/run/postroom/secrets"),
        description="The folder with one folder per mounted Secret: credentials, authorities, certificates.",
    )
    delivery_allowed: bool = Field(
        default=False,
        description="Whether mode SMTP may take effect here. When false, such a profile is treated as "
        "Sandbox and says so.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="How log lines are written: json for machines, console for people."
    )
    grace: float = Field(
        default=20.0,
        gt=0,
        description="Seconds that letters under way may take at SIGTERM and when partitions move. Keep it "
        "below the pod's terminationGracePeriodSeconds.",
    )


def read_settings() -> WorkerSettings:
    """The settings from the environment; raises Rejected that names every variable and what to do."""
    try:
        return WorkerSettings()  # type: ignore[call-arg]  # the environment fills it
    except ValidationError as error:
        raise Rejected(*map(_problem, error.errors())) from None


def summary(settings: WorkerSettings) -> dict[str, str]:
    """What is set and what took its default, for one line at start. No setting holds a secret."""
    chosen = settings.model_fields_set
    told = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
    defaulted = sorted(name for name in told if name not in chosen)
    return {name: value for name, value in told.items() if name in chosen} | {
        "defaults": ", ".join(f"{name}={told[name]}" for name in defaulted)
    }


def _problem(error: Any) -> Problem:
    name = "_".join(str(place) for place in error["loc"])
    variable = f"POSTROOM_{name.upper()}"
    if error["type"] == "missing":
        about = WorkerSettings.model_fields[name].description
        return Problem(
            Code.SETTING_MISSING,
            variable,
            f"is not set. {about} Set it in the worker's environment, or start everything with postroom up",
        )
    return Problem(Code.SETTING_INVALID, variable, f"{error['msg']} (it is {os.environ.get(variable)!r})")
