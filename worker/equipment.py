"""What a worker process keeps for all chunks of a run."""

from __future__ import annotations

from dataclasses import dataclass

from tagmill.worker.behind import Behind
from tagmill.worker.budget import Budget
from tagmill.worker.policy import TagPolicy
from tagmill.worker.retry import RetryBudget
from tagmill.worker.state.breaker import Breaker
from tagmill.worker.state.denials import Denials
from tagmill.worker.state.limiter import Limiter
from tagmill.worker.store.passes import PassKind
from tagmill.worker.tagger import Tagger
from tagmill.worker.undoing import Undoing
from tagmill.worker.workflow_jobs import WorkflowJobs
from tagmill.worker.writeback import WriteBack


@dataclass(slots=True)
class Equipment:
    run_id: str
    kind: PassKind
    policy: TagPolicy
    tagger: Tagger
    write_back: WriteBack
    undoing: Undoing
    limiter: Limiter
    breaker: Breaker
    denials: Denials
    budget: Budget
    retry_budget: RetryBudget
    lanes: int  #: may change while a chunk is worked on
    behind: Behind | None = None  #: finds the objects behind handles; None: write-back has no use for them
    jobs: WorkflowJobs | None = None  #: None: the engine answers at once
    force: bool = False  #: also what an earlier run has tagged
    price_per_1000: str | None = None  #: decimal
