"""The report: what it must say, on which page, and that nothing runs out of the page."""

from __future__ import annotations

import dataclasses
import functools
import io
import re

import pytest
from PIL import Image
from pypdf import PdfReader
from reportlab.pdfbase import pdfmetrics

from iort_planner.planning.plan import Check, Plan
from iort_planner.report.pdf import write_pdf
from tests.plan_factory import example

A4_WIDTH_PT = 595.0


def picture(width: int, height: int, colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return buffer.getvalue()


SLICES, SCENE = picture(1961, 1017, "navy"), picture(1200, 900, "grey")


def pages_of(plan: Plan, scene: bytes | None = SCENE) -> list[str]:
    reader = PdfReader(io.BytesIO(write_pdf(plan, SLICES, scene)))
    return [" ".join(page.extract_text().split()) for page in reader.pages]


@functools.cache
def usual_pages() -> list[str]:
    return pages_of(example()[0])


def joined(text: str) -> str:
    """Text without any white space: long words are wrapped."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    "words",
    [
        "WARN: 2 checks warn",
        "2 min 38 s",
        "8.0 Gy",
        "10.3 Gy(RBE); limit 8 Gy | 10.4 Gy(RBE)",
        "11.1 mm",
        "13.7 mm",
        "Radius of 8 Gy 10.9 mm",
        "more than 245 Gy",
        "3.8 to 12 Gy",
        "EXAMPLE-0001",
        "needle applicator 4.4 mm (reference), tip to source 3.0 mm",
        "10.9 mm: 8 Gy | 10.4 Gy(RBE) (prescription = limit)",
    ],
)
def test_page_one_answers_at_a_glance(words: str) -> None:
    assert words in usual_pages()[0]


def test_page_one_holds_every_failing_and_warning_check_in_words_and_the_failing_first() -> None:
    plan = example()[0].with_checks(Check(id="canal-over-limit", status="fail", message="canal 9.1 Gy is over 8 Gy"))
    page = joined(pages_of(plan)[0])
    for check in plan.checks:
        assert (joined(check.message) in page) == (check.status != "pass")
    assert page.index("canal9.1Gyisover8Gy") < page.index("thelimitof8Gylies")
    assert "FAIL:1checkfails,2checkswarn" in page


def test_both_pictures_are_on_page_one() -> None:
    reader = PdfReader(io.BytesIO(write_pdf(example()[0], SLICES, SCENE)))
    assert [(i.image.width, i.image.height) for i in reader.pages[0].images if i.image is not None] == [
        (1961, 1017),
        (1200, 900),
    ]


def test_without_a_renderer_the_report_says_what_is_missing() -> None:
    page = pages_of(example()[0], None)[0]
    assert "No 3-D picture" in page
    for words in ("3.8 to 12 Gy", "tip to source 3.0 mm"):
        assert words in page
    assert "No 3-D picture" not in usual_pages()[0]


def test_later_pages_hold_every_input_with_its_hash_and_origin() -> None:
    plan = example()[0]
    text = joined(" ".join(usual_pages()[1:]))
    for value in (
        plan.image.sha256,
        plan.image.series_uid,
        plan.image.path,
        plan.source.table_sha256,
        plan.source.applicator_sha256,
        plan.source.table_origin,
        plan.source.applicator_origin,
        plan.result.biology.rbe_source,
        "auto, high",
        "NOT for clinical use",
        "14.0 L, 147.0 A, 429.0 I mm",
        "12.8 L, 136.0 A, 429.0 I mm",
        "scale other",
        "uncertainty at most 20 % (k=1)",
        "isotropy assumed 10 %",
        "tip to source centre 3 mm",
        *(check.message for check in plan.checks),
    ):
        assert joined(value) in text, value


def test_every_page_states_intended_use_version_and_its_number() -> None:
    plan = example()[0].with_checks(
        *(Check(id=f"extra-{n}", status="warn", message="a long sentence " * 8) for n in range(40))
    )
    for pages in (usual_pages(), pages_of(plan)):
        assert len(pages) > 1
        for number, page in enumerate(pages, start=1):
            assert "not a medical device; not for treating patients" in page
            assert "iort-planner 0.1.0" in page
            assert f"page {number} of {len(pages)}" in page


def test_same_plan_same_bytes() -> None:
    plan = example()[0]
    assert write_pdf(plan, SLICES, SCENE) == write_pdf(plan, SLICES, SCENE)


def test_umlauts_and_markup_are_taken_literally() -> None:
    plan = example()[0]
    plan = dataclasses.replace(plan, patient=dataclasses.replace(plan.patient, id="Müßig <b>&amp; Søn µ"))
    assert joined("Müßig <b>&amp; Søn µ") in joined(pages_of(plan)[0])


def test_a_surface_dose_that_the_table_gives_is_printed_as_it_is() -> None:
    plan = example()[0]
    result = dataclasses.replace(plan.result, applicator_surface_gy=321.4)
    page = pages_of(dataclasses.replace(plan, result=result))[0]
    assert "321 Gy" in page
    assert "more than" not in page


def test_a_radius_outside_the_table_is_said_and_not_left_out() -> None:
    plan = example()[0]
    result = dataclasses.replace(plan.result, isodose_radius_mm={"8": None, "4": 14.62})
    prescription = dataclasses.replace(plan.prescription, depth_mm=None, depth_from_source_mm=None)
    pages = pages_of(dataclasses.replace(plan, result=result, prescription=prescription))
    assert "Radius of 8 Gy outside the table" in pages[0]
    assert "8 Gy | 10.4 Gy(RBE): no such dose inside the table" in pages[1]


def right_ends_and_text(plan: Plan) -> tuple[list[float], str]:
    """Where the printed lines end, points from the left edge, and all text without white space."""
    reader = PdfReader(io.BytesIO(write_pdf(plan, SLICES, SCENE)))
    ends: list[float] = []

    def visit(text: str, user: list[float], matrix: list[float], font: dict[str, str] | None, size: float) -> None:
        if font is None or not text.strip():
            return
        name = "IortSans-Bold" if "Bold" in font["/BaseFont"] else "IortSans"
        width = max(pdfmetrics.stringWidth(line, name, size) for line in text.splitlines())
        start = matrix[4] * user[0] + user[4]  # nothing is turned
        ends.append(start + width * abs(matrix[0] * user[0]))

    return ends, joined("".join(page.extract_text(visitor_text=visit) for page in reader.pages))


def test_nothing_leaves_the_page_of_a_usual_plan() -> None:
    for plan in (example()[0], dataclasses.replace(example()[0], checks=example()[0].checks * 6)):
        ends, _ = right_ends_and_text(plan)
        assert len(ends) > 100
        assert A4_WIDTH_PT / 2.0 < max(ends) < A4_WIDTH_PT - 36.0


def test_long_words_wrap_and_nothing_leaves_the_page() -> None:
    plan, word = example()[0], "X" * 300
    plan = dataclasses.replace(
        plan,
        patient=dataclasses.replace(plan.patient, id=word),
        image=dataclasses.replace(plan.image, path="/" + "folder" * 60, series_uid="1." * 60),
        source=dataclasses.replace(plan.source, table_origin=word * 3),
        canal=dataclasses.replace(plan.canal, structure=word[:80]),
        checks=(Check(id="i" * 80, status="warn", message=word * 2),),
    )
    right_ends, text = right_ends_and_text(plan)
    assert text.count("X") >= 300 + 900 + 80 + 2 * 600
    assert len(right_ends) > 100
    assert max(right_ends) < A4_WIDTH_PT - 36.0


def test_an_origin_longer_than_a_page_is_printed_whole() -> None:
    plan = example()[0]
    text = "origin " * 3000 + "end-of-the-origin"
    plan = dataclasses.replace(plan, source=dataclasses.replace(plan.source, table_origin=text))
    plan = plan.with_checks(Check(id="long", status="warn", message="message " * 2000 + "end-of-the-message"))
    pages = joined(" ".join(pages_of(plan)))
    assert "end-of-the-origin" in pages
    assert pages.count("end-of-the-message") == 2
