"""The state that a run leaves, by a process of its own: `python -m benchmarks.remembering STORE RUN`."""

from __future__ import annotations

import sys

from tagmill.worker.remembering import remember
from tagmill.worker.store.folder import Folder
from tagmill.worker.store.passes import Passes
from tagmill.worker.store.runs import Runs

if __name__ == "__main__":
    files, run_id = Folder(sys.argv[1]), sys.argv[2]
    remember(files, Runs(files).read(run_id), Passes(files, run_id).newest())
