"""The vocabulary of this project: plain technical English in names, prose and commit subjects.

CONTRIBUTING.md has the rules. Each rule here is also applied to a planted example that breaks it.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.test_house import ROOT, SOURCES, committed, shown

RETIRED_WORDS = {
    r"nobody|somebody|anybody|everybody|whoever|whomever|someone|anyone|everyone|no-one": (
        "an indefinite person: name the component or the role"
    ),
    r"told|hears": "a component receives, reports or logs: name the event",
    r"said": "a component reports, states or contains",
    r"See the port\.": "say what the method does, or leave the docstring out",
}
"""Each with the reason. Words are searched without regard to case."""
ANY_WORD = re.compile(rf"\b(?:{'|'.join(f'({each})' for each in RETIRED_WORDS)})(?!\w)", re.IGNORECASE)

FORMER_NAMES = """
Accord Agreeing Around Barrier Behind BounceDesk Carrier Caution Clocks Courier Desk Dialogue Doorstep Ear
Edition Errand Fate Fencing Forgetful Garbled GiveBack Growth Hand HandedBack Heard Heir Herald Hold House
Inspected Kept Lanes Line Means Mending Moment Notice Office Offices Opener Outlet Paces Parcel Patience
Pile Portion Procession Reception Rehearsal Room Scene Seal Seen Shelf Shown Slip Standing Surroundings
Taken Tally Terms Ticket Told Tray Trouble Unanswered Unopened Unsigned Way Ways Wire Wishes Withheld
accords careful heirs journey kin lanes leash mine nursery offices opening rehearse strays telling trouble
twins ways wiring wording
"""
RETIRED_NAMES = frozenset(FORMER_NAMES.split())
"""Classes and modules of a former vocabulary that a stranger could not guess."""

PROSE = (
    "*.py",
    "*.md",
    "*.yaml",
    "*.yml",
    "*.tpl",
    "*.toml",
    "*.js",
    "*.css",
    "*.html",
    "*.go",
    "Makefile",
    "Dockerfile",
)
QUOTED = (
    "CODE_OF_CONDUCT.md",
    "docs/reference/bad-inputs.md",
    "manifests/examples/",
    "tests/badinputs/",
    "tests/golden/",
    "tests/letters/",
    "tests/test_words.py",
    "worker/postroom/local/studio/examples/",
)
"""Texts of letters and of other projects: their words are data."""
CLASS = re.compile(r"^[ \t]*class (\w+)", re.MULTILINE)
USER = re.compile(r"""["'`(/]nobody["'`)/:]|allow\.everyone\.if""")
"""The user of Unix systems, and a setting of Kafka."""

INTRODUCED = "tests/test_words.py"
SUBJECT = re.compile(r"[a-z0-9][a-z0-9 ,./_-]*: \S.*")
LONGEST_SUBJECT = 72


def retired_words(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, word, reason) for each retired word."""
    text = USER.sub("``", text)
    for found in ANY_WORD.finditer(text):
        pattern = list(RETIRED_WORDS)[(found.lastindex or 1) - 1]
        yield text.count("\n", 0, found.start()) + 1, found[0], RETIRED_WORDS[pattern]


def prose() -> Iterator[Path]:
    for path in committed(*PROSE):
        if not shown(path).startswith(QUOTED):
            yield path


def test_no_text_has_a_retired_word() -> None:
    found = [
        f"{shown(path)}:{line}: {word} ({reason})"
        for path in prose()
        for line, word, reason in retired_words(path.read_text())
    ]
    assert not found, f"{len(found)} retired words:\n" + "\n".join(found[:60])


@pytest.mark.parametrize(
    "text", ["# whoever reads this", "Nobody answers", "the worker is told", '"""See the port."""']
)
def test_a_planted_word_is_found(text: str) -> None:
    assert list(retired_words(text))


@pytest.mark.parametrize("text", ['getpwnam("nobody")', "the toldoth", "a manifold"])
def test_what_only_looks_like_a_retired_word_is_left_alone(text: str) -> None:
    assert not list(retired_words(text))


def classes(paths: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(name, where) of every class of (path, source)."""
    return [
        (found[1], f"{path}:{source.count(chr(10), 0, found.start(1)) + 1}")
        for path, source in paths
        for found in CLASS.finditer(source)
    ]


def doubled(found: list[tuple[str, str]]) -> dict[str, list[str]]:
    count = Counter(name for name, _ in found)
    return {name: [where for each, where in found if each == name] for name in count if count[name] > 1}


def sources() -> list[tuple[str, str]]:
    return [(shown(path), path.read_text()) for path in SOURCES]


def test_every_class_name_is_defined_once() -> None:
    assert doubled(classes(sources())) == {}


def test_a_planted_second_class_is_found() -> None:
    assert doubled(classes([("a.py", "class Reply: ..."), ("b.py", "class Reply: ...")])) == {
        "Reply": ["a.py:1", "b.py:1"]
    }


def retired_names(paths: Iterable[tuple[str, str]]) -> list[str]:
    paths = list(paths)
    found = [where for name, where in classes(paths) if name.lstrip("_") in RETIRED_NAMES]
    return found + [path for path, _ in paths if set(Path(path).with_suffix("").parts) & RETIRED_NAMES]


def test_no_class_or_module_has_a_retired_name() -> None:
    assert retired_names(sources()) == []


def test_a_planted_name_is_found() -> None:
    assert retired_names([("worker/postroom/delivery/lanes.py", "class _Herald: ...")]) == [
        "worker/postroom/delivery/lanes.py:1",
        "worker/postroom/delivery/lanes.py",
    ]


def bad_subjects(subjects: Iterable[str]) -> list[str]:
    """The commit subjects that are not `area: summary` or are longer than 72 characters."""
    return [each for each in subjects if not SUBJECT.fullmatch(each) or len(each) > LONGEST_SUBJECT]


def subjects() -> list[str]:
    """Of the commits after the one that added this file, without merges; a clone without history has none."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        return []

    def git(*arguments: str) -> list[str]:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    first = git("log", "--diff-filter=A", "--format=%H", "--", INTRODUCED)
    return git("log", "--no-merges", "--format=%s", f"{first[-1]}..HEAD") if first else []


def test_every_commit_subject_is_an_area_and_a_summary() -> None:
    assert bad_subjects(subjects()) == []


@pytest.mark.parametrize(
    "subject", ["Make it work", "letter: " + "x" * 65, "Letter: name it", "letter:name it"]
)
def test_a_planted_subject_is_found(subject: str) -> None:
    assert bad_subjects([subject, "letter: name the field"]) == [subject]
