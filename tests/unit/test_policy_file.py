"""From a file to a policy; what is wrong is said in one line that names file, key and rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagmill.producer.policy_file import PolicyFile, read_policy
from tagmill.worker.errors import ConfigError, NotFoundError
from tagmill.worker.policy import TagPolicy, TagRule
from tagmill.worker.rules import parse

WHOLE = """
min_confidence = 60
max_tags = 20
allow = ["*"]
deny = ["Blur*", "no person"]
vocabulary = "terms.csv"
only_vocabulary = true
prefix = "ai:"
case = "lower"

[[rules]]
when = "sfw  eq   false"
label = "needs-review"

[[rules]]
when = 'tags.auto kex "Ocean"'
add_tag = "water"
confidence = 80

[min_confidence_for]
Sea = 80.5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str | bytes, name: str = "policy.toml") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(text: str | bytes, name: str = "policy.toml") -> str:
    with pytest.raises(ConfigError) as refused:
        read_policy(written(text, name))
    said = str(refused.value)
    assert said.isprintable()
    return said


def test_every_key_is_read() -> None:
    written("label,term\nsea,Ocean\nOCEAN,Ocean\n", "terms.csv")
    assert read_policy(written(WHOLE)) == TagPolicy(
        min_confidence=60,
        min_confidence_for={"sea": 80.5},
        max_tags=20,
        allow=("*",),
        deny=("blur*", "no person"),
        vocabulary={"sea": "Ocean", "ocean": "Ocean"},
        only_vocabulary=True,
        prefix="ai:",
        case="lower",
        rules=(
            TagRule(parse("sfw eq false"), label="needs-review"),
            TagRule(parse('tags.auto kex "Ocean"'), add_tag="water", confidence=80),
        ),
    )
    assert all(key in WHOLE for key in PolicyFile.model_fields)


def test_an_empty_file_is_the_policy_that_changes_nothing() -> None:
    assert read_policy(written("")).hash == TagPolicy().hash


def test_a_vocabulary_may_be_a_table() -> None:
    policy = read_policy(written('[vocabulary]\nCar = "vehicle"\n"sea" = "Meer"\n'))
    assert policy.vocabulary == {"car": "vehicle", "sea": "Meer"}


@pytest.mark.parametrize(
    "text",
    [
        "label,term\nsea,Ocean\n",
        "sea,Ocean\n",
        "\ufeffLabel,Term\r\n\r\n Sea , Ocean \r\n".replace("Label,Term", "label,term"),
        'sea,"Ocean"\nsea,Ocean\n',
    ],
)
def test_a_csv_is_a_vocabulary(text: str) -> None:
    assert read_policy(written(text, "terms.csv")) == TagPolicy(vocabulary={"sea": "Ocean"})


def test_a_vocabulary_is_looked_for_beside_its_policy(folder: Path) -> None:
    (folder / "rules").mkdir()
    written("sea,Ocean\n", "rules/terms.csv")
    assert read_policy(written('vocabulary = "terms.csv"', "rules/policy.toml")).vocabulary


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_tagz = 3", "policy.toml: max_tagz is no key of a policy; did you mean max_tags?"),
        ("whatever = 3", "policy.toml: whatever is no key of a policy; there are min_confidence, "),
        ("min_confidence = 101", "policy.toml: min_confidence: Input should be less than or equal to 100"),
        ("min_confidence = nan", "policy.toml: min_confidence: Input should be a finite number"),
        ("min_confidence = true", "policy.toml: min_confidence: Input should be a valid number"),
        ("min_confidence = '60'", "policy.toml: min_confidence: Input should be a valid number"),
        ("max_tags = 0", "policy.toml: max_tags: Input should be greater than or equal to 1"),
        ("max_tags = 1.5", "policy.toml: max_tags: Input should be a valid integer"),
        ("deny = 'blur'", "policy.toml: deny: Input should be a valid list"),
        ("deny = ['a', 3]", "policy.toml: deny.2: Input should be a valid string"),
        ("allow = ['  ']", "policy.toml: allow.1: write at least one character that is no space"),
        ("prefix = 'a\tb'", "policy.toml: prefix: control characters have no place in a label"),
        ("case = 'loud'", "policy.toml: case: Input should be 'lower', 'upper' or 'title'"),
        ("only_vocabulary = true", "policy.toml: only_vocabulary: without a vocabulary no label would be"),
        ("[vocabulary]\nsea = ''", "policy.toml: vocabulary.sea: write at least one character"),
        ("[vocabulary]\n'se*' = 'x'", "policy.toml: vocabulary.se*: wildcards are for allow and deny"),
        (
            "[vocabulary]\nSea = 'Meer'\nsea = 'Ocean'",
            "policy.toml: vocabulary: 'sea' is there twice, with 'Meer' and with 'Ocean'",
        ),
        (
            "[min_confidence_for]\nSea = 1\nSEA = 2",
            "policy.toml: min_confidence_for: 'SEA' is there twice, with 1.0 and with 2.0",
        ),
        ("[min_confidence_for]\n'sea' = 'x'", "policy.toml: min_confidence_for.sea: Input should be a valid"),
        ('"a\\nb" = 1', r"policy.toml: 'a\nb' is no key of a policy"),
        ("max_tags = ", "policy.toml: Invalid value"),
        ("x = " + "[" * 5000, "policy.toml: maximum recursion depth exceeded"),
        (b"\xff", "policy.toml: 'utf-8' codec can't decode byte 0xff"),
        ("vocabulary = 'policy.toml'", "policy.toml: line 1: write a label and your term"),
        ("vocabulary = '.'", ".: Is a directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str | bytes, said: str) -> None:
    assert complaint(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sea,Ocean\nsky\n", "terms.csv: line 2: write a label and your term, as in sea,ocean"),
        ("sea;Ocean\n", "terms.csv: line 1: write a label and your term, as in sea,ocean"),
        ("sea,Ocean,x\n", "terms.csv: line 1: write a label and your term, as in sea,ocean"),
        ('sea,"Ocean\n', "terms.csv: line 1: unexpected end of data"),
        (
            "sea,Ocean\nSea,Meer\n",
            "terms.csv: vocabulary: 'Sea' is there twice, with 'Ocean' and with 'Meer'",
        ),
        ("sea,\n", "terms.csv: vocabulary.sea: write at least one character that is no space"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_with_its_line(text: str, said: str) -> None:
    assert complaint(text, "terms.csv") == said


@pytest.mark.parametrize("text", [None, "vocabulary = 'gone.csv'"])
def test_a_file_that_is_not_there_is_not_found(text: str | None) -> None:
    path = written(text) if text else Path("gone.toml")
    with pytest.raises(NotFoundError, match="no policy file gone"):
        read_policy(path)
