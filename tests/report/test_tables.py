"""Words of the report that could mislead: sides, times, how the depth is meant."""

from __future__ import annotations

import dataclasses

import pytest

from iort_planner.cli.summary import summary
from iort_planner.planning.plan import Plan, PlanAcceptance, PlanCord, PlanCorrection, PlanOutput
from iort_planner.report import tables
from tests.plan_factory import example


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((12.34, -150.0, -430.06), "12.3 L, 150.0 A, 430.1 I mm"),
        ((-12.34, 150.0, 430.06), "12.3 R, 150.0 P, 430.1 S mm"),
        ((0.0, -0.04, 0.04), "0.0 L, 0.0 P, 0.0 S mm"),
    ],
)
def test_coordinates_carry_the_letter_of_their_side(point: tuple[float, float, float], words: str) -> None:
    assert tables.point_text(point).startswith(words)


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        ("2026-11-22T10:30:00+01:00", "2026-11-22 10:30 +01:00"),
        ("2026-11-22T10:30:00", "2026-11-22 10:30"),
        (None, "an unknown time"),
        ("yesterday", "yesterday"),
    ],
)
def test_times_for_people(stamp: str | None, words: str) -> None:
    assert tables.time_of(stamp) == words


@pytest.mark.parametrize(
    ("depth_from", "words"),
    [
        ("canal-limit", "(time set by the canal's limit)"),
        ("tip", "(asked for: 10.0 mm from the tip)"),
        ("surface", "(asked for: 10.0 mm from the surface)"),
    ],
)
def test_a_depth_is_never_given_without_its_origin(depth_from: str, words: str) -> None:
    plan = example()[0]
    prescription = dataclasses.replace(
        plan.prescription, depth_mm=10.0, depth_from=depth_from, depth_from_source_mm=13.0
    )
    rows = dict(tables.sections(dataclasses.replace(plan, prescription=prescription))[2][1])
    assert rows["prescription"].startswith("8 Gy | 10.4 Gy(RBE) at 13.0 mm from the source centre " + words)


def test_a_shaft_in_the_canal_is_called_that() -> None:
    plan = example()[0]
    canal = dataclasses.replace(plan.canal, shaft_clearance_mm=-0.4)
    tile = next(t for t in tables.headline(dataclasses.replace(plan, canal=canal)) if t[0] == "Shaft to canal")
    assert "stands in the canal" in tile[2]
    tile = next(t for t in tables.headline(plan) if t[0] == "Shaft to canal")
    assert "stands in" not in tile[2]


def example_with_everything() -> Plan:
    """A corrected canal, a cord and a second needle."""
    plan = example()[0]
    needle = plan.needles[0]
    (x, y, z), (u, v, w) = needle.tip_lps_mm, needle.source_lps_mm
    second = dataclasses.replace(needle, label="2", tip_lps_mm=(x + 8.0, y, z), source_lps_mm=(u + 8.0, v, w))
    nearest = plan.canal.nearest_point_lps_mm
    canal = dataclasses.replace(
        plan.canal,
        corrections=(PlanCorrection(point_lps_mm=nearest, moved_mm=1.26),),
        uncorrected_distance_from_source_mm=12.34,
    )
    cord = PlanCord(
        file="rs.dcm",
        sha256="ab" * 32,
        max_dose_point_lps_mm=nearest,
        structure="2 SpinalCord",
        distance_from_source_mm=14.25,
        distance_from_tip_mm=16.75,
        nearest_point_lps_mm=nearest,
        max_dose_gy=4.2,
        max_dose_gy_rbe=5.46,
        notes=("12.0 % of it lies outside the image",),
    )
    return dataclasses.replace(plan, needles=(needle, second), canal=canal, cord=cord)


def test_the_first_page_names_what_the_limit_refers_to_and_whatever_else_was_given_or_seen() -> None:
    assert [name for name, _ in tables.named(example()[0])] == [
        "The limit refers to",
        "Way to the canal",
        "Table, output",
    ]
    rows = dict(tables.named(example_with_everything()))

    assert rows["The limit refers to"] == "bony canal wall (found automatically)"
    assert rows["Canal corrected"] == "by hand at 1 wall point(s); before that 12.3 mm from the source centre"
    assert rows["Cord or sac"].startswith("14.2 mm from the source centre, at most 4.2 Gy | 5.5 Gy(RBE)")
    assert "metal in the way, no dwell in it" in rows["Needle 2"]


