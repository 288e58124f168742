"""``--engine tg43``: the formalism itself beside the water engine, and the second check on its tables."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iort_planner.cli.main import main
from iort_planner.dose import tg43
from iort_planner.errors import InputError
from iort_planner.planning import recompute
from iort_planner.planning.make import _as_read
from iort_planner.planning.output_of_day import OutputOfDay
from iort_planner.planning.plan import Plan
from iort_planner.source.tg43 import RadialInterpolation, Tg43Source, parse_tg43
from iort_planner.units import FloatArray, Quantity
from iort_planner.workflow import PlanRequest
from tests import planning_cases as cases
from tests.tg43_texts import BODY, HEAD, SHARED_TG43, consensus_text, tg43_text

SEED = parse_tg43(tg43_text())
AT = (12.0, 130.0)  # of the canal's point: mm from the source, degrees from the distal axis


def plan(source: Tg43Source = SEED, output: OutputOfDay | None = None, **prescription: Any) -> Plan:
    from tests.planning.test_dwell_and_dose import wall_at

    wall = wall_at((AT[1], AT[0]))
    return cases.plan(table=tg43.depth_dose_table(source), tg43=source, wall=wall, output=output, **prescription)


def test_it_says_what_the_formalism_gives_at_the_planned_points_in_the_planned_time() -> None:
    found = plan(depth_mm=10.0)
    engine = found.result.engines["tg43"]
    minutes = found.result.dwell_time_s / 60.0
    at_canal, at_depth = (
        float(tg43.dose_rate_at(SEED, Quantity(r, "mm"), Quantity(theta, "deg")).to("Gy/min").magnitude)
        for r, theta in (AT, (10.0, 90.0))
    )

    assert list(found.result.engines) == ["water", "tg43"]
    assert found.result.engine == "water"
    assert engine.canal_max_gy == pytest.approx(at_canal * minutes, rel=1e-9)
    assert engine.dose_at_prescription_gy == pytest.approx(at_depth * minutes, rel=1e-9)
    assert engine.dwell_time_for_limit_s == pytest.approx(60.0 * 8.0 / at_canal, rel=1e-9)
    assert engine.canal_max_gy == pytest.approx(found.result.canal_max_gy, rel=5e-4)
    assert engine.canal_max_gy_rbe == pytest.approx(1.3 * engine.canal_max_gy)


def test_the_output_of_the_day_counts_in_both_engines() -> None:
    usual, low = plan(), plan(output=cases.output(0.8))

    for name in ("water", "tg43"):
        ratio = low.result.engines[name].dwell_time_for_limit_s / usual.result.engines[name].dwell_time_for_limit_s
        assert ratio == pytest.approx(1 / 0.8)
    assert check(low) == "pass"


def check(found: Plan) -> str:
    return next(c.status for c in found.checks if c.id == "second-check")


def test_the_second_check_recomputes_both_engines_from_the_sources_own_tables() -> None:
    found = plan(depth_mm=10.0)
    compared = {name: value for name, value in found.second_check.differences_percent.items() if "TG-43" in name}

    assert set(compared) == {"canal dose, from the TG-43 tables", "prescribed dose, from the TG-43 tables"}
    assert all(value is not None and value < 0.05 for value in compared.values())
    assert check(found) == "pass"


@pytest.mark.parametrize(("factor", "status"), [(1.04, "warn"), (1.06, "fail")])
def test_a_wrong_strength_in_both_engines_is_seen_by_the_second_check(
    monkeypatch: pytest.MonkeyPatch, factor: float, status: str
) -> None:
    real = tg43._strength_u
    monkeypatch.setattr(tg43, "_strength_u", lambda source: factor * real(source))

    assert check(plan()) == status


@pytest.mark.parametrize("interpolation", list(RadialInterpolation))
@pytest.mark.parametrize("length_mm", [0.0, 3.0])
def test_the_second_checks_own_formalism_is_the_same_in_all_directions(
    interpolation: RadialInterpolation, length_mm: float
) -> None:
    source = dataclasses.replace(SEED, radial_interpolation=interpolation, active_length_mm=length_mm)
    own = _as_read(source)
    rng = np.random.default_rng(3)
    r, theta = rng.uniform(2.1, 50.0, 400), np.append(rng.uniform(0.0, 180.0, 398), [0.0, 180.0])
    rates = tg43.rate_cgy_per_h_u(source, r, theta) * HEAD_STRENGTH_U / 6000.0

    again = [recompute.tg43_gy_per_min(own, *point) for point in zip(r.tolist(), theta.tolist(), strict=True)]
    np.testing.assert_allclose(again, rates, rtol=1e-9)
    assert np.isnan(recompute.tg43_gy_per_min(own, 50.1, 90.0))


HEAD_STRENGTH_U = float(HEAD["air_kerma_strength_u"])


@pytest.mark.shared
def test_the_second_checks_own_formalism_reproduces_another_programs_points() -> None:
    """The reference of the 192Ir data: median under 0.1 %, 95 % within 1 % (it has a polynomial for g)."""
    source = parse_tg43(consensus_text("192ir_mhdr_v1.csv", radial_interpolation="linear"))
    r_cm, theta, reference = np.loadtxt(
        SHARED_TG43 / "192ir_reference_points.csv", delimiter=",", comments="#", skiprows=3, unpack=True
    )
    own = _as_read(source)
    scale = 6000.0 / HEAD_STRENGTH_U
    found = [scale * recompute.tg43_gy_per_min(own, 10 * r, t) for r, t in zip(r_cm, theta, strict=True)]
    off: FloatArray = np.abs(np.array(found) / reference - 1)

    assert len(off) == 150
    assert np.median(off) < 1e-3
    assert np.quantile(off, 0.95) < 1e-2


def table_file(folder: Path) -> Path:
    path = folder / "seed.csv"
    path.write_text("".join(f"# {key}: {value}\n" for key, value in HEAD.items()) + BODY, encoding="utf-8")
    return path


def doses(path: Path) -> FloatArray:
    return np.frombuffer(gzip.decompress(path.read_bytes())[352:], dtype="<f4").astype(np.float64)


def test_a_plan_folder_holds_both_grids(small_phantom: Path, tmp_path: Path) -> None:
    options = ["--source", str(table_file(tmp_path)), "--engine", "tg43", "--no-pictures", "--quiet"]
    status = main(["plan", str(small_phantom / "scan"), "--out", str(tmp_path / "plan"), *options])
    water, other = doses(tmp_path / "plan" / "dose.nii.gz"), doses(tmp_path / "plan" / "dose_tg43.nii.gz")
    both = np.isfinite(water) & np.isfinite(other)

    assert status == 0
    assert water.shape == other.shape
    assert np.count_nonzero(both) > 0.5 * np.count_nonzero(np.isfinite(water)) > 1e5
    np.testing.assert_allclose(water[both], other[both], rtol=5e-4)
    engines = json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))["result"]["engines"]
    assert list(engines) == ["water", "tg43"]


@pytest.mark.parametrize(
    ("with_file", "engine", "words"),
    [
        (False, "tg43", "--engine tg43 needs a TG-43 source"),
        (True, "water", "it is for the engine tg43 (--engine tg43)"),
    ],
)
def test_engine_and_kind_of_source_must_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, with_file: bool, engine: str, words: str
) -> None:
    source = ["--source", str(table_file(tmp_path))] if with_file else []
    status = main(["plan", str(tmp_path), "--out", str(tmp_path / "plan"), "--engine", engine, *source])
    error = capsys.readouterr().err

    assert status == 2
    assert words in error
    assert not (tmp_path / "plan").exists()


def test_a_script_that_asks_for_an_unknown_engine_is_told_which_there_are() -> None:
    with pytest.raises(InputError, match="water, tg43"):
        PlanRequest(path=Path("scan"), engine="pencil-beam")
