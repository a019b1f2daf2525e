"""How many images of a run each rule matches, with examples. Costs no call, changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from tagmill.worker.models import SCHEMA, Json
from tagmill.worker.policy import TagPolicy
from tagmill.worker.rules import Rule, data_of


@dataclass(slots=True)
class Matches:
    """Of one rule."""

    rule: Rule
    images: int = 0
    examples: list[str] = field(default_factory=list)  #: ids, the first ones in plan order


class RuleMatches:
    """Memory: a count and a few ids for each rule."""

    def __init__(
        self, rules: Mapping[str, Rule], policies: Mapping[str, TagPolicy], keep_examples: int
    ) -> None:
        """`policies`: those that rows may have, by hash; rules see the tags that a row's own one leaves."""
        self._rules = {name: Matches(rule) for name, rule in rules.items()}
        self._policies = policies
        self._keep_examples = keep_examples
        self._images = 0
        self._unanswered = 0

    def add_all(self, lines: Iterable[bytes]) -> None:
        """`lines`: rows of a manifest. One without an answer has nothing that a rule could look at."""
        for row in map(orjson.loads, lines):
            if row["raw_tags"] is None and not row["results"]:
                self._unanswered += 1
            else:
                self._add(row)

    def _add(self, row: Json) -> None:
        self._images += 1
        policy, raw = self._policies.get(row["policy"], TagPolicy()), row["raw_tags"]
        data = data_of(raw and policy.apply(raw), row["results"])
        for matches in self._rules.values():
            if matches.rule.matches(data):
                matches.images += 1
                if len(matches.examples) < self._keep_examples:
                    matches.examples.append(row["id"])

    def to_json(self, run_id: str) -> Json:
        return {
            "schema": SCHEMA,
            "run_id": run_id,
            "images": self._images,
            "unanswered": self._unanswered,
            "rules": [
                {"name": name, "rule": str(one.rule), "images": one.images, "examples": one.examples}
                for name, one in self._rules.items()
            ],
        }

    def describe(self) -> str:
        """For people, in the order of the file."""
        head = f"{self._images} images with an answer, {self._unanswered} without"
        return "\n".join([head, *(line for name in self._rules for line in self._described(name))])

    def _described(self, name: str) -> list[str]:
        matches = self._rules[name]
        share = matches.images / (self._images or 1)
        return [f"{matches.images:>8} {share:>4.0%}  {name}", *(f"{'':>15}{one}" for one in matches.examples)]
