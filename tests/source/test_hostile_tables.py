"""Whatever stands in a file, reading it ends in a value, findings or one named error."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner.applicator import read_applicator
from iort_planner.errors import DepthDoseTableError
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.source.table_file import examine_bytes
from tests.source.table_files import ROWS, text
from tests.tg43_texts import BODY
from tests.tg43_texts import HEAD as TG43_HEAD

APPLICATOR = read_applicator()
POLAR = "theta_deg,r5mm,r10mm\n0,0.5,0.6\n90,1,1\n180,0.2,0.3\n"
SEEDS = [
    text(ROWS + POLAR, trusted_range_mm="5 8", scale_uncertainty="5 % (k=1)"),
    text(ROWS, reference_point="tip").replace(",", ";").replace(".", ","),
    text("distance_mm,transfer_function,uncertainty_percent\nmm,-,%\n3,0.9,2\n5,0.95,2\n", kind="transfer-function"),
    "".join(f"# {key}: {value}\n" for key, value in TG43_HEAD.items()) + BODY,
]
FRAGMENTS = st.sampled_from(
    [
        "",
        ",",
        ";",
        "\t",
        '"',
        "#",
        ":",
        ".",
        "-",
        "e9",
        "1e400",
        "nan",
        "\n",
        "\r",
        "\ufeff",
        "\u2028",
        "0",
        "1,234",
        "theta_deg",
        "section",
    ]
)


def ends_well(data: bytes) -> None:
    with contextlib.suppress(DepthDoseTableError):
        found = examine_bytes("t.csv", data, APPLICATOR)
        bad = any(finding.status == "fail" for finding in found.findings)
        assert (found.table is None) == bad
        if isinstance(found.table, DepthDoseTable):
            assert np.all(np.diff(found.table.dose_rate_gy_per_min) < 0)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    ends_well(data)


@settings(max_examples=600)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), FRAGMENTS), min_size=1, max_size=4)
)
def test_changed_tables(seed: str, changes: list[tuple[float, int, str]]) -> None:
    for where, length, fragment in changes:
        at = int(where * len(seed))
        seed = seed[:at] + fragment + seed[at + length :]
    ends_well(seed.encode("utf-8"))
