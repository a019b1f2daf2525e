"""How many of a source's images are planned: a limit, or a sample that is the same whenever it is drawn.

A sample of k is the k images whose keyed hashes are smallest. It takes two passes over the listing: the first
finds the k-th smallest hash, in memory for k numbers; the second is a plain filter that streams and resumes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from tagmill.producer.sources.base import Listed
from tagmill.producer.sources.filtering import Skip

HASH_BYTES = 6  #: whole numbers that any reader of JSON keeps exact
EVERYTHING = (1 << 8 * HASH_BYTES) - 1


def sample_hash(identity: str, seed: int) -> int:
    key = str(seed).encode()
    digest = blake2b(identity.encode(errors="surrogatepass"), key=key, digest_size=HASH_BYTES)
    return int.from_bytes(digest.digest())


def sample_threshold(items: Iterable[Listed], size: int, seed: int) -> int:
    """The largest hash in the sample: record it, so that planning can be resumed."""
    largest_first: list[int] = []
    for item in items:
        if item.ref is None:
            continue
        key = -sample_hash(item.ref.identity, seed)
        if len(largest_first) < size:
            heapq.heappush(largest_first, key)
        else:
            heapq.heappushpop(largest_first, key)
    return -largest_first[0] if len(largest_first) == size else EVERYTHING


def sampled(items: Iterable[Listed], threshold: int, seed: int) -> Iterator[Listed]:
    """Pass over what is not in the sample."""
    for item in items:
        chosen = item.ref is None or sample_hash(item.ref.identity, seed) <= threshold
        yield item if chosen else Listed(None, item.cursor, Skip.NOT_SAMPLED.value)


def limited(items: Iterable[Listed], limit: int, planned: int = 0) -> Iterator[Listed]:
    """End right after the image that is the `limit`-th, `planned` earlier ones counted."""
    left = limit - planned
    if left <= 0:
        return
    for item in items:
        yield item
        left -= item.ref is not None
        if not left:
            return
