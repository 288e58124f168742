"""The picture of each QA result, as a PNG; the same bytes for the same result."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from iort_planner import INTENDED_USE
from iort_planner.qa import shape
from iort_planner.qa.criteria import DIFFERENCE_FAIL_PERCENT, DIFFERENCE_WARN_PERCENT
from iort_planner.qa.mixups import mixups
from iort_planner.qa.trend import ACTION_FAIL_PERCENT, ACTION_WARN_PERCENT, Series, Trend
from iort_planner.report.sheet import fixed_style
from iort_planner.source.depth_dose import DepthDoseTable
from iort_planner.units import FloatArray
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from iort_planner.qa.check import TableCheck
    from iort_planner.qa.compare import TableComparison
    from iort_planner.qa.fit import Explanation

_WIDTH_INCHES, _DOTS_PER_INCH = 7.2, 160
# Okabe and Ito's set (Color Universal Design, 2008): blue for values, vermillion for what is wrong, grey for limits
_VALUE, _WRONG, _OTHER, _LIMIT, _FILL = "#0072B2", "#D55E00", "#009E73", "#8A96A3", "#EDF1F4"
_TICKS_MM = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
_LABELLED = 8


def draw_check(result: TableCheck) -> bytes:
    """Rows, their residuals from a smooth curve, and the local exponent with its corridor."""
    with fixed_style():
        figure, (curve, residual, slope) = _figure([2.6, 1.3, 1.3], 7.4)
        _title(
            figure, result.verdict, "qa check", f"{result.examination.file} · {result.examination.head.get('name', '')}"
        )
        rows, fit = result.rows, result.fit
        if rows is None:
            for axes in (curve, residual, slope):
                _empty(axes, "no rows that can be judged")
            return _png(figure)
        transfer = result.examination.kind == "transfer-function"
        r = rows.distance_mm
        curve.plot(r, rows.value, "-", color=_VALUE, linewidth=0.8, alpha=0.6)
        curve.plot(r, rows.value, "o", color=_VALUE, markersize=4, label=f"{r.size} rows")
        if not transfer:
            _log_rates(curve)
        curve.set_ylabel("transfer function" if transfer else "dose rate, Gy/min")
        if fit is None:
            _empty(residual, "too few rows for a smooth curve")
            _empty(slope, "")
        else:
            _residuals(residual, result)
            wrong = [i for i in fit.outliers if abs(fit.residual_percent[i]) >= shape.OUTLIER_WARN_PERCENT]
            curve.plot(r[wrong], rows.value[wrong], "o", markersize=10, markerfacecolor="none", markeredgecolor=_WRONG,
                       markeredgewidth=1.6, label="does not belong" if wrong else None)  # fmt: skip
            margin = 2.0 * fit.exponent_uncertainty
            slope.fill_between(r, fit.exponent - margin, fit.exponent + margin, color=_VALUE, alpha=0.2, linewidth=0)
            slope.plot(r, fit.exponent, "-", color=_VALUE, linewidth=1.4)
            slope.set_ylabel("exponent n" if not transfer else "slope")
            if not transfer:
                _corridor(slope)
        curve.legend(loc="upper right", frameon=False, fontsize=8)
        _distance_axes((curve, residual, slope), r)
        return _png(figure)


def _residuals(axes: Axes, result: TableCheck) -> None:
    rows, fit = result.rows, result.fit
    if rows is None or fit is None:
        return
    r, off = rows.distance_mm, fit.residual_percent
    limit = shape.OUTLIER_FAIL_PERCENT
    reach = float(np.clip(1.25 * np.max(np.abs(off)), 1.5 * limit, 12.0))
    _limits(axes, shape.OUTLIER_WARN_PERCENT, limit, reach)
    axes.vlines(r, 0.0, np.clip(off, -reach, reach), color=_VALUE, linewidth=0.8, alpha=0.6)
    axes.plot(r, np.clip(off, -reach, reach), "o", color=_VALUE, markersize=3.5)
    wrong = [i for i in fit.outliers if abs(off[i]) >= shape.OUTLIER_WARN_PERCENT]
    _mark(axes, r, np.clip(off, -reach, reach), off, rows.line, wrong)
    axes.set_ylim(-1.15 * reach, 1.15 * reach)
    axes.set_ylabel("off the others, %")


def _limits(axes: Axes, warn: float, fail: float, reach: float) -> None:
    """Zero, and where a value either way warns and fails, with names where there is room for them."""
    axes.axhline(0.0, color=_LIMIT, linewidth=0.8)
    for level, style, name in ((warn, ":", "warn"), (fail, "--", "fail")):
        for at in (-level, level):
            axes.axhline(at, color=_LIMIT, linestyle=style, linewidth=0.9)
            if reach > 5.0 * fail:
                continue
            axes.annotate(name, (1.0, at), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                          va="center", fontsize=6.5, color=_LIMIT, annotation_clip=True)  # fmt: skip


def _mark(axes: Axes, r: FloatArray, shown: FloatArray, off: FloatArray, lines: Any, at: Sequence[int]) -> None:
    """Circle rows that are wrong and write their line."""
    for number, i in enumerate(at):
        axes.plot(
            r[i], shown[i], "o", markersize=9, markerfacecolor="none", markeredgecolor=_WRONG, markeredgewidth=1.5
        )
        if number < _LABELLED:
            right = r[i] < np.sqrt(r[0] * r[-1])
            axes.annotate(f"line {lines[i]}: {off[i]:+.1f} %", (r[i], shown[i]), xytext=(9 if right else -9, 0),
                          textcoords="offset points", ha="left" if right else "right", va="center", fontsize=8,
                          color=_WRONG, fontweight="bold")  # fmt: skip


def _corridor(axes: Axes) -> None:
    low, high = shape.SLOPE_RANGE_MM
    axes.fill_between([low, high], *shape.SLOPE_WARN, color=_OTHER, alpha=0.14, linewidth=0, label="corridor")
    axes.hlines(shape.SLOPE_FAIL, low, high, color=_LIMIT, linestyle="--", linewidth=0.9)
    axes.set_ylim(1.2, 5.4)
    axes.legend(loc="upper right", frameon=False, fontsize=8)


def draw_compare(result: TableComparison) -> bytes:
    """Both tables, the local difference with what explains it best, and gamma."""
    with fixed_style():
        figure, (curve, difference, index) = _figure([2.2, 1.9, 1.0], 7.4)
        names = f"{result.measured.file} against {result.reference.file}"
        _title(figure, result.verdict, "qa compare", names)
        reference, r = result.reference.table, result.distance_mm
        if not isinstance(reference, DepthDoseTable) or r.size == 0:
            for axes in (curve, difference, index):
                _empty(axes, "nothing was compared")
            return _png(figure)
        fine = np.geomspace(*reference.range_mm, 400)
        curve.plot(fine, reference.rate_gy_per_min(fine), "-", color=_LIMIT, linewidth=1.4, label="reference")
        curve.plot(r, result.rate_gy_per_min, "o", color=_VALUE, markersize=4, label="measured")
        _log_rates(curve)
        curve.set_ylabel("dose rate, Gy/min")
        curve.legend(loc="upper right", frameon=False, fontsize=8)
        _differences(difference, result, reference)
        index.axhline(1.0, color=_LIMIT, linestyle="--", linewidth=0.9)
        index.vlines(r, 0.0, result.gamma, color=_VALUE, linewidth=1.2)
        index.plot(r, result.gamma, "o", color=_VALUE, markersize=3.5)
        over = result.gamma > 1.0
        index.plot(r[over], result.gamma[over], "o", color=_WRONG, markersize=4.5)
        index.set_ylim(0.0, max(1.4, 1.1 * float(np.max(result.gamma))))
        criteria = result.criteria
        index.set_ylabel(f"gamma\n{criteria.dose_percent:g} %, {criteria.distance_mm:g} mm")
        _distance_axes((curve, difference, index), r)
        return _png(figure)


def _differences(axes: Axes, result: TableComparison, reference: DepthDoseTable) -> None:
    r, off = result.distance_mm, result.difference_percent
    reach = max(6.0, 1.15 * float(np.max(np.abs(off))))
    _limits(axes, DIFFERENCE_WARN_PERCENT, DIFFERENCE_FAIL_PERCENT, reach)
    if result.explanations:
        best = result.explanations[0]
        fine = np.geomspace(r[0], r[-1], 300)
        axes.plot(fine, _explained(best, fine, reference), "-", color=_OTHER, linewidth=1.6, label=_words(best))
        wrong = [
            i for i in range(r.size) if any(f.id == "outlier" and f.line == result.line[i] for f in result.findings)
        ]
        _mark(axes, r, off, off, result.line, wrong)
        axes.legend(loc="best", frameon=False, fontsize=8)
    axes.plot(r, off, "o", color=_VALUE, markersize=4)
    axes.set_ylim(-reach if off.min() < -1 else -6.0, reach if off.max() > 1 else 6.0)
    axes.set_ylabel("local difference, %")


def _explained(best: Explanation, r: FloatArray, reference: DepthDoseTable) -> FloatArray:
    """Measured over reference less 1 as the explanation has it, percent; NaN outside the reference."""
    ratio = mixups()[best.name](r) if best.name in mixups() else 1.0
    moved: FloatArray = reference.rate_gy_per_min(r + best.slip_mm) / reference.rate_gy_per_min(r)
    return 100.0 * (best.factor * ratio * moved - 1.0)


def _words(best: Explanation) -> str:
    if best.name in mixups():
        return f"mix-up of scales: {best.name}, times {best.factor:.3f}"
    if best.name == "same":
        return "no slip, no factor"
    parts = [f"origin slip {best.slip_mm:+.2f} mm"] * ("origin" in best.name)
    parts += [f"factor {best.factor:.3f}"] * ("scale" in best.name)
    return ", ".join(parts)


def draw_trend(result: Trend) -> bytes:
    """A control chart for each history."""
    with fixed_style():
        charts = result.series
        figure, panels = _figure([1.0] * max(1, len(charts)), max(3.4, 0.9 + 2.4 * len(charts)), share=False)
        _title(figure, result.verdict, "qa trend", result.folder)
        if not charts:
            _empty(panels[0], "no values that can be used")
        for axes, series in zip(panels, charts, strict=False):
            _control(axes, series)
        return _png(figure)


def _control(axes: Axes, series: Series) -> None:
    import matplotlib.dates as mdates

    chart = series.chart
    dates: Any = mdates.date2num(series.date)  # type: ignore[no-untyped-call]  # matplotlib's dates are untyped
    if chart.lower is not None and chart.upper is not None:
        axes.axhspan(chart.lower, chart.upper, color=_FILL, label="control limits (3 sigma)")
    axes.axhline(chart.centre, color=_LIMIT, linewidth=0.9)
    reach = max(1.15 * ACTION_FAIL_PERCENT, 1.15 * float(np.max(np.abs(chart.value))))
    _limits(axes, ACTION_WARN_PERCENT, ACTION_FAIL_PERCENT, reach)
    axes.plot(dates, chart.value, "o-", color=_VALUE, markersize=4, linewidth=0.8)
    beyond = list(chart.beyond)
    axes.plot(dates[beyond], chart.value[beyond], "o", markersize=9, markerfacecolor="none", markeredgecolor=_WRONG,
              markeredgewidth=1.5, label="outside limits" if beyond else None)  # fmt: skip
    if chart.change == "step" and chart.step is not None:
        at = chart.step
        for part in (slice(None, at), slice(at, None)):
            mean = float(np.mean(chart.value[part]))
            axes.plot(dates[part], np.full(dates[part].size, mean), color=_WRONG, linewidth=1.6)
        axes.axvline((dates[at - 1] + dates[at]) / 2.0, color=_WRONG, linewidth=1.0, linestyle="-.",
                     label=f"step {chart.step_percent:+.2f} %")  # fmt: skip
    elif chart.change == "drift":
        line = np.polynomial.Polynomial.fit(chart.days, chart.value, 1)
        axes.plot(dates, line(chart.days), color=_WRONG, linewidth=1.6,
                  label=f"drift {chart.drift_percent_per_year:+.2f} % a year")  # fmt: skip
    axes.set_title(series.name, loc="left", fontsize=9)
    axes.set_ylabel("% off the reference")
    axes.set_ylim(-reach, reach)
    locator = mdates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]  # matplotlib's dates are untyped
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # matplotlib's dates are untyped
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, fontsize=8)


def _figure(heights: list[float], height_inches: float, *, share: bool = True) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(heights), 1, sharex=share, squeeze=False, height_ratios=heights)[:, 0]
    inch = 1.0 / height_inches
    gap = 0.12 if share else 0.42
    figure.subplots_adjust(
        left=0.12, right=0.955, top=1.0 - (0.62 if share else 0.9) * inch, bottom=0.72 * inch, hspace=gap
    )
    figure.text(0.012, 0.07 * inch, INTENDED_USE, fontsize=7.5, color=palette.INK)
    for axes in panels:
        axes.grid(visible=True, color="#E3E8EC", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.yaxis.label.set_size(9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, list(panels)


def _title(figure: Figure, verdict: str, command: str, what: str) -> None:
    top = 1.0 - 0.3 / figure.get_figheight()
    figure.text(
        0.02, top, verdict.upper(), fontsize=11, fontweight="bold", color=palette.INK, va="center",
        bbox={"facecolor": palette.VERDICT_COLOUR[verdict], "edgecolor": "none", "boxstyle": "round,pad=0.35"},
    )  # fmt: skip
    shown = what if len(what) <= 84 else what[:83] + "…"
    figure.text(0.12, top, f"{command}: {shown}".replace("$", r"\$"), fontsize=9, color=palette.INK, va="center")


def _distance_axes(panels: Sequence[Axes], r: FloatArray) -> None:
    axes = panels[-1]
    axes.set_xscale("log")
    low, high = float(r[0]) / 1.06, float(r[-1]) * 1.06
    axes.set_xlim(low, high)
    ticks = [tick for tick in _TICKS_MM if low <= tick <= high]
    if len(ticks) >= 2:
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.set_xlabel("distance from the source centre, mm", fontsize=9)


def _log_rates(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _empty(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=palette.INK)
    axes.set_xticks([])
    axes.set_yticks([])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
