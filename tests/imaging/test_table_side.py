"""The table is found where it is, in every position and orientation; and never where none is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from iort_planner.imaging.table_side import table_contradiction, table_side
from iort_planner.imaging.volume import ImageGrid, Volume

sitk: Any = SimpleITK
Array = npt.NDArray[np.float64]
DOWN = {"S": (0.0, 1.0), "P": (0.0, -1.0), "DR": (-1.0, 0.0), "DL": (1.0, 0.0)}
SIDE = {"S": "posterior", "P": "anterior", "DR": "right", "DL": "left"}
POSITIONS = [end + lie for end in ("HF", "FF") for lie in DOWN]


@dataclass(frozen=True, kw_only=True)
class Room:
    """A patient and what is round it; lengths in mm, in a frame where ``down`` is towards the table."""

    table: str = "flat"  # flat, curved, sandwich, none
    lie: str = "S"
    half_width: float = 165.0
    half_depth: float = 105.0
    gap: float = 12.0  # between skin and table: a foam mattress
    shell: float = 1.5
    shell_hu: float = 100.0
    radius: float = 380.0
    arms: bool = True
    lungs: bool = True
    drape_wave: float | None = None  # mm by which a sheet over the patient moves along it
    wires: int = 0
    gel: bool = False
    noise: float = 15.0
    seed: int = 0

    def paint(self, points: Array) -> npt.NDArray[np.int16]:
        """HU at patient points (..., 3)."""
        dx, dy = DOWN[self.lie]
        # the body's own long side lies along the table but in decubitus, where the patient stands on edge
        down = points[..., 0] * dx + points[..., 1] * dy
        side = points[..., 0] * -dy + points[..., 1] * dx
        z = points[..., 2]
        wide, deep = (self.half_width, self.half_depth) if self.lie in "SP" else (self.half_depth, self.half_width)
        hu = np.full(down.shape, -1000.0)

        def over(distance: Array, value: float) -> None:
            nonlocal hu
            hu += np.clip(0.5 - distance / 1.4, 0.0, 1.0) * (value - hu)

        def ellipse(s: float, d: float, a: float, b: float) -> Array:
            r = np.hypot((side - s) / a, (down - d) / b)
            return np.asarray((r - 1.0) * min(a, b))

        over(ellipse(0, 0, wide, deep), -100.0)
        over(ellipse(0, 0, wide - 14, deep - 14), 50.0)
        if self.lungs:
            over(ellipse(0.5 * wide, -0.1 * deep, 0.3 * wide, 0.6 * deep), -830.0)
            over(ellipse(-0.5 * wide, -0.1 * deep, 0.3 * wide, 0.6 * deep), -830.0)
        over(ellipse(0, 0.55 * deep, 20, 18), 300.0)
        if self.arms:
            over(ellipse(wide + 38, 0.3 * deep, 28, 28), 40.0)
            over(ellipse(-wide - 38, 0.2 * deep, 28, 28), 40.0)
        if self.gel:
            over(np.maximum(np.abs(down - deep - 15) - 15, np.abs(side) - 60), 60.0)
        top = deep + self.gap - (side**2 / (2 * self.radius) if self.table == "curved" else 0.0)
        half = 190.0

        def plate(at: Any) -> Any:
            return np.maximum(np.abs(down - at) - self.shell / 2, np.abs(side) - half)

        if self.table != "none":
            over(np.maximum(np.abs(down - top - 20) - 20, np.abs(side) - half), -920.0)
            over(plate(top), self.shell_hu)
        if self.table == "sandwich":
            over(plate(top + 40), self.shell_hu)
        rng = np.random.default_rng(self.seed)
        for _ in range(self.wires):
            s, d, lean = rng.uniform(-150, 150), rng.uniform(-1.4, -1.1) * deep, rng.uniform(-0.5, 0.5)
            over(np.hypot(side - s - lean * z, down - d) - 2.0, 2000.0)
        if self.drape_wave is not None:
            lift = self.drape_wave * np.sin(z / 9.0 + side / 40.0)
            over(np.abs(down + deep + 12 + lift - side**2 / 900) - 1.5, -300.0)
        hu += rng.normal(0.0, self.noise, hu.shape)
        result: npt.NDArray[np.int16] = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
        return result


def rotation(*degrees: float) -> Array:
    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def grid(
    turn: Array | None = None, *, field: tuple[float, float, float] = (480.0, 400.0, 40.0), spacing: float = 1.7
) -> ImageGrid:
    """A grid round the patient's centre with slices of 4 mm; ``turn`` gives its axes."""
    direction = np.eye(3) if turn is None else turn
    steps = np.array([spacing, spacing * 1.1, 4.0])
    size = np.ceil(np.array(field) / steps).astype(int)
    return ImageGrid(
        size_voxels=(int(size[0]), int(size[1]), int(size[2])),
        spacing_mm=steps,
        origin_lps_mm=-direction @ ((size - 1) / 2 * steps),
        direction=direction,
    )


