"""docs/qa.md names every finding that the package's own code can give."""

from __future__ import annotations

import re
from pathlib import Path

import iort_planner.qa

PACKAGE = Path(iort_planner.qa.__file__).parent
DOCS = Path(__file__).resolve().parents[2] / "docs" / "qa.md"


def test_every_finding_is_documented() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py"))
    ids = set(re.findall(r'Finding\(\s*"([a-z-]+)"', code))
    documented = set(re.findall(r"`([a-z-]+)`", DOCS.read_text(encoding="utf-8")))

    assert {"outlier", "origin-slip", "step"} <= ids
    assert ids <= documented, ids - documented
