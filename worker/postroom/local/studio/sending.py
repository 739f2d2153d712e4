"""Send a letter to the inbox from the studio, by the way that an application's letter takes.

Input: a template, its data, and the run. Output: an `Outcome` to show: where the letter lies in the inbox,
or which rule or program stood in its way. A profile that delivers to a real relay is never used.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from postroom.local import http_client
from postroom.local.bundles import ServedProfile
from postroom.local.data_folder import DataFolder
from postroom.local.send import (
    SAMPLE_RECIPIENT,
    letter_reason,
    rejection_lines,
    wait_in_inbox,
    wait_until_final,
)
from postroom.local.studio.state import ShownTemplate

PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending."""

    text: str
    address: str = ""
    """The letter in the inbox; empty when it is not there."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The run that letters are handed to."""

    gateway: str
    inbox: str
    folder: DataFolder
    served: Callable[[], Iterable[ServedProfile]]
    deliver: bool = False
    """Whether profiles in mode SMTP send to their relays."""

    async def send(
        self, shown: ShownTemplate, data: Mapping[str, Any], recipient: str | None, locale: str | None
    ) -> Outcome:
        """Hand a letter to the gateway and follow it into the inbox."""
        profile = self._profile(shown)
        if profile is None or shown.compiled is None:
            return Outcome(f"No revision of {shown.key.name} is live: there is nothing to send it with.")
        if refusal := self.refusal(shown):
            return Outcome(refusal)
        message: dict[str, Any] = {
            "event_type": shown.compiled.event_types[0],
            "recipient": recipient or SAMPLE_RECIPIENT,
            "data": dict(data),
        }
        if locale:
            message["locale"] = locale
        query = urlencode({"profile": profile.manifest.metadata.name})
        try:
            answer = await asyncio.to_thread(http_client.post, f"{self.gateway}/v1/messages?{query}", message)
        except http_client.RequestFailed as silence:
            return Outcome(f"The gateway is not there: {silence}.")
        if not answer.ok:
            return Outcome(f"The gateway refused it: {'; '.join(rejection_lines(answer))}.")
        return await self._follow(profile, str(answer.body["id"]))

    def refusal(self, shown: ShownTemplate) -> str:
        """Why nothing may be sent with a template; empty when it may."""
        profile = self._profile(shown)
        if profile and self.deliver and profile.manifest.spec.mode == "SMTP":
            return (
                f"Profile {profile.profile_dir} delivers to its relay (--deliver): the studio sends "
                "nothing through it."
            )
        return ""

    def _profile(self, shown: ShownTemplate) -> ServedProfile | None:
        if shown.compiled is None:
            return None
        wanted = (shown.key.namespace, shown.compiled.profile)
        return next(
            (
                each
                for each in self.served()
                if (each.manifest.metadata.namespace, each.manifest.metadata.name) == wanted
            ),
            None,
        )

    async def _follow(self, profile: ServedProfile, event_id: str) -> Outcome:
        letter = await wait_until_final(self.folder.ledger(profile.profile_dir), event_id, PATIENCE_SECONDS)
        if letter is None:
            return Outcome(
                f"It is on the topic, and no worker has taken it after {PATIENCE_SECONDS:.0f} s; see "
                f"{self.folder.path / 'logs'}."
            )
        if letter.state != "captured":
            why = letter_reason(letter) or letter.reply or "no reason on record"
            return Outcome(f"It is {letter.state}, not in the inbox: {why}.")
        try:
            answer = await wait_in_inbox(self.inbox, letter.message_id or "")
        except http_client.RequestFailed as silence:
            return Outcome(f"It was captured, and the inbox does not answer: {silence}.")
        if not answer.ok:
            return Outcome(f"It was captured, and is not in the inbox: {answer.detail}.")
        return Outcome(
            f"Letter {answer.body['id']} is in the inbox.", f"{self.inbox}/letters/{answer.body['id']}"
        )