def scan(room: Room, where: ImageGrid) -> Volume:
    return Volume(values=room.paint(where.voxel_centres_lps_mm()), grid=where, hu_calibrated=True)


# Rows as a scanner writes them: down the table in each position, so that the table is at the picture's bottom.
PICTURE = {"S": rotation(0, 0, 0), "P": rotation(0, 0, 180), "DR": rotation(0, 0, 90), "DL": rotation(0, 0, -90)}


@pytest.mark.parametrize("lie", DOWN)
@pytest.mark.parametrize("table", ["flat", "curved", "sandwich"])
def test_the_table_is_found_in_all_eight_positions(lie: str, table: str) -> None:
    """Head first or feet first makes no difference to the image, only to the label."""
    volume = scan(Room(lie=lie, table=table), grid(PICTURE[lie]))
    found = table_side(volume)
    assert found is not None
    assert found.direction_lps.tolist() == [*DOWN[lie], 0.0]
    assert found.name == SIDE[lie]
    assert "mm wide" in found.evidence
    for label in POSITIONS:
        message = table_contradiction(volume, label)
        assert (message is None) == (label[2:] == lie)
        assert message is None or (f"patient's {SIDE[lie]} side" in message and f"{label} puts it on" in message)


@pytest.mark.parametrize(
    "turn",
    [
        rotation(12, 0, 0),
        rotation(0, -14, 8),
        rotation(10, 9, -25),
        rotation(90, 0, 0),
        rotation(0, 90, 90),
        -np.eye(3),
    ],
    ids=["gantry", "two", "three", "coronal", "sagittal", "mirrored"],
)
@pytest.mark.parametrize("lie", DOWN)
def test_the_images_own_orientation_does_not_matter(turn: Array, lie: str) -> None:
    field = (420.0, 400.0, 64.0)
    if np.abs(turn[2, 2]) < 0.5:  # coronal, sagittal: slices side by side
        along = np.argmax(np.abs(turn[2]))
        field = (64.0, 420.0, 420.0) if along == 0 else (420.0, 64.0, 420.0)
    where = grid(turn, field=field, spacing=1.7)
    found = table_side(
        scan(Room(lie=lie, table="curved", shell=2.2, arms=False, half_width=140.0, half_depth=100.0, gap=10.0), where)
    )
    # slices of 4 mm across the table blur its shell away: then no answer, never a wrong one
    assert found is None or found.name == SIDE[lie]
    assert found is not None or np.abs(turn[2, 2]) < 0.5


@pytest.mark.parametrize(
    "room",
    [
        Room(gap=4.0, table="sandwich"),
        Room(gel=True, gap=32.0),
        Room(drape_wave=8.0, wires=4),
        Room(noise=40.0),
        Room(shell_hu=-300.0, shell=2.5),
        Room(half_width=215.0, half_depth=120.0, arms=False),
        Room(table="curved", radius=260.0, half_width=150.0),
    ],
    ids=["thin mattress", "gel", "drape and wires", "noise", "faint shell", "large", "cradle"],
)
def test_what_lies_round_the_patient_does_not_hide_the_table(room: Room) -> None:
    found = table_side(scan(room, grid(field=(480.0, 440.0, 40.0))))
    assert found is not None
    assert found.name == "posterior"


def random_room(rng: np.random.Generator) -> tuple[Room, ImageGrid]:
    """No table: body, arms, drape, wires, cushion at random, in a grid of any place, turn and field."""
    room = Room(
        table="none",
        lie=str(rng.choice(list(DOWN))),
        half_width=rng.uniform(110, 210),
        half_depth=rng.uniform(75, 130),
        arms=bool(rng.random() < 0.6),
        lungs=bool(rng.random() < 0.7),
        drape_wave=rng.uniform(3, 12) if rng.random() < 0.5 else None,
        wires=int(rng.integers(0, 6)),
        gel=bool(rng.random() < 0.3),
        noise=rng.uniform(5, 60),
        seed=int(rng.integers(1_000_000)),
    )
    turn = rotation(*rng.uniform(-20, 20, 3)) if rng.random() < 0.5 else PICTURE[room.lie]
    field = (rng.uniform(120, 480), rng.uniform(120, 480), rng.uniform(25, 80))
    where = grid(turn, field=field, spacing=2.2)
    return room, replace(where, origin_lps_mm=where.origin_lps_mm + rng.uniform(-90, 90, 3))


