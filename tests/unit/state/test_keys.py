from __future__ import annotations

import inspect

from tagmill.worker.models import Chunk
from tagmill.worker.state.keys import Keys

ARGUMENTS = {"chunk": Chunk("run-1", 0, 3, 200, 100), "pass_no": 0}


def test_no_two_names_are_the_same_and_all_carry_the_prefix() -> None:
    names = []
    for _, build in inspect.getmembers(Keys("prefix"), inspect.ismethod):
        wanted = inspect.signature(build).parameters
        if not build.__name__.startswith("_"):
            names.append(build(**{name: ARGUMENTS.get(name, "x") for name in wanted}))
    assert len(set(names)) == len(names) >= 20
    assert all(name.startswith("prefix:") for name in names)
