"""Typical sizes of the vertebrae T3 to L5, to set a phantom's sections from.

Body, pedicles and canal are means of Panjabi et al. 1991 (thoracic, Spine 16:888) and 1992 (lumbar, Spine 17:299): width
and depth of the endplates (mean of the upper and the lower one), posterior height, canal at the pedicles. They are
rounded to half a millimetre and were written down from memory, not compared with the papers: right for drawing
a vertebra of that level, no reference for anatomy. Where the table below marks a column so, the numbers are between
published ones or our own choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iort_planner.errors import PhantomError

if TYPE_CHECKING:
    from iort_planner.phantom.spec_model import PhantomSpec

_EPIDURAL_MM = (
    3.0  # of both width and depth: the dural sac at T5 and T9 is 14.3 by 12.3 and 13.9 by 11.6 mm (below: cord)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSizes:
    """What a vertebra and its surroundings measure on the average.

    Parameters
    ----------
    level : str
        ``T3`` to ``L5``.
    body_width_mm, body_depth_mm, body_height_mm, disc_height_mm, pedicle_width_mm, pedicle_height_mm : float
    canal_width_mm, canal_depth_mm, sac_width_mm, sac_depth_mm : float
    cord_width_mm, cord_depth_mm : float
        0 where there is no cord.
    ribs : bool
    transverse_mm, spinous_mm, spinous_drop_mm : float
        Lengths of these processes and the slope of the latter, as in a phantom's ``[vertebra]``.
    kyphosis_radius_mm : float
        Of the spine's curve there; negative for lordosis.
    back_mm : float
        From the canal's centre to the skin of the back.
    """

    level: str
    body_width_mm: float
    body_depth_mm: float
    body_height_mm: float
    disc_height_mm: float
    pedicle_width_mm: float
    pedicle_height_mm: float
    canal_width_mm: float
    canal_depth_mm: float
    sac_width_mm: float
    sac_depth_mm: float
    cord_width_mm: float
    cord_depth_mm: float
    ribs: bool
    transverse_mm: float
    spinous_mm: float
    spinous_drop_mm: float
    kyphosis_radius_mm: float
    back_mm: float

    @property
    def has_cord(self) -> bool:
        """Whether the canal holds the cord here."""
        return self.cord_width_mm > 0.0


# Columns: body width, depth, posterior height | disc below | pedicle width, height | canal width, depth | cord width,
# depth | transverse and spinous process, slope of the latter | radius of the curve | skin of the back.
# Panjabi: body, pedicle, canal; pedicles of T3 to T7 at no less than 5.5 mm (means are 4.5 to 6), the narrowest ones
# that a needle's cannula can pass, of L5 at 16 instead of 18, which leaves the body its shape. Discs: thoracic between
# 2.7 mm (T4/T5) and 5.4 mm (T10/T11) (Fletcher et al. 2015, Eur Spine J, doi:10.1007/s00586-015-3925-y), the others
# interpolated; lumbar of the usual order, our own choice. Cord: 7.9 by 6.1 mm at T5 and 7.3 by 6.3 mm at T9 (CT myelography,
# Keimyung Med J 1988, 7:236), rounded, interpolated, wider at its lumbar enlargement; it ends at L1/L2 on the average
# (Saifuddin et al. 1998, Spine 23:1452). Processes, curve and back: our own choice; the radii follow from a kyphosis of
# about 40 degrees over T4-T12 (230 mm) and a lordosis of about 45 degrees over L1-L5 (180 mm), flat between.
_TABLE: dict[str, tuple[float, ...]] = {
    "T3": (25.5, 23.0, 15.5, 3.5, 6.5, 12.0, 18.5, 16.0, 9.0, 6.5, 15.0, 19.0, 14.0, 450.0, 46.0),
    "T4": (25.5, 24.0, 16.0, 3.0, 6.0, 12.0, 17.0, 16.0, 8.5, 6.5, 15.0, 20.0, 16.0, 350.0, 45.0),
    "T5": (26.0, 25.0, 16.0, 3.0, 5.5, 12.0, 17.5, 16.0, 8.0, 6.0, 15.0, 20.0, 18.0, 320.0, 44.0),
    "T6": (27.0, 26.5, 17.5, 3.5, 5.5, 12.0, 17.5, 16.0, 8.0, 6.0, 15.0, 20.0, 18.0, 300.0, 43.0),
    "T7": (28.5, 28.0, 18.0, 4.0, 6.0, 12.0, 17.5, 16.0, 8.0, 6.0, 15.5, 20.0, 18.0, 300.0, 42.0),
    "T8": (30.0, 28.5, 18.5, 4.5, 6.5, 12.5, 17.5, 15.5, 8.0, 6.0, 16.0, 19.0, 17.0, 300.0, 42.0),
    "T9": (32.0, 30.0, 19.5, 5.0, 7.5, 14.0, 18.0, 15.5, 8.0, 6.5, 16.0, 18.0, 15.0, 320.0, 42.0),
    "T10": (33.5, 31.0, 20.0, 5.0, 8.5, 15.0, 18.0, 15.5, 8.5, 6.5, 16.0, 17.0, 13.0, 400.0, 43.0),
    "T11": (37.0, 32.0, 21.5, 5.5, 9.0, 17.0, 19.5, 16.0, 9.0, 7.0, 14.0, 17.0, 10.0, 700.0, 45.0),
    "T12": (40.5, 33.0, 22.5, 6.5, 9.0, 16.5, 22.0, 18.0, 9.5, 7.5, 12.0, 18.0, 7.0, 3000.0, 46.0),
    "L1": (42.5, 34.5, 24.0, 8.0, 8.5, 16.0, 23.5, 19.0, 9.0, 7.5, 18.0, 20.0, 4.0, -1500.0, 47.0),
    "L2": (44.0, 35.0, 24.5, 9.0, 8.5, 15.0, 24.0, 18.0, 0.0, 0.0, 21.0, 21.0, 3.0, -400.0, 48.0),
    "L3": (46.0, 35.0, 24.0, 10.0, 10.0, 14.5, 24.5, 17.5, 0.0, 0.0, 23.0, 21.0, 3.0, -250.0, 50.0),
    "L4": (48.0, 34.5, 24.0, 11.0, 14.0, 15.5, 25.5, 18.5, 0.0, 0.0, 19.0, 20.0, 3.0, -180.0, 52.0),
    "L5": (48.5, 34.0, 23.0, 10.0, 16.0, 19.5, 27.0, 19.5, 0.0, 0.0, 16.0, 16.0, 4.0, -160.0, 54.0),
}


def level_names() -> tuple[str, ...]:
    """The levels with sizes, from the head down."""
    return tuple(_TABLE)


def level_sizes(level: str) -> LevelSizes:
    """Mean sizes of one level.

    Raises
    ------
    PhantomError
        If there are none for it.
    """
    if level not in _TABLE:
        raise PhantomError(f"level {level!r}: sizes are known for {', '.join(_TABLE)}")
    row = _TABLE[level]
    width, depth = row[6:8]
    return LevelSizes(
        level=level,
        body_width_mm=row[0],
        body_depth_mm=row[1],
        body_height_mm=row[2],
        disc_height_mm=row[3],
        pedicle_width_mm=row[4],
        pedicle_height_mm=row[5],
        canal_width_mm=width,
        canal_depth_mm=depth,
        sac_width_mm=width - _EPIDURAL_MM,
        sac_depth_mm=depth - _EPIDURAL_MM,
        cord_width_mm=row[8],
        cord_depth_mm=row[9],
        ribs=level.startswith("T"),
        transverse_mm=row[10],
        spinous_mm=row[11],
        spinous_drop_mm=row[12],
        kyphosis_radius_mm=row[13],
        back_mm=row[14],
    )


def at_level(spec: PhantomSpec, level: str) -> PhantomSpec:
    """The same phantom with the sizes and the curve of a level; lesion, needle and implants stay where they are."""
    z = level_sizes(level)
    return replace(
        spec,
        level=level,
        spine=replace(spec.spine, kyphosis_radius_mm=z.kyphosis_radius_mm),
        canal=replace(
            spec.canal,
            width_mm=z.canal_width_mm,
            depth_mm=z.canal_depth_mm,
            sac_width_mm=z.sac_width_mm,
            sac_depth_mm=z.sac_depth_mm,
            cord_width_mm=z.cord_width_mm,
            cord_depth_mm=z.cord_depth_mm,
        ),
        vertebra=replace(
            spec.vertebra,
            body_width_mm=z.body_width_mm,
            body_depth_mm=z.body_depth_mm,
            body_height_mm=z.body_height_mm,
            disc_height_mm=z.disc_height_mm,
            pedicle_width_mm=z.pedicle_width_mm,
            pedicle_height_mm=z.pedicle_height_mm,
            ribs=z.ribs,
            transverse_mm=z.transverse_mm,
            spinous_mm=z.spinous_mm,
            spinous_drop_mm=z.spinous_drop_mm,
        ),
        body=replace(spec.body, back_mm=z.back_mm),
    )
