"""`python -m postroom.healthcheck`: whether the program in this container answers /healthz; exit code 0 or 1.

For container engines without probes of their own (the image's HEALTHCHECK). The image runs several programs
on different ports; whichever of them is here answers on one, so each is asked at its configured place.
"""

import sys
import urllib.request

from pydantic_settings import BaseSettings, SettingsConfigDict

from postroom.http.endpoint import Endpoint, EndpointSetting

TIMEOUT_SECONDS = 2.0
"""Seconds that an answer may take; the engine gives three."""


class HealthEndpoints(BaseSettings):
    """Where each program serves /healthz, by the variables that the programs themselves read."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", frozen=True)

    http: EndpointSetting = Endpoint("127.0.0.1", 9464)
    operator_http: EndpointSetting = Endpoint("127.0.0.1", 8080)
    gateway_http: EndpointSetting = Endpoint("127.0.0.1", 8080)
    sandbox_http: EndpointSetting = Endpoint("127.0.0.1", 8025)
    bounces_http: EndpointSetting = Endpoint("127.0.0.1", 9465)


def is_healthy(endpoint: Endpoint) -> bool:
    """Whether somebody says 200 there; a program that listens everywhere is asked on loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104
    url = f"http://{Endpoint(host, endpoint.port)}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def main() -> int:
    """0 when one of the programs answers."""
    return 0 if any(is_healthy(place) for place in set(HealthEndpoints().__dict__.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
