"""Three slices through the source centre in the patient's axes, with isodoses, canal and needle, as a PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from iort_planner.errors import InputError
from iort_planner.imaging.volume import ImageGrid, Volume
from iort_planner.report.overlays import PALE, draw_overlays, outlined
from iort_planner.report.planes import PLANES, Plane
from iort_planner.report.sheet import fixed_style
from iort_planner.units import FloatArray
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from iort_planner.planning.plan import Plan

_REACH_MM = 40.0  # a vertebra with its processes
_STEP_MM = 0.25
_CANAL_BLUR_VOXELS = 0.7  # takes the stairs off the mask; moves a wall of 6 mm radius by less than 0.1 voxel
_SIZE_INCHES = (10.6, 5.5)  # printed 7 inches wide in the report: 9 points become 6
_DOTS_PER_INCH = 185
_BACKGROUND = "#0E151B"
_OUTSIDE = "#2B3A47"
_DIM = "#A9B6C2"
_LEGEND_SIZES_PT = (8.5, 8.0, 7.5, 7.0, 6.5, 6.0, 5.5, 5.0)
_LEGEND_EDGE = 0.988  # of the picture's width
_LEGEND_TOP = 0.205  # of the picture's height: below the slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Grey scale of the CT: level and width in HU (or grey values), and what the picture says of it."""

    level: float
    width: float
    label: str

    @property
    def limits(self) -> tuple[float, float]:
        """Values shown black and white."""
        return self.level - self.width / 2.0, self.level + self.width / 2.0


# Usual presets of CT viewers.
WINDOWS = {
    "bone": Window(level=500.0, width=2000.0, label="bone window L 500 W 2000 HU"),
    "soft": Window(level=40.0, width=400.0, label="soft-tissue window L 40 W 400 HU"),
}


def draw_slices(plan: Plan, volume: Volume, canal_mask: npt.NDArray[np.uint8] | None, *, window: str = "bone") -> bytes:
    """Axial, sagittal and coronal picture through the main needle's source centre.

    Radiological convention: the patient's right is on the left of the axial and coronal pictures.

    Parameters
    ----------
    plan : Plan
    volume : Volume
        The image whose hash the plan holds; the caller has checked it.
    canal_mask : ndarray of shape (nk, nj, ni), uint8, or None
        The plan's canal on the image's grid; None for a plan on given points.
    window : str
        ``bone`` (default: metal and bone stay readable) or ``soft``; an image without HU is windowed by its
        own values instead.

    Returns
    -------
    bytes
        A PNG, the same for the same input.

    Raises
    ------
    InputError
        If ``window`` is no known name.
    """
    if window not in WINDOWS:
        raise InputError(f"window {window!r} is unknown; use one of: {', '.join(WINDOWS)}")
    with fixed_style():
        buffer = io.BytesIO()
        figure = make_figure(plan, volume, canal_mask, WINDOWS[window])
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, facecolor=_BACKGROUND, metadata={"Software": None})
    return buffer.getvalue()


def make_figure(plan: Plan, volume: Volume, canal_mask: npt.NDArray[np.uint8] | None, window: Window) -> Figure:
    """The figure that `draw_slices` writes; its three axes have mm from the source centre as their unit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    source = np.array(plan.needles[0].source_lps_mm)
    pictures = [_resample(plane, volume, source) for plane in PLANES]
    shown = window if volume.hu_calibrated else _window_of(pictures)
    canal = None if canal_mask is None else _smooth_canal(volume.grid, canal_mask, source)
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    for number, (plane, picture) in enumerate(zip(PLANES, pictures, strict=True)):
        axes = figure.add_axes((0.012 + 0.3285 * number, 0.21, 0.319, 0.617))
        _draw_picture(axes, picture, shown)
        _draw_canal(axes, plane, canal, source)
        draw_overlays(axes, plane, plan, _REACH_MM)
        _draw_frame(axes, plane, source)
    _draw_words(figure, plan, shown)
    return figure


def _offsets() -> FloatArray:
    return np.linspace(-_REACH_MM, _REACH_MM, 2 * round(_REACH_MM / _STEP_MM) + 1)


def _resample(plane: Plane, volume: Volume, source_lps_mm: FloatArray) -> FloatArray:
    """Image values on a plane, rows from the bottom up; NaN outside the image."""
    return volume.sample(plane.points_lps_mm(source_lps_mm, _offsets())).astype(np.float64)


def _window_of(pictures: list[FloatArray]) -> Window:
    """Window for grey values: from air and soft tissue up to bone, metal's few brightest values left out."""
    known = np.concatenate([picture[np.isfinite(picture)] for picture in pictures])
    if known.size == 0:
        return Window(level=0.0, width=1.0, label="no image here")
    low, high = (float(v) for v in np.percentile(known, (2.0, 98.0)))
    high = max(high, low + 1.0)
    return Window(level=(low + high) / 2.0, width=high - low, label=f"grey values {low:.0f} to {high:.0f}, not HU")


def _smooth_canal(grid: ImageGrid, mask: npt.NDArray[np.uint8], source_lps_mm: FloatArray) -> Volume:
    low, high = grid.box_around(source_lps_mm, np.sqrt(2.0) * _REACH_MM + 5.0)
    part = (mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]] > 0).astype(np.float32)
    smooth = ndimage.gaussian_filter(part, _CANAL_BLUR_VOXELS)
    return Volume(values=smooth, grid=grid.crop(low, high), hu_calibrated=False)


