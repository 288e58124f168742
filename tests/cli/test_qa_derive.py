"""``qa derive``: a table made of others, from the command line to a file that reads back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from iort_planner.cli.main import main
from iort_planner.source.table_file import read_table
from tests.source.table_files import text

ROWS = "distance_mm,dose_rate_gy_per_min\n7.5,8.4\n10,3.9\n13,1.93\n20,0.6\n25,0.33\n"
FACTORS = "distance_mm,transfer_function\n5,0.9\n30,0.8\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["qa", "derive", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.csv"
    path.write_text(text(ROWS, applicator="none"), encoding="utf-8")
    return path


@pytest.fixture
def transfer(tmp_path: Path) -> Path:
    path = tmp_path / "tf.csv"
    path.write_text(text(FACTORS, kind="transfer-function", uncertainty="4 % (k=2)"), encoding="utf-8")
    return path


def test_bare_probe_times_transfer_function_on_another_scale_reads_back_with_its_history(
    capsys: pytest.CaptureFixture[str], bare: Path, transfer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "needle-v4.csv"
    status, printed, errors = run(capsys, bare, "--transfer", transfer, "--to-scale", "v4.0", "--out", out)
    made, before = read_table(out), read_table(bare)

    assert (status, errors) == (0, "")
    # ln factor over ln r between 5 and 30 mm; 1.43 and 1.16 are the published V4.0/TARGIT at the first and last row
    by_hand = 0.9 * (np.array([7.5, 25.0]) / 5.0) ** (np.log(0.8 / 0.9) / np.log(6.0)) * np.array([1.43, 1.16])
    ratio = made.dose_rate_gy_per_min / before.dose_rate_gy_per_min
    np.testing.assert_allclose(ratio[[0, -1]], by_hand, rtol=1e-9)
    assert (made.scale.value, made.derived, made.clinical, made.applicator) == ("v4.0", True, False, "needle")
    assert made.uncertainty_percent[0] == pytest.approx(np.hypot(20.0, 2.0))
    assert made.scale_uncertainty_percent == pytest.approx(5.1)
    assert any(before.sha256 in note for note in made.notes)
    assert "v4.0, was targit" in printed
    assert "nobody has accepted it" in printed
    assert "not a medical device" in printed


def test_with_nothing_else_a_spreadsheets_export_becomes_the_plain_form(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    export = tmp_path / "export.csv"
    rows = ROWS.replace(",", ";").replace(".", ",")
    export.write_bytes(b"\xef\xbb\xbf" + text(rows).encode())
    status, printed, _ = run(capsys, export, "--out", tmp_path / "plain.csv", "--json")
    document = json.loads(printed)

    assert status == 0
    assert document["findings"]
    np.testing.assert_array_equal(
        read_table(tmp_path / "plain.csv").dose_rate_gy_per_min, read_table(export).dose_rate_gy_per_min
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--conversion", "x.csv"], "say the scale too"),
        (["--to-scale", "targit"], "no conversion from targit to targit"),
        (["--transfer", "bare.csv"], "must be transfer-function here"),
        (["--transfer", "no.csv"], "cannot be read"),
        (["--to-scale", "v4.0", "--conversion", "cq.csv"], "leads to the scale cq"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    bare: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    head = "# kind: scale-conversion\n# reference_point: source-centre\n# from_scale: targit\n# to_scale: cq\n"
    more = "# uncertainty: 3 % (k=1)\n# clinical: no\n# origin: test\ndistance_mm,factor\n5,1.6\n30,1.2\n"
    (tmp_path / "cq.csv").write_text(head + more, encoding="utf-8")
    status, printed, errors = run(capsys, bare, "--out", "new.csv", *options)

    assert (status, printed) == (2, "")
    assert words in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "new.csv").exists()


def test_no_table_is_overwritten(capsys: pytest.CaptureFixture[str], bare: Path) -> None:
    before = bare.read_bytes()
    status, _, errors = run(capsys, bare, "--out", bare)

    assert status == 2
    assert "is there already" in errors
    assert bare.read_bytes() == before
