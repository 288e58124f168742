"""Pages of the site that are made, not written: a hook of mkdocs (``mkdocs.yml``), run at each build.

The commands come from the parsers, the plan's keys from its schema, the errors and the Python names from docstrings, the
examples and cases from their files. What stands outside ``docs/`` (README, CONTRIBUTING, ...) becomes a page as well, and
links to such a file lead to its page; a link to a file that is no page stops the build.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iort_planner
from iort_planner import errors, third_party
from iort_planner.cli.main import build_parser
from iort_planner.verification.case import Case, read_suite

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
NOTE = f"*{iort_planner.INTENDED_USE}*"

# files outside docs/ that are pages of the site
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
    "constraints/README.md": "reference/versions.md",
    "phantoms/README.md": "reference/phantoms.md",
}


def commands() -> str:
    """Every command with what its --help says."""
    lines = ["# Commands", "", NOTE, "", "What `--help` says of each command.", ""]
    for name, parser in _parsers(build_parser(), "iort-planner"):
        lines += [f"## {name}", "", "```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _parsers(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from _parsers(child, f"{name} {word}")


def plan_schema() -> str:
    """Every key of plan.json from its schema."""
    schema = json.loads((ROOT / "iort_planner" / "planning" / "plan.schema.json").read_text(encoding="utf-8"))
    lines = [
        "# Plan file",
        "",
        NOTE,
        "",
        "Every key of `plan.json`, from the schema that each plan is checked against when it is read "
        "(`iort_planner/planning/plan.schema.json`). What stands behind them: [file formats](../file-formats.md), "
        "[checks](../checks.md).",
        "",
        "A key that holds a quantity ends in its unit; lengths mm, patient coordinates DICOM LPS, dose Gy to water.",
        "",
        "| key | value | what |",
        "|---|---|---|",
    ]
    lines += [f"| `{key}` | {kind} | {about} |" for key, kind, about in _keys(schema, "")]
    return "\n".join(lines) + "\n"


def _keys(node: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for option in node.get("anyOf", ()):
        if option.get("type") in ("object", "array"):
            yield from _keys(option, path)
    if "properties" in node:
        for key, child in node["properties"].items():
            below = f"{path}.{key}" if path else key
            yield below, _kind(child), _about(child)
            yield from _keys(child, below)
    if node.get("type") == "array" and isinstance(node.get("items"), dict):
        yield from _keys(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from _keys(node["additionalProperties"], f"{path}.*")


def _about(node: dict[str, Any]) -> str:
    """What an object, or each of a list's, is."""
    below = [*node.get("anyOf", ()), node.get("items"), node.get("additionalProperties")]
    found = [node.get("description", "")] + [_about(each) for each in below if isinstance(each, dict)]
    return next((each for each in found if each), "")


def _kind(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(f"`{each}`" for each in node["enum"])
    if "anyOf" in node:
        return " or ".join(_kind(each) for each in node["anyOf"])
    kind = node.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        length = node.get("minItems")
        several = f"{length} " if length and length == node.get("maxItems") else ""
        return f"list of {several}{_kind(node.get('items', {}))}"
    return str(kind)


def error_pages() -> str:
    """The errors with what raises them."""
    lines = [
        "# Errors",
        "",
        NOTE,
        "",
        "On the command line an error is one line, `error: <what> <where>; <what to do>`, and exit status 2; nothing is "
        "half-written. In Python each is one of these, and all are `IortError`. `IORT_PLANNER_DEBUG=1` shows the traceback "
        "of what should never happen.",
        "",
        "| error | also a | raised when |",
        "|---|---|---|",
    ]
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and kind.__module__ == errors.__name__:
            bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
            lines.append(f"| `{name}` | {bases} | {inspect.getdoc(kind)} |")
    status = [
        "",
        "| exit status | meaning |",
        "|---|---|",
        "| 0 | done; every check passed or only warned |",
        "| 1 | done, but a safety check, a verification or a QA check failed; the verdict says `fail` |",
        "| 2 | nothing could be done: bad usage or bad input |",
        "| 130 | interrupted |",
    ]
    return "\n".join(lines + status) + "\n"


def python_names() -> str:
    """The public names, each handed to mkdocstrings."""
    lines = ["# Python", "", NOTE, "", "The names of `import iort_planner`; each is loaded when it is first used.", ""]
    for name, module in sorted(iort_planner._PUBLIC.items()):
        lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def examples() -> str:
    """Every example with its source."""
    lines = ["# Examples", "", NOTE, "", "Each is a script to run and to change; CI runs every one of them.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        lines += [f"## {path.stem}", "", first, "", "```python", source.rstrip(), "```", ""]
    return "\n".join(lines)


def cases() -> str:
    """The cases of the shipped suite and where their expectations come from."""
    suite = read_suite(ROOT / "phantoms")
    lines = [
        "# Cases of the suite",
        "",
        NOTE,
        "",
        f"`iort-planner verify phantoms/` runs these {len(suite)} cases ([verification](../verification.md)).",
        "",
        "| case | what | exit status | expectations |",
        "|---|---|---|---|",
    ]
    lines += [f"| {case.name} | {case.description} | {case.exit_status} | {_sources(case)} |" for case in suite]
    return "\n".join(lines) + "\n"


def _sources(case: Case) -> str:
    counts: dict[str, int] = {}
    for expectation in case.expectations:
        counts[expectation.source] = counts.get(expectation.source, 0) + 1
    return ", ".join(f"{count} {source}" for source, count in counts.items())


def parts() -> str:
    """What is installed with the package."""
    rows = [f"| {part.name} | {part.version} | {part.licence} |" for part in third_party.third_parties()]
    head = [
        "# Third-party parts",
        "",
        NOTE,
        "",
        "As installed where this site was built; `python -m iort_planner.third_party` prints the same of any environment. "
        "Why each is there: [dependencies](../dependencies.md).",
        "",
        "| package | version | licence, as the package states it |",
        "|---|---|---|",
    ]
    return "\n".join(head + rows) + "\n"


MADE = {
    "reference/commands.md": commands,
    "reference/plan-schema.md": plan_schema,
    "reference/errors.md": error_pages,
    "reference/python.md": python_names,
    "reference/examples.md": examples,
    "reference/cases.md": cases,
    "reference/third-party.md": parts,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made and those from outside docs/."""
    from mkdocs.structure.files import File

    os.environ["COLUMNS"] = "110"  # as wide as a page shows a block
    for place, make in MADE.items():
        files.append(File.generated(config, place, content=make()))
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links from and to files outside docs/ to their pages."""
    place = page.file.src_uri
    written = {target: source for source, target in PAGES.items()}.get(place, f"docs/{place}")
    return place_links(markdown, written, place)


def place_links(markdown: str, written: str, place: str) -> str:
    """The text with its links, relative to the file ``written``, made relative to the page ``place``."""

    def placed(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        if "://" in target or not target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(written), target))
        if file.startswith("examples"):
            page, anchor = "reference/examples.md", Path(file).stem if file.endswith(".py") else anchor
        elif file in PAGES:
            page = PAGES[file]
        elif file == "LICENSE":
            page = "dependencies.md"
        elif file.startswith("docs/"):
            page = file.removeprefix("docs/")
        else:
            return match[0]  # mkdocs says that it is no page, and --strict stops
        relative = posixpath.relpath(page, posixpath.dirname(place) or ".")
        return f"]({relative}{'#' + anchor if anchor else ''})"

    return re.sub(r"\]\(([^)\s]+)\)", placed, markdown)
