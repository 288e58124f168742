"""Fixtures of the imaging tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from iort_planner.cli.main import main

from .reading import Stop


@pytest.fixture
def stopped(capsys: pytest.CaptureFixture[str]) -> Stop:
    """Plan a path that cannot be planned: status 2, one line with these words, nothing written."""

    def stop(path: Path, *words: str, options: tuple[str, ...] = ()) -> str:
        out = path.parent / "plan"
        before = sorted(path.parent.rglob("*"))
        status = main(["plan", str(path), "--out", str(out), "--no-pictures", "--quiet", *options])
        printed = capsys.readouterr()
        assert status == 2, printed
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("error: ")
        assert "Secret" not in line
        for word in words:
            assert word in line, line
        assert sorted(path.parent.rglob("*")) == before
        return line

    return stop
