"""The source itself: what no linter says of it. Each rule is tested on a case that breaks it."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edo_stream.settings import settings_table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "edo_stream"
#: Run by name, not imported.
ENTRY_POINTS = {
    "edo_stream.__main__",
    "edo_stream.app",
    "edo_stream.health",
    "edo_stream.local.supervisor",
}
JUNK_DRAWERS = {"utils", "helpers", "common", "base", "misc"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def imports_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def left_overs(text: str) -> list[str]:
    return re.findall(r"\bFIXME\b|\bXXX\b|\bTODO\b(?! \(issue \d+\))", text)


def foreign_places(text: str) -> list[str]:
    """Paths of one machine and addresses of package registries."""
    places = (
        r"(?<![\w.])/(?:work|root|home/\w+)/[\w./-]*|https?://(?:repo|registry|index|files|pypi)\S*"
    )
    return re.findall(places, text)


def titles(markdown: str) -> list[str]:
    without_code = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    return re.findall(r"^# .+$", without_code, flags=re.MULTILINE)


def test_every_module_of_the_package_is_imported_by_something() -> None:
    sources = tracked("*.py")
    used = {name for path in sources for name in imports_of(path.read_text())}
    modules = {module_name(path) for path in sources if path.is_relative_to(PACKAGE)}
    dead = {
        name
        for name in modules - used - ENTRY_POINTS
        if not any(other.startswith(f"{name}.") for other in used)
    }
    assert set() == dead


def test_no_module_is_a_junk_drawer() -> None:
    assert [path for path in tracked("*.py") if path.stem in JUNK_DRAWERS] == []


def test_nothing_is_left_over_in_the_source() -> None:
    found = {
        str(path): left_overs(path.read_text())
        for path in tracked("*.py", "*.md", "*.toml", "Makefile")
        if path != Path(__file__)
    }
    assert {path: marks for path, marks in found.items() if marks} == {}


@pytest.mark.parametrize("text", ["# FIXME later", "# TODO: more", "# XXX"])
def test_left_overs_are_recognised(text: str) -> None:
    assert len(left_overs(text)) == 1


def test_a_todo_that_names_its_issue_may_stay() -> None:
    assert left_overs("# TODO (issue 7): retries") == []


def test_the_repository_speaks_of_no_machine_and_no_registry() -> None:
    found = {
        str(path): foreign_places(path.read_text(errors="replace"))
        for path in tracked()
        if path != Path(__file__)
    }
    assert {path: places for path, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "words", ["see |root|x.log", "https:||repo.example.org|a", "in |work|main"]
)
def test_foreign_places_are_recognised(words: str) -> None:
    # Written with another stroke, so that this file is none of what it looks for.
    assert 1 == len(foreign_places(words.replace("|", "/")))


def test_every_page_has_one_title() -> None:
    counts = {str(path): len(titles(path.read_text())) for path in tracked("*.md")}
    assert {path: count for path, count in counts.items() if count != 1} == {}


def test_a_comment_in_a_code_block_is_no_title() -> None:
    assert titles("# One\n\n```sh\n# not a title\n```\n") == ["# One"]


def test_the_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(
        re.findall(r"`((?:core|engine|registry|observe|edo_stream|tests)/[\w/]+\.py)`", text)
    )
    named |= set(re.findall(r"\s{2}((?:core|sources)/\w+\.py)", text))
    missing = {name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())}
    assert named
    assert set() == missing


def test_the_page_of_settings_is_the_settings() -> None:
    assert settings_table() in (ROOT / "docs/settings.md").read_text()


def test_topics_are_handed_to_faust_as_raw_bytes_without_acknowledgement() -> None:
    calls = [
        node
        for path in tracked("edo_stream/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "topic"
        and any(keyword.arg == "value_type" for keyword in node.keywords)
    ]
    given = [
        {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords} for call in calls
    ]
    assert given
    for arguments in given:
        assert arguments["value_type"] == "bytes"
        assert arguments["value_serializer"] == "'raw'"
        assert arguments["acks"] == "False"