def test_the_second_page_has_every_end_point_and_where_a_cord_came_from() -> None:
    plan = example_with_everything()
    text = "\n".join(f"{name}: {value}" for name, value in tables.sections(plan)[1][1])

    for part in (plan.canal.segments.tip, plan.canal.segments.surface, plan.canal.segments.shaft):
        ends = [", ".join(f"{value:.2f}" for value in end) for end in (part.from_lps_mm, part.to_lps_mm)]
        assert f"{part.length_mm:.1f} mm, from LPS {ends[0]} to {ends[1]}" in text
    for words in ("rs.dcm, 2 SpinalCord; 12.0 % of it lies outside", "ab" * 32, "the wall lay 1.3 mm away", "needle 2"):
        assert words in text


def test_the_summary_names_cord_correction_and_second_needle_in_one_line_each() -> None:
    lines = summary(example_with_everything()).splitlines()

    for start in ("cord or sac          14.2 mm from", "canal, corrected     by hand", "needle 2             tip LPS"):
        assert sum(line.startswith(start) for line in lines) == 1
    assert max(len(line) for line in lines) <= 132


def signed_and_measured() -> Plan:
    plan = example()[0]
    source = dataclasses.replace(
        plan.source,
        acceptance=PlanAcceptance(
            state="accepted",
            sha256=plan.source.table_sha256,
            by="A. Physicist",
            accepted_on="2026-11-01T08:00:00+01:00",
            until="2027-10-31",
            notes=("record acceptances.jsonl, line 3: cut off, as by a crash; left out",),
        ),
        output=PlanOutput(
            ratio=0.95, date="2026-11-22", temperature_c=24.0, pressure_hpa=980.0, corrected_ratio=0.9956
        ),
    )
    return dataclasses.replace(plan, source=source)


def test_acceptance_output_and_second_check_stand_on_both_pages_and_in_the_summary() -> None:
    plan = signed_and_measured()
    acceptance = "accepted by A. Physicist on 2026-11-01, until 2027-10-31"
    output = "0.996 of the table, measured on 2026-11-22 (reading 0.950, air density at 24 °C and 980 hPa)"
    second = "largest difference 0.11 % (canal dose) of 2 numbers recomputed by other code"
    first_page, text = dict(tables.named(plan)), summary(plan)
    rows = {name: value for _, section in tables.sections(plan) for name, value in section}

    assert first_page["Table, output"] == f"{acceptance}; output 0.996 (2026-11-22); second check within 0.11 %"
    assert rows["its acceptance"].startswith(f"{acceptance}; record acceptances.jsonl, line 3: cut off")
    assert rows["output of the day"] == output
    assert rows["second check"] == f"{second}; warns above 3 %, fails above 5 %"
    for label, words in (("its acceptance", acceptance), ("output of the day", output), ("second check", second)):
        assert f"{label:<20} {words}" in text
    assert max(len(line) for line in text.splitlines()) <= 132


@pytest.mark.parametrize(
    ("differences", "short"),
    [({}, "could not be made"), ({"canal dose": None, "dwell time": 0.1}, "found what is no number")],
)
def test_a_second_check_without_a_number_never_reads_like_a_small_difference(
    differences: dict[str, float | None], short: str
) -> None:
    plan = example()[0]
    second = dataclasses.replace(plan.second_check, differences_percent=differences)

    assert (
        f"second check {short}" in dict(tables.named(dataclasses.replace(plan, second_check=second)))["Table, output"]
    )
    assert "0.1" not in second.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("expired", "acceptance is over: by A. Physicist on 2026-11-01, until 2027-10-31"),
        ("changed", "changed since it was accepted by A. Physicist"),
        ("never", "accepted by nobody"),
        ("unreadable", "the record of acceptances cannot be used"),
    ],
)
def test_no_other_state_reads_like_an_acceptance(state: str, words: str) -> None:
    source = signed_and_measured().source
    assert source.acceptance is not None
    stands = dataclasses.replace(source, acceptance=dataclasses.replace(source.acceptance, state=state))

    assert words in stands.acceptance_text
    assert not stands.acceptance_text.startswith("accepted by A.")
