"""How the options of ``plan`` are understood; nothing is planned here."""

from __future__ import annotations

from pathlib import Path

import pytest

from iort_planner.cli.main import build_parser, main
from iort_planner.cli.plan import request_from
from iort_planner.errors import InputError
from iort_planner.workflow import PlanRequest

POINT = ["--canal-point", "1", "-2.5", "3e1"]
AS_POINT = ((1.0, -2.5, 30.0),)


def request(*options: str) -> PlanRequest:
    args = build_parser().parse_args(["plan", "scan", "--out", "plan", *options])
    return request_from(args, args.input, args.series)


def test_points_alone_take_the_place_of_a_canal() -> None:
    asked = request(*POINT)

    assert (asked.canal_points, asked.canal_corrections, asked.canal_file) == (AS_POINT, (), None)


@pytest.mark.parametrize(("canal", "file"), [("auto", None), ("canal.dcm", Path("canal.dcm"))])
def test_points_with_a_canal_said_correct_it(canal: str, file: Path | None) -> None:
    asked = request("--canal", canal, *POINT, *POINT)

    assert (asked.canal_points, asked.canal_corrections, asked.canal_file) == ((), AS_POINT * 2, file)


def test_without_options_the_canal_is_found_automatically() -> None:
    assert request() == request("--canal", "auto")


def test_a_cord_comes_with_its_structure() -> None:
    asked = request("--cord", "rs.dcm", "--cord-roi", "SpinalCord")

    assert (asked.cord_file, asked.cord_roi, asked.canal_file) == (Path("rs.dcm"), "SpinalCord", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cord-roi", "2"], "give --cord FILE too"),
        (["--canal-roi", "2"], "give --canal FILE too"),
        (["--canal", "auto", "--canal-roi", "2"], "give --canal FILE too"),
    ],
)
def test_a_structure_without_its_file_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        request(*options)


def test_a_request_cannot_have_points_both_in_place_of_a_canal_and_as_corrections() -> None:
    with pytest.raises(InputError, match="exclude"):
        PlanRequest(path=Path("scan"), canal_points=AS_POINT, canal_corrections=AS_POINT)


def test_the_help_says_what_a_point_means_and_what_the_limit_refers_to(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--help"])
    text = " ".join(capsys.readouterr().out.split())

    for words in (
        "with --canal (auto or FILE) that canal is corrected to pass through it",
        "always the wall of the bony canal",
        "the limit stays that of the canal's wall",
    ):
        assert words in text
