"""Logging of all programs: one JSON object for each line, or coloured lines for people.

Addresses are masked where a log line is created (`letter.address`), never here.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from pydantic import Field

LOG_FORMAT: Any = Field(
    default="json", description="Format of log lines: json for machines, console for people."
)
"""The setting `log_format`, the same in every program."""


def configure_logging(form: Literal["json", "console"]) -> None:
    """Configure structlog for this process, on standard error; other libraries log warnings only."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    last: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if form == "console" else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
