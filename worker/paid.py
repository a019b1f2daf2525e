"""What a worker has paid for one chunk, and which part of it another worker's part will not tell."""

from __future__ import annotations

Calls = tuple[int, int]  #: calls, and those of unknown fate among them


class PaidCalls:
    def __init__(self) -> None:
        self.here: Calls = (0, 0)  #: of this worker
        self._confirmed: Calls = (0, 0)
        self._inherited: Calls = (0, 0)

    def inherit(self, calls: Calls) -> None:
        """Note the calls of earlier workers, by the journal."""
        self._inherited = calls

    def note(self, calls: int, maybe_charged: int) -> None:
        self.here = (self.here[0] + calls, self.here[1] + maybe_charged)

    def confirm(self) -> None:
        """Note that the lease is still ours: calls so far stand in a journal that nobody else writes."""
        self._confirmed = self.here

    def unconfirm(self) -> None:
        """Note that Redis lost the journal, which told of all calls so far, earlier workers' included."""
        self._confirmed = (-self._inherited[0], -self._inherited[1])

    @property
    def unconfirmed(self) -> Calls:
        """Calls since `confirm`."""
        return self.here[0] - self._confirmed[0], self.here[1] - self._confirmed[1]
