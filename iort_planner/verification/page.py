"""The page of results: one HTML file that needs no network, with a table to sort, pictures, and plots of the errors."""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from iort_planner.verification.results import failures, shown
from iort_planner.verification.workers import picture_name

_COLOUR = {"pass": "#35B893", "fail": "#E8732E"}
_MOST_PLOTS = 8
_FEWEST_POINTS = 4


def page(found: dict[str, Any], pictures: set[str]) -> str:
    """The page's text; pictures lie beside it in ``pictures/``."""
    counts, machine = found["counts"], found["machine"]
    e = html.escape
    head = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{e(found['verdict'])}: {e(found['suite']['name'])}</title><style>{_beside('page.css')}</style>",
        f"<h1 class='{found['verdict']}'>{found['verdict'].upper()}: verification of {e(found['suite']['name'])}, "
        f"{counts['passed']} of {found['suite']['cases']} cases passed</h1>",
        f"<p class=use>{e(found['intended_use'])}</p>",
        f"<p>{e(found['software']['name'])} {e(found['software']['version'])}, {e(found['created'])}, {e(machine['system'])}, "
        f"{machine['cores']} cores, Python {e(machine['python'])}; suite SHA-256 <code>{found['suite']['sha256']}</code></p>",
    ]
    if "against" in found:
        version = found["against"]["software"].get("version", "?")
        items = "".join(f"<li>{e(line)}</li>" for line in found["against"]["lines"])
        head.append(f"<h2>Against the run of version {e(version)}</h2><ul>{items}</ul>")
    sources = "".join(
        f"<tr><td>{e(source)}<td class=n>{each['passed']}<td class=n>{each['failed']}"
        for source, each in counts["expectations"].items()
    )
    head.append(
        "<h2>Where the expected values come from</h2><table style='width:auto'><thead><tr><th>source<th>met<th>not met</thead>"
        f"{sources}</table><p>A baseline shows that nothing changed, not that it is right.</p>"
    )
    return "\n".join(
        [
            *head,
            _plots(found),
            _cases(found),
            _pictures(found, pictures),
            f"<script>{_beside('page.js')}</script></html>\n",
        ]
    )


def _beside(name: str) -> str:
    """A file of this package: the page holds it, so that one file is the whole of it."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _cases(found: dict[str, Any]) -> str:
    e = html.escape
    columns = (("case", ""), ("verdict", ""), ("expectations", "1"), ("worst, of its tolerance", "1"), ("seconds", "1"))
    heads = "".join(f"<th><button data-number='{number}'>{name}</button>" for name, number in columns)
    bodies = []
    for entry in found["cases"]:
        judged = entry["expectations"]
        shares = [
            abs(x["difference"]) / x["tolerance"] for x in judged if x["difference"] is not None and x["tolerance"]
        ]
        worst = max(shares, default=0.0)
        rows = "".join(
            f"<tr><td>{e(x['key'])}<td>{e(shown(x['found']))}<td>{e(shown(x['expected']))}<td>"
            f"{'' if x['tolerance'] is None else shown(x['tolerance'])}<td>{e(x['unit'])}"
            f"<td>{e(x['source'])}: {e(x['reference'])}"
            f"<td><span class='v {x['verdict']}'>{x['verdict']}</span>"
            for x in judged
        )
        why = "" if entry["verdict"] == "pass" else "".join(f"<br>{e(line)}" for line in failures(entry))
        bodies.append(
            f"<tbody data-k0='{e(entry['name'])}' data-k1='{entry['verdict']}' data-k2='{len(judged)}' data-k3='{worst:.4f}' "
            f"data-k4='{entry['seconds']:.3f}'><tr><td><b>{e(entry['name'])}</b><br>{e(entry['description'])}{why}"
            f"<td><span class='v {entry['verdict']}'>{entry['verdict']}</span>"
            f"<td class=n>{len(judged)}<td class=n>{worst:.2f}<td class=n>{entry['seconds']:.1f}"
            f"<tr><td colspan=5><details><summary>{e(entry['command'])}</summary><table><thead><tr><th>key<th>found<th>expected"
            f"<th>within<th>unit<th>where from<th></thead>{rows}</table></details></tbody>"
        )
    return (
        "<h2>Cases</h2><p><input id=word placeholder='find' aria-label='find'> <select id=which aria-label='verdict'>"
        "<option value=''>all</option><option>pass</option><option>fail</option></select> <span id=count></span></p>"
        f"<table id=cases><thead><tr>{heads}</thead>{''.join(bodies)}</table>"
    )


def _pictures(found: dict[str, Any], pictures: set[str]) -> str:
    e = html.escape
    shown_cases = [entry for entry in found["cases"] if picture_name(entry["name"]) in pictures]
    if not shown_cases:
        return ""
    figures = "".join(
        f"<figure><img loading=lazy src='pictures/{e(picture_name(entry['name']))}.png' alt='slices of {e(entry['name'])}'>"
        f"<figcaption>{e(entry['name'])} <span class='v {entry['verdict']}'>{entry['verdict']}</span></figcaption></figure>"
        for entry in shown_cases
    )
    return f"<h2>Pictures</h2><div class=pictures>{figures}</div>"


def _plots(found: dict[str, Any]) -> str:
    """How far off, over all cases, for every key that enough cases expect within a tolerance."""
    off: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for entry in found["cases"]:
        for each in entry["expectations"]:
            if each["difference"] is not None and each["tolerance"]:
                off[(each["key"], each["unit"])].append((each["difference"], each["tolerance"]))
    most = sorted(
        ((key, points) for key, points in off.items() if len(points) >= _FEWEST_POINTS), key=lambda kp: -len(kp[1])
    )
    if not most:
        return ""
    import matplotlib as mpl

    mpl.use("Agg")
    images = [_plot(key, unit, points) for (key, unit), points in most[:_MOST_PLOTS]]
    return "<h2>How far off</h2><div class=plots>" + "".join(images) + "</div>"


def _plot(key: str, unit: str, points: list[tuple[float, float]]) -> str:
    import numpy as np
    from matplotlib.figure import Figure

    differences, tolerances = np.array(points).T
    figure = Figure(figsize=(4.2, 2.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    inside = np.abs(differences) <= tolerances
    axes.hist(
        [differences[inside], differences[~inside]],
        bins=20,
        stacked=True,
        color=[_COLOUR["pass"], _COLOUR["fail"]],
        rwidth=0.9,
    )
    axes.axvline(0.0, color="#14202B", linewidth=0.8)
    axes.set_title(f"{key}, {len(points)} cases", fontsize=9)
    axes.set_xlabel(f"found - expected, {unit}" if unit else "found - expected", fontsize=8)
    axes.set_ylabel("cases", fontsize=8)
    axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img alt='{html.escape(key)}' src='data:image/png;base64,{data}'>"