def _draw_picture(axes: Axes, picture: FloatArray, window: Window) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    grey = LinearSegmentedColormap.from_list("grey", ["black", "white"]).with_extremes(bad=_OUTSIDE)
    low, high = window.limits
    edge = _REACH_MM + _STEP_MM / 2.0
    axes.imshow(
        np.ma.masked_invalid(picture),
        cmap=grey,
        vmin=low,
        vmax=high,
        extent=(-edge, edge, -edge, edge),
        origin="lower",
        interpolation="nearest",
    )
    if not np.isfinite(picture).all():
        axes.text(
            0.0,
            -_REACH_MM + 10.0,
            "blue-grey: outside the image",
            color=_DIM,
            fontsize=7,
            ha="center",
            path_effects=outlined(2.0),
        )


def _draw_canal(axes: Axes, plane: Plane, canal: Volume | None, source_lps_mm: FloatArray) -> None:
    if canal is None:
        return
    inside = canal.sample(plane.points_lps_mm(source_lps_mm, _offsets()), outside=0.0)
    if inside.min() < 0.5 < inside.max():
        contour = axes.contour(
            _offsets(), _offsets(), inside, levels=[0.5], colors=[palette.CANAL_COLOUR], linewidths=1.8
        )
        contour.set_path_effects(outlined(3.0))


def _draw_frame(axes: Axes, plane: Plane, source_lps_mm: FloatArray) -> None:
    axes.set_xlim(-_REACH_MM, _REACH_MM)
    axes.set_ylim(-_REACH_MM, _REACH_MM)
    axes.set_aspect("equal")
    axes.set_axis_off()
    edge = _REACH_MM - 1.2
    for text, x, y, across, up in (
        (plane.left, -edge, 0.0, "left", "center"),
        (plane.right, edge, 0.0, "right", "center"),
        (plane.top, 0.0, edge, "center", "top"),
        (plane.bottom, 0.0, -edge, "center", "bottom"),
    ):
        axes.text(
            x,
            y,
            text,
            color=PALE,
            fontsize=13,
            fontweight="bold",
            ha=across,
            va=up,
            gid=f"edge-{text}",
            zorder=11,
            path_effects=outlined(2.6),
        )
    axes.set_title(f"{plane.name}   {plane.position_text(source_lps_mm)}", color=PALE, fontsize=10, loc="left", pad=5)
    x, y = -edge, -edge + 1.0
    axes.plot(
        [x, x + 10.0], [y, y], color=PALE, linewidth=2.5, solid_capstyle="butt", path_effects=outlined(4.0), zorder=11
    )
    axes.text(
        x + 5.0,
        y + 0.8,
        "10 mm",
        color=PALE,
        fontsize=8,
        ha="center",
        va="bottom",
        zorder=11,
        path_effects=outlined(2.2),
    )


def _draw_words(figure: Figure, plan: Plan, window: Window) -> None:
    from matplotlib.patches import Rectangle

    figure.add_artist(
        Rectangle((0.0, 0.91), 1.0, 0.09, transform=figure.transFigure, color=palette.VERDICT_COLOUR[plan.verdict])
    )
    figure.text(
        0.012,
        0.955,
        palette.verdict_text(plan),
        color=palette.INK,
        fontsize=12.5,
        fontweight="bold",
        va="center",
    )
    figure.text(
        0.988,
        0.955,
        f"dwell time {plan.dwell_time_text}      {palette.canal_text(plan)}",
        color=palette.INK,
        fontsize=9,
        ha="right",
        va="center",
    )
    _draw_legend(figure, plan)
    software = f"{plan.software.name} {plan.software.version}"
    figure.text(0.012, 0.018, f"{palette.INTENDED_USE_SHORT}  {software}", color=_DIM, fontsize=7.5, va="center")
    figure.text(
        0.988,
        0.018,
        f"{window.label}; planes through the source centre",
        color=_DIM,
        fontsize=7.5,
        ha="right",
        va="center",
    )


def _draw_legend(figure: Figure, plan: Plan) -> None:
    """The legend in the largest letters with which it stays in the picture and below the slices."""
    entries = _legend_entries(plan)
    for size in _LEGEND_SIZES_PT:
        legend = figure.legend(
            [line for line, _ in entries],
            [text for _, text in entries],
            loc="lower left",
            bbox_to_anchor=(0.004, 0.035),
            ncols=3,
            frameon=False,
            labelcolor=PALE,
            fontsize=size,
            handlelength=3.0,
            columnspacing=2.0,
        )
        box = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]  # Agg has one
        if box.x1 <= _LEGEND_EDGE * figure.bbox.width and box.y1 <= _LEGEND_TOP * figure.bbox.height:
            return
        if size != _LEGEND_SIZES_PT[-1]:
            legend.remove()


def _legend_entries(plan: Plan) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    lines: list[tuple[Any, str]] = [
        (Line2D([], [], color=level.colour, linewidth=2.2, dashes=level.dashes or (None, None)), level.legend)
        for level in palette.isodose_levels(plan)
    ]
    lines.append(
        (Line2D([], [], color=palette.CANAL_COLOUR, linewidth=2.2), "spinal canal")
        if plan.canal.method != "points"
        else (Line2D([], [], color=palette.CANAL_COLOUR, marker="x", linestyle=""), "canal points, given by hand")
    )
    lines.append((Line2D([], [], color=PALE, linewidth=1.6), "needle: shaft (dashed: outside this plane)"))
    lines.append((Line2D([], [], color=palette.TIP_LINE_COLOUR, linewidth=1.6), "needle: radiolucent tip"))
    lines.append(
        (
            Line2D([], [], color=palette.NEAREST_COLOUR, linewidth=2.2),
            f"source centre to canal: {plan.canal.distance_from_source_mm:.1f} mm",
        )
    )
    lines.append((Line2D([], [], color=PALE, marker="+", markersize=9, linestyle=""), "source centre"))
    lines.append((Line2D([], [], color=palette.TIP_LINE_COLOUR, marker="v", markersize=6, linestyle=""), "tip"))
    return lines
