"""What is public is documented, links lead somewhere, pictures have a maker, and modules keep their size."""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import runpy
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import iort_planner
from iort_planner.cli.main import build_parser
from tests.docs import architecture_picture

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "phantoms" / "README.md"])
MOST_LINES = 400
site_pages = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "site_pages.py")))


def modules() -> list[str]:
    found = [each.name for each in pkgutil.walk_packages(iort_planner.__path__, "iort_planner.")]
    return [name for name in found if not any(part.startswith("_") for part in name.split("."))]


@pytest.mark.parametrize("name", modules())
def test_every_public_module_class_function_and_method_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    own = [
        (key, value)
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and getattr(value, "__module__", "") == name
    ]
    missing = [key for key, value in own if not inspect.getdoc(value)]
    missing += [
        f"{key}.{method}"
        for key, value in own
        if inspect.isclass(value)
        for method, code in vars(value).items()
        if not method.startswith("_")
        and (inspect.isfunction(code) or isinstance(code, property))
        and not inspect.getdoc(code)
    ]
    # argparse calls these by their names: what they do stands in the command's help
    if name.startswith("iort_planner.cli"):
        missing = [
            each
            for each in missing
            if each not in ("add_subparser", "add_plan_options", "run") and not each.startswith("run_")
        ]

    assert inspect.getdoc(module)
    assert missing == []


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield f"{path} {name}".strip(), child
                yield from commands(child, f"{path} {name}".strip())


@pytest.mark.parametrize(
    ("name", "parser"), list(commands(build_parser())), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_command_says_what_it_does_and_every_option_has_help(name: str, parser: argparse.ArgumentParser) -> None:
    assert parser.description
    silent = [
        action.dest
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


WITH_EXAMPLES = [name for name in modules() if ">>> " in inspect.getsource(importlib.import_module(name))]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)

    assert result.attempted > 0
    assert result.failed == 0


def test_what_a_script_would_call_first_has_an_example() -> None:
    assert {"iort_planner.units", "iort_planner.planning.dwell", "iort_planner.source.table_file"} <= set(WITH_EXAMPLES)


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        place = page if not file else (page.parent / file).resolve()
        assert place.exists(), f"{page.name}: {target} does not exist"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{page.name}: {target} has no such heading"


def test_every_picture_of_the_documentation_is_made_by_a_script() -> None:
    makers = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("tests", "examples", "docs")
        for path in (ROOT / folder).rglob("*.py")
    )
    for picture in (ROOT / "docs").rglob("*.png"):
        stem = picture.stem
        named = stem in makers or any(stem.startswith(start) for start in re.findall(r"[\"'f]([\w-]+-)\{", makers))
        assert named, f"{picture.name}: no script names it"


def test_the_picture_of_the_architecture_shows_the_imports_as_they_are() -> None:
    with Image.open(architecture_picture.PICTURE) as picture:
        drawn = picture.info["Description"]

    assert drawn == architecture_picture.description(), "draw it anew: python -m tests.docs.architecture_picture"
    assert "geometry -> dose" in drawn
    parts = {each.name.removesuffix(".py") for each in (ROOT / "iort_planner").iterdir() if each.name[0] not in "_."}
    assert parts - {"py.typed", "third_party"} == {*architecture_picture.PLACES, *architecture_picture.HELPERS}


def test_links_of_a_page_from_outside_docs_lead_to_pages_of_the_site() -> None:
    text = "[a](docs/checks.md#x) [b](CONTRIBUTING.md) [c](https://a.b/c) [d](examples/plan_a_scan.py) [e](#here)"

    assert site_pages.place_links(text, "README.md", "index.md") == (
        "[a](checks.md#x) [b](reference/contributing.md) [c](https://a.b/c) "
        "[d](reference/examples.md#plan_a_scan) [e](#here)"
    )
    assert site_pages.place_links("[a](../../README.md)", "docs/how-to/b.md", "how-to/b.md") == "[a](../index.md)"


@pytest.mark.parametrize("place", sorted(site_pages.MADE))
def test_a_page_that_is_made_says_what_it_is_for_and_what_the_code_holds(place: str) -> None:
    text = site_pages.MADE[place]()

    assert text.startswith("# ")
    assert iort_planner.INTENDED_USE in text
    held = {
        "reference/commands.md": "## iort-planner qa derive",
        "reference/plan-schema.md": "| `needles[].tip_lps_mm` | list of 3 number |  |",
        "reference/errors.md": "| `DepthDoseRangeError` |",
        "reference/python.md": "::: iort_planner.planning.make.make_plan",
        "reference/examples.md": "## commission_a_source",
        "reference/cases.md": "| cases/8-gy-at-8-mm |",
        "reference/third-party.md": "| numpy |",
    }
    assert held[place] in text


def test_every_direct_dependency_has_its_reason_and_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    optional = [each for extra in project["optional-dependencies"].values() for each in extra]
    for requirement in project["dependencies"]:
        name = re.split(r"[><=\[]", requirement)[0]
        assert re.search(rf"^\| {re.escape(name)}\b", text, flags=re.MULTILINE | re.IGNORECASE), name
    for requirement in optional:
        name = re.split(r"[><=\[]", requirement)[0]
        assert name in text or name.startswith("types-"), name


def test_no_module_is_longer_than_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "iort_planner").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_no_private_function_stands_unused() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "iort_planner").rglob("*.py")}
    words = Counter(word for text in sources.values() for word in re.findall(r"\w+", text))
    unused = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("_")
        and not node.name.startswith("__")
        and words[node.name] < 2
    ]
    assert unused == []
