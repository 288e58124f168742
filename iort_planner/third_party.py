"""What is installed with this package: names, versions, licences.

python -m iort_planner.third_party            a table in Markdown, of this environment
"""

from __future__ import annotations

import importlib.metadata as metadata
import re
import sys
from dataclasses import dataclass

_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_LONGEST = 60  # some packages put the licence's whole text where its name belongs


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One installed distribution."""

    name: str
    version: str
    licence: str


def third_parties(package: str = "iort-planner") -> tuple[Part, ...]:
    """The closure of a package's requirements that are installed here, extras left out, by name."""
    found: dict[str, Part] = {}
    waiting = [package]
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # asked for on another system or Python only
        found[key] = Part(
            name=distribution.metadata["Name"], version=distribution.version, licence=_licence(distribution)
        )
        for requirement in distribution.requires or ():
            match = _NAME.match(requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match[0])
    found.pop(re.sub(r"[-_.]+", "-", package).lower(), None)
    return tuple(sorted(found.values(), key=lambda part: part.name.lower()))


def _licence(distribution: metadata.Distribution) -> str:
    head = distribution.metadata
    named = next(iter(head.get_all("License-Expression") or ()), "")
    classified = [
        line.rsplit(" :: ", 1)[-1] for line in head.get_all("Classifier") or () if line.startswith("License ::")
    ]
    written = " ".join(next(iter(head.get_all("License") or ()), "").split())
    return (
        named
        or ", ".join(classified)
        or (written if len(written) <= _LONGEST else written[:_LONGEST] + " ...")
        or "not stated"
    )


def main() -> int:
    """Print the table."""
    lines = ["| package | version | licence, as the package states it |", "|---|---|---|"]
    lines += [f"| {part.name} | {part.version} | {part.licence} |" for part in third_parties()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
