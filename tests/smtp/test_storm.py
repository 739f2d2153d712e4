"""Many letters and connections with a relay that fails one time in ten: every copy is accounted for."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from postroom.adapters.smtp.settings import Backoff
from postroom.ports.relay import FenceGrant, Lost, NotSent, OutboundMessage, Reply, Stage
from tests.delivery.scripted_relay import DROP, FULL, OK, RESET, Raw, ScriptedRelay, Step, served
from tests.smtp.outbound_messages import Letter, Register, letters, pool

FAULTS: list[Step] = [DROP, RESET, "421 4.3.2 closing", "451 4.3.0 later", "550 5.0.0 no", Raw(b"what?\r\n")]
LOCKSTEP = tuple(word for word in FULL if word != "PIPELINING")


def storm(seed: int) -> dict[str, list[Step]]:
    chance = random.Random(seed)
    verbs = ("greeting", "MAIL", "RCPT", "DATA", "DOT", "RSET")
    return {
        verb: [chance.choice(FAULTS) if chance.random() < 0.1 else OK for _ in range(400)] for verb in verbs
    }


@pytest.mark.parametrize("extensions", [FULL, LOCKSTEP], ids=["pipelined", "lockstep"])
@pytest.mark.parametrize("seed", [1, 2])
def test_in_a_storm_every_letter_gets_one_result_and_every_copy_is_accounted_for(
    seed: int, extensions: Sequence[str]
) -> None:
    relay = ScriptedRelay(storm(seed), extensions)
    register = Register()
    asked: Counter[str] = Counter()

    async def fence(messages: Sequence[OutboundMessage]) -> FenceGrant:
        asked.update(message.envelope.recipient for message in messages)
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        return FenceGrant([p for p in messages if not p.envelope.recipient.startswith("reader7")], now + 60)

    async def run() -> None:
        quick = Backoff(first=0.001, ceiling=0.002)
        async with served(relay), pool(relay.port, fence, connections=8, backoff=quick) as sender:
            sender.deliver(letters(300), register.note)
            await register.of(300)

    asyncio.run(run())
    seen = Counter(copy.recipients[0] for copy in relay.seen if copy.content)
    assert max(seen.values()) == 1
    assert max(asked.values()) == 1
    for copy in relay.seen:
        assert copy.content in (b"", Letter(copy.recipients[0]).content)
    accepted = {copy.recipients[0] for copy in relay.accepted if copy.content}
    for recipient, result in register.results.items():
        match result:
            case Reply(Stage.END_OF_DATA, 250):
                assert recipient in accepted
            case Lost(_, True):
                assert recipient in seen
            case NotSent(fenced=True):
                assert recipient.startswith("reader7")
                assert recipient not in seen
            case Lost(_, False):
                assert recipient not in seen
            case Reply(stage) if stage is not Stage.END_OF_DATA:
                assert recipient not in seen
    sure = {r for r, result in register.results.items() if isinstance(result, Reply) and result.code == 250}
    doubtful = {
        r for r, result in register.results.items() if isinstance(result, Lost) and result.end_of_data_sent
    }
    assert sure
    assert sure <= accepted <= sure | doubtful