def test_no_table_is_ever_made_up() -> None:
    rng = np.random.default_rng(20)
    for _ in range(40):
        room, where = random_room(rng)
        assert table_side(scan(room, where)) is None, (room, where)


def test_a_chest_wall_cut_by_the_images_edge_is_no_table() -> None:
    room = Room(table="none", lie="DR", half_width=160.0, half_depth=150.0, arms=False)
    for cut in (-2.0, 4.0, 10.0, 16.0):
        where = grid(field=(300.0 - 2 * cut, 300.0, 60.0), spacing=2.0)
        assert table_side(scan(room, where)) is None


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_cut_field_finds_the_table_or_nothing(share: float) -> None:
    rng = np.random.default_rng(int(10 * share))
    for lie in DOWN:
        where = grid(PICTURE[lie], field=(480 * share, 400 * share, 60.0))
        moved = replace(where, origin_lps_mm=where.origin_lps_mm + 40 * np.array([*DOWN[lie], 0.0]))
        found = table_side(scan(Room(lie=lie, table="sandwich", seed=int(rng.integers(99))), moved))
        assert found is None or found.name == SIDE[lie]


def test_two_sheets_on_two_sides_are_no_answer() -> None:
    where = grid(field=(420.0, 460.0, 60.0))
    one, other = (Room(lie=lie, noise=0.0, arms=False).paint(where.voxel_centres_lps_mm()) for lie in "SP")
    assert table_side(Volume(values=np.maximum(one, other), grid=where, hu_calibrated=True)) is None


def test_no_answer_without_hu_length_or_body() -> None:
    volume = scan(Room(), grid())
    assert table_side(volume) is not None
    assert table_side(replace(volume, hu_calibrated=False)) is None
    assert table_side(volume.crop((0, 0, 0), (volume.grid.size_voxels[0], volume.grid.size_voxels[1], 4))) is None
    air = np.full(volume.values.shape, -1000, np.int16)
    assert table_side(replace(volume, values=air)) is None
    only_table = np.where(volume.grid.voxel_centres_lps_mm()[..., 1] < 110, -1000, volume.values).astype(np.int16)
    assert table_side(replace(volume, values=only_table)) is None


@pytest.mark.parametrize("label", ["", "HFX", "SITTING", "hfs", "XXS", "HF"])
def test_an_unknown_position_contradicts_nothing(label: str) -> None:
    assert table_contradiction(scan(Room(lie="P"), grid(PICTURE["P"])), label) is None


# --- real scans ---


def read(path: Path) -> Volume:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    image = reader.Execute()
    return Volume(
        values=sitk.GetArrayFromImage(image).astype(np.int16),
        grid=ImageGrid(
            size_voxels=image.GetSize(),
            spacing_mm=np.array(image.GetSpacing()),
            origin_lps_mm=np.array(image.GetOrigin()),
            direction=np.array(image.GetDirection()).reshape(3, 3),
        ),
        hu_calibrated=True,
    )


REAL = {
    "lidc0314_lower_thoracic_1mm": "posterior",  # FFS; looked at: a cradle of two shells, cut by the field of view
    "crlm1006_lumbar_5mm": "posterior",  # FFS; one shell
    "totalseg_t11_t12_j2k": "posterior",  # two shells, arms, a blanket over the patient
    "lidc0314_ct_needle_screws_streaks": None,  # its couch was taken out of the projections
}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_tables_are_on_the_back_of_supine_patients(shared_data: Path, name: str) -> None:
    volume = read(shared_data / name / "ct")
    found = table_side(volume)
    assert (found.name if found else None) == REAL[name]
    for position in POSITIONS:
        warned = table_contradiction(volume, position) is not None
        assert warned == (REAL[name] is not None and position[2:] != "S")
    # cut and turned: the same side of the patient, or no answer
    rng = np.random.default_rng(3)
    for _ in range(5):
        low = (rng.uniform(0, 0.3, 3) * volume.grid.size_voxels).astype(int)
        high = ((1 - rng.uniform(0, 0.3, 3)) * volume.grid.size_voxels).astype(int)
        part = volume.crop((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))
        side = table_side(part)
        assert side is None or side.name == REAL[name]
