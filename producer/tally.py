"""What a plan holds, counted in bounded memory: by type, by folder, by size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tagmill.producer.sources.filtering import extension
from tagmill.worker.models import Json

KEPT = 1_000  #: names that are told apart; the smallest of more become "others"
SHOWN = 20
SIZES = (0, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)  #: where each class begins, in bytes
_EXTENSION = re.compile(r"[a-z0-9]{1,10}")


@dataclass(slots=True)
class Amount:
    images: int = 0
    bytes: int = 0

    def add(self, images: int, size: int) -> None:
        self.images += images
        self.bytes += size

    def to_json(self) -> Json:
        return {"images": self.images, "bytes": self.bytes}


class Largest:
    """Amounts by name. Exact as long as each name comes in one piece, as folders of a listing in order do."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._amounts: dict[str, Amount] = {}
        self._others, self._dropped = Amount(), 0

    def add(self, name: str, size: int) -> None:
        amount = self._amounts.get(name)
        if amount is None:
            if len(self._amounts) >= 2 * self._kept:
                self._drop_small()
            amount = self._amounts[name] = Amount()
        amount.add(1, size)

    def to_json(self, label: str, shown: int = SHOWN) -> Json:
        """The largest first, by images and then by name; `names`: how many more there are."""
        ordered = self._ordered()
        others = Amount(self._others.images, self._others.bytes)
        for _, amount in ordered[shown:]:
            others.add(amount.images, amount.bytes)
        names = self._dropped + max(len(ordered) - shown, 0)
        largest = [{label: name, **amount.to_json()} for name, amount in ordered[:shown]]
        return {"largest": largest, "others": {"names": names, **others.to_json()}}

    def _ordered(self) -> list[tuple[str, Amount]]:
        return sorted(self._amounts.items(), key=lambda item: (-item[1].images, item[0]))

    def _drop_small(self) -> None:
        ordered = self._ordered()
        self._amounts = dict(ordered[: self._kept])
        for _, amount in ordered[self._kept :]:
            self._others.add(amount.images, amount.bytes)
            self._dropped += 1


@dataclass(slots=True)
class Tally:
    """`base`: what the names of all images begin with; folders are those just below it."""

    base: str = ""
    images: int = 0
    bytes: int = 0
    objects: int = 0  #: in S3, or versions of some
    earlier: int = 0  #: versions that are not the latest
    bad_lines: int = 0  #: of a list: rows, but no images
    types: Largest = field(default_factory=Largest)
    folders: Largest = field(default_factory=Largest)
    sizes: list[Amount] = field(default_factory=lambda: [Amount() for _ in SIZES])
    unknown: Amount = field(default_factory=Amount)  #: of unknown size

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a plan line."""
        self.images += 1
        source = line["source"]
        match line["kind"]:
            case "s3":
                self.objects += 1
                self.earlier += source.get("is_latest") is False
                self._add_named(source["key"], source.get("size"))
            case "file":
                self._add_named(source["path"], source["size"])
            case kind:
                self.bad_lines += kind == "bad_line"
                self.unknown.add(1, 0)

    def _add_named(self, name: str, size: int | None) -> None:
        known = size or 0
        self.bytes += known
        self.types.add(_type(name), known)
        self.folders.add(_first_folder(name.removeprefix(self.base)), known)
        (self.unknown if size is None else self.sizes[_size_class(size)]).add(1, known)

    def size_classes(self) -> Iterator[Json]:
        ends = (*SIZES[1:], None)
        for begin, end, amount in zip(SIZES, ends, self.sizes, strict=True):
            yield {"from": begin, "below": end, **amount.to_json()}
        if self.unknown.images:
            yield {"from": None, "below": None, **self.unknown.to_json()}


def _type(name: str) -> str:
    """The extension; what looks like none is "other", so that a million odd keys are one type."""
    found = extension(name.rpartition("/")[2])
    return found if _EXTENSION.fullmatch(found) else "other" if found else "none"


def _first_folder(name: str) -> str:
    folder, slash, _ = name.removeprefix("/").partition("/")
    return folder + slash if slash else "."


def _size_class(size: int) -> int:
    return max(index for index, begin in enumerate(SIZES) if size >= begin)
