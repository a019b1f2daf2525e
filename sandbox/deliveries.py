"""Events on their way: as documented, or badly where a fault says so.

An answer of 200, 201 or 204 is a success; three more tries follow after 5 minutes, 30 minutes and 12 hours:
https://www.filestack.com/docs/api/webhooks/. Whether a retry is signed anew is not known; here it is not.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from tagmill.sandbox.background import Background
from tagmill.sandbox.fault_replies import bend
from tagmill.sandbox.faults import Fault, FaultRule, Faults, Operation
from tagmill.sandbox.webhooks import Json, Letter, Receiver, to_body

RETRY_SECONDS = (300.0, 1_800.0, 43_200.0)
SUCCESSES = frozenset({200, 201, 204})  #: a 202 is a failure
MOST_RECORDS = 100_000


class State(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"  #: the last try failed, too
    LOST = "lost"  #: by a fault, without a try


@dataclass(slots=True)
class Delivery:
    """One event for one receiver."""

    event: Json
    image: str
    receiver: Receiver
    fault: Fault | None
    answers: list[int] = field(default_factory=list)  #: the status of each try
    state: State = State.PENDING

    def letter(self, timestamp: int) -> Letter:
        return Letter.signed(to_body(self.event), self.receiver.secret, timestamp)

    def to_json(self) -> Json:
        return {
            "id": self.event["id"],
            "action": self.event["action"],
            "image": self.image,
            "url": self.receiver.url,
            "fault": self.fault,
            "answers": self.answers,
            "state": self.state,
        }


class Deliveries:
    """What is not delivered when the server ends is never delivered."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        retries: Sequence[float],
        faults: Faults,
        background: Background,
        post: Callable[[str, Letter], Awaitable[int]],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`retries`: seconds before each further try."""
        self.receivers, self.retries = tuple(receivers), tuple(retries)
        self._faults, self._background, self._post = faults, background, post
        self._clock, self._sleep = clock, sleep
        # A new start goes on with higher ids: receivers remember for days what they have seen.
        self._ids = itertools.count(int(clock() * 1_000))
        self._held: defaultdict[str, list[asyncio.Event]] = defaultdict(list)  # by URL: to be overtaken
        self.forget()

    def forget(self) -> None:
        """Begin the record anew; what is on its way goes on."""
        self.record: deque[Delivery] = deque(maxlen=MOST_RECORDS)

    def states(self) -> Counter[str]:
        return Counter(delivery.state.value for delivery in self.record)

    def emit(self, action: str, image: str, text: Json) -> None:
        """Send an event to all who want it; returns at once."""
        event = {"id": next(self._ids), "action": action, "timestamp": int(self._clock()), "text": text}
        for receiver in self.receivers:
            if receiver.wants(action):
                rule = self._faults.pick(Operation.WEBHOOK, image)
                self._background.start(self._deliver(self._recorded(event, image, receiver, rule), rule))

    def _recorded(self, event: Json, image: str, receiver: Receiver, rule: FaultRule | None) -> Delivery:
        fault = rule.fault if rule else None
        bent = {**event, "text": bend(fault, event["text"])}
        delivery = Delivery(bent, image, receiver, fault)
        self.record.append(delivery)
        return delivery

    async def _deliver(self, delivery: Delivery, rule: FaultRule | None) -> None:
        if delivery.fault is Fault.LOST:
            delivery.state = State.LOST
            return
        if rule is not None:
            await self._hold(delivery, rule)
        letter = delivery.letter(int(self._clock()))
        arrived = await self._try(delivery, letter)
        delivery.state = State.DELIVERED if arrived else State.UNDELIVERED
        if delivery.fault is Fault.DOUBLED:
            await self._send(delivery, letter)
        elif delivery.fault is Fault.RESIGNED:
            await self._send(delivery, delivery.letter(int(self._clock()) + 1))

    async def _hold(self, delivery: Delivery, rule: FaultRule) -> None:
        """A late one for its time, a reordered one until a later one has arrived, but no longer either."""
        if rule.fault is Fault.LATE:
            await self._sleep(rule.seconds)
        elif rule.fault is Fault.REORDERED:
            overtaken = asyncio.Event()
            self._held[delivery.receiver.url].append(overtaken)
            with suppress(TimeoutError):
                async with asyncio.timeout(rule.seconds):
                    await overtaken.wait()

    async def _try(self, delivery: Delivery, letter: Letter) -> bool:
        """Send until it arrives."""
        first = letter.tampered() if delivery.fault is Fault.TAMPERED else letter
        if await self._send(delivery, first):
            return True
        for pause in self.retries:
            await self._sleep(pause)
            if await self._send(delivery, letter):
                return True
        return False

    async def _send(self, delivery: Delivery, letter: Letter) -> bool:
        url = delivery.receiver.url
        delivery.answers.append(await self._post(url, letter))
        arrived = delivery.answers[-1] in SUCCESSES
        if arrived:
            for overtaken in self._held.pop(url, ()):
                overtaken.set()
        return arrived
