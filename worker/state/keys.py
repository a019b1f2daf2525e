"""The name of every key in Redis. All that stands under them may be lost at any time."""

from __future__ import annotations

from tagmill.config.celery import LANES, QUEUE
from tagmill.worker.models import Chunk
from tagmill.worker.store.layout import run_folder


class Keys:
    """Key names of one deployment. Sorted sets hold chunk ids; their scores are seconds of Redis' clock."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    # --- the queue ----------------------------------------------------------------------------------------

    def queue(self, name: str) -> str:
        """Celery's list, named by kombu's `global_keyprefix`."""
        return self._of(name)

    def unacked(self) -> str:
        """Kombu's hash of the messages that workers hold; in the end they return to the queue."""
        return self._of("unacked")

    def unacked_index(self) -> str:
        """Kombu's sorted set of them; the score is when they were taken."""
        return self._of("unacked_index")

    def published(self, lane: str = QUEUE) -> str:
        """Sorted set of chunks whose message waits in that queue; the score is when it was sent."""
        return self._of("published", lane)

    def missing(self) -> str:
        """Sorted set of published chunks neither in the queue nor leased; the score is since when."""
        return self._of("missing")

    def parked(self) -> str:
        """Sorted set of chunks not to be published before their score."""
        return self._of("parked")

    def reopened(self) -> str:
        """Set of runs that got a new pass."""
        return self._of("reopened")

    def nudges(self) -> str:
        """List with an element when the process that refills should look at once."""
        return self._of("nudges")

    def refill_leader(self) -> str:
        """Token of the one process that refills."""
        return self._of("refill-leader")

    def beat_leader(self) -> str:
        """Token of the one beat that ensures the due runs of schedules."""
        return self._of("beat-leader")

    def troubles(self) -> str:
        """Hash: schedule -> what keeps its run from being made or planned."""
        return self._of("schedule-troubles")

    def digest_leader(self) -> str:
        """Token of the one receiver that deals with the events of all."""
        return self._of("digest-leader")

    # --- a chunk ------------------------------------------------------------------------------------------

    def lease(self, chunk: Chunk) -> str:
        """Token of the worker that holds the chunk."""
        return self._of("lease", chunk.id)

    def all_leases(self) -> str:
        """Pattern of every lease."""
        return self._of("lease", "*")

    def leases_of(self, run_id: str) -> str:
        """Pattern of the leases of all chunks of a run."""
        return self._of("lease", f"{run_id}/*")

    def journal(self, chunk: Chunk) -> str:
        """Hash: index in the chunk -> what was begun, paid and answered for that image."""
        return self._of("journal", chunk.id)

    def undo(self, chunk: Chunk) -> str:
        """Hash: `index:sink` -> what stood at our keys before the first write."""
        return self._of("undo", chunk.id)

    def job(self, job_id: str) -> str:
        """Which image of which chunk a workflow job was started for."""
        return self._of("job", job_id)

    def delivered(self, chunk: Chunk) -> str:
        """Hash: workflow job -> what a webhook told of it."""
        return self._of("delivered", chunk.id)

    def journals_of(self, run_id: str) -> str:
        """Pattern of the journals of all chunks of a run."""
        return self._of("journal", f"{run_id}/*")

    def undos_of(self, run_id: str) -> str:
        """Pattern of the undo values of all chunks of a run."""
        return self._of("undo", f"{run_id}/*")

    # --- a run --------------------------------------------------------------------------------------------

    def done(self, run_id: str, pass_no: int) -> str:
        """Hash: chunk name -> counts of committed chunks whose shard is not compacted."""
        return self._of("done", run_id, f"{pass_no:04d}")

    def progress(self, run_id: str, pass_no: int) -> str:
        """Hash: chunk name -> counts so far of chunks in work."""
        return self._of("progress", run_id, f"{pass_no:04d}")

    def compacted(self, run_id: str, pass_no: int) -> str:
        """Hash: the counts of all compacted shards in one, `writes.written` and its like flattened."""
        return self._of("compacted", run_id, f"{pass_no:04d}")

    def compacted_shards(self, run_id: str, pass_no: int) -> str:
        """Bitmap of the shards that those counts hold."""
        return self._of("compacted-shards", run_id, f"{pass_no:04d}")

    def counted(self, run_id: str, pass_no: int) -> str:
        """There when the three hashes of counts cover all that is committed."""
        return self._of("counted", run_id, f"{pass_no:04d}")

    def control(self, run_id: str) -> str:
        """The newest control, cached."""
        return self._of("control", run_id)

    def waits(self, run_id: str) -> str:
        """Hash: seconds that lanes had, for how many of them the limiter held them, its rate, the account."""
        return self._of("waits", run_id)

    def pace(self, run_id: str, pass_no: int) -> str:
        """Samples of how far the pass was, denser the younger."""
        return self._of("pace", run_id, f"{pass_no:04d}")

    def denied(self, run_id: str) -> str:
        """Set of images that were answered 403."""
        return self._of("denied", run_id)

    def failures(self, run_id: str) -> str:
        """Hash: how many of the last images ended, and failed."""
        return self._of("failures", run_id)

    def works(self, run_id: str) -> str:
        """There when the account answered an image of the run."""
        return self._of("works", run_id)

    # --- budgets ------------------------------------------------------------------------------------------

    def grant(self, folder: str) -> str:
        """Hash: what is left of the open grants of this folder in the run store, and which server counts."""
        return self._of("grant", folder)

    def grants_of(self, run_id: str) -> str:
        """Pattern of what is open of a run's grants."""
        return self._of("grant", f"{run_folder(run_id)}/*")

    def grant_ticket(self, token: str) -> str:
        """There while Redis has forgotten nothing since the holder of the token found nothing left."""
        return self._of("grant-ticket", token)

    # --- the fleet and its account ------------------------------------------------------------------------

    def workers(self) -> str:
        """Hash: worker -> its last sign of life."""
        return self._of("workers")

    def turn(self, worker: str) -> str:
        """When one of its processes last dealt with a message."""
        return self._of("turn", worker)

    def look(self, worker: str) -> str:
        """What a probe saw of it at its last look."""
        return self._of("look", worker)

    def useful_workers(self) -> str:
        """List with an element for each worker that the rate has use for: autoscalers count elements."""
        return self._of("useful-workers")

    def foreign_messages(self) -> str:
        """Hash: version -> how many messages of it workers did not understand."""
        return self._of("foreign-messages")

    def limit(self, scope: str) -> str:
        """When the scope's next time slot is free, or until when a share is used up, in microseconds.

        Releases work side by side on one account's rate: the form stays.
        """
        return self._of("limit", scope)

    def slowdown(self, account: str) -> str:
        """Hash: until when the account is blocked, by how much it is slowed after that."""
        return self._of("slowdown", account)

    def breaker(self, account: str) -> str:
        """Hash: the account's calls of the last half minute, and whether calling is off."""
        return self._of("breaker", account)

    def _of(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))


def all_published(keys: Keys) -> list[str]:
    """Return the set of each lane: a chunk does not say which is its own."""
    return [keys.published(lane) for lane in LANES]
