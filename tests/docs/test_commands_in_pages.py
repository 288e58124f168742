"""Commands that the pages show are commands that exist, with options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from iort_planner.cli.main import build_parser
from iort_planner.errors import IortError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]


def shown_commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(
            r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        ):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.match(r"(?:\S*/)?iort-planner (\S.*)", line)
                if command:  # what stands behind three blanks is said about the command
                    found.append((page.name, re.split(r" {3,}(?=[^-\s])", command[1])[0]))
    return found


@pytest.mark.parametrize(("page", "command"), shown_commands())
def test_a_command_in_a_page_is_understood(page: str, command: str) -> None:
    try:
        build_parser().parse_args(shlex.split(command.split(" | ")[0].replace(" X Y Z", " 1 2 3")))
    except IortError as problem:
        pytest.fail(f"{page}: 'iort-planner {command}' is not understood: {problem}")


def test_the_pages_show_commands_of_every_kind() -> None:
    shown = {command.split()[0] for _, command in shown_commands()}
    assert shown >= {"inspect", "plan", "view", "phantom", "verify", "qa"}


def test_a_misspelt_option_would_be_noticed() -> None:
    with pytest.raises(IortError, match="depth-form"):
        build_parser().parse_args(shlex.split("plan SCAN --out PLAN --depth-form tip"))
