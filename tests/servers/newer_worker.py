"""A real worker of a release to come, whose chunk messages have another version."""

from __future__ import annotations

import sys

from tagmill.worker import models, serve

VERSION = "2"

if __name__ == "__main__":
    models.MESSAGE_VERSION = int(VERSION)  # children are forked, so they have it too
    sys.exit(serve.main())
