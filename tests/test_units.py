"""Gy and Gy(RBE) are different dimensions; times read well; importing the package stays light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pint
import pytest

from iort_planner.units import Quantity, format_time, magnitude_in, rbe_weighted, ureg


def test_physical_and_rbe_weighted_dose_never_mix() -> None:
    physical, weighted = Quantity(8.0, "Gy"), Quantity(10.4, "Gy_RBE")
    with pytest.raises(pint.DimensionalityError):
        physical + weighted
    with pytest.raises(pint.DimensionalityError):
        _ = physical < weighted
    with pytest.raises(pint.DimensionalityError):
        weighted.to("Gy")
    with pytest.raises(pint.DimensionalityError):
        weighted.to("Sv")


def test_rbe_weighted_dose_is_dose_times_rbe() -> None:
    assert rbe_weighted(Quantity(8.0, "Gy"), 1.3).to("Gy_RBE").magnitude == pytest.approx(10.4)
    with pytest.raises(pint.DimensionalityError):
        rbe_weighted(Quantity(10.4, "Gy_RBE"), 1.3)


def test_a_bare_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"distance needs a unit, e\.g\. Quantity"):
        magnitude_in(8.0, "mm", "distance")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("seconds", "text"), [(246.4, "4 min 06 s"), (59.6, "1 min 00 s"), (316, "5 min 16 s"), (0, "0 min 00 s")]
)
def test_time_reads_as_a_clinician_writes_it(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_there_is_one_registry() -> None:
    package = Path(__file__).resolve().parents[1] / "iort_planner"
    made = [path.name for path in package.rglob("*.py") if re.search(r"UnitRegistry\(", path.read_text("utf-8"))]

    assert made == ["units.py"]
    assert Quantity(1, "mm")._REGISTRY is ureg


def test_importing_the_package_and_help_load_neither_vtk_nor_simpleitk() -> None:
    code = (
        "import sys, iort_planner\n"
        "from iort_planner.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'vtk', 'vtkmodules', 'pyvista', 'SimpleITK', 'numpy', 'scipy', 'pydicom', 'matplotlib'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    for command in ("demo", "inspect", "plan", "view", "phantom"):
        assert f"    {command} " in done.stdout
    assert "not a medical device" in done.stdout


def test_public_names_are_those_listed_and_each_exists() -> None:
    import iort_planner

    for name in iort_planner.__all__:
        assert getattr(iort_planner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = iort_planner.nonsense
