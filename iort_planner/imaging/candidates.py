"""A series before its pixels are read: kind, order, grid, and every problem that headers show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from iort_planner.imaging.geometry_checks import (
    PATIENT_POSITIONS,
    Problem,
    Stack,
    coarse_problem,
    patient_position_known,
    stack_slices,
)
from iort_planner.imaging.headers import SliceHeader
from iort_planner.imaging.hu import HuAnswer, hu_from_header
from iort_planner.imaging.pixels import CT_IMAGE_STORAGE, uid_name, unsupported_pixels

# SOP classes that hold an image of the patient in space, and what to call them; only the first is read so far.
_KINDS = {
    CT_IMAGE_STORAGE: ("ct", "CT"),
    "1.2.840.10008.5.1.4.1.1.2.1": ("ct-enhanced", "Enhanced CT (multi-frame)"),
    "1.2.840.10008.5.1.4.1.1.2.2": ("ct-enhanced", "Legacy Converted Enhanced CT (multi-frame)"),
    "1.2.840.10008.5.1.4.1.1.13.1.1": ("xa3d", "X-Ray 3D Angiographic (multi-frame)"),
}
# Problems that make the plan fail its checks but do not keep the image from being placed.
_LOADABLE_FAILURES = frozenset({"scan-coarse"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A series before its pixels are read: slices in k order if it has a grid."""

    headers: tuple[SliceHeader, ...]
    kind: str
    stack: Stack | None
    problems: tuple[Problem, ...]

    @property
    def first(self) -> SliceHeader:
        """The first slice along k, or just the first file."""
        return self.headers[0]

    @property
    def obstacle(self) -> Problem | None:
        """The first problem that keeps the series from being placed."""
        return next((p for p in self.problems if p.status == "fail" and p.id not in _LOADABLE_FAILURES), None)

    @property
    def acquired_at(self) -> str | None:
        """The earliest time of all slices; None if none has one."""
        return min((h.acquired_at for h in self.headers if h.acquired_at), default=None)

    @property
    def header_hu(self) -> HuAnswer:
        """Whether the headers allow the values to be read as HU."""
        first = self.first
        return hu_from_header(first.sop_class_uid, first.modality, [h.rescale for h in self.headers])


def make_candidate(headers: Sequence[SliceHeader], notes: Sequence[Problem]) -> Candidate:
    """Order the slices of one series and collect its problems; ``notes`` are problems known before."""
    kind, name = _KINDS.get(headers[0].sop_class_uid, ("other", ""))
    problems = list(notes)
    if kind != "ct":
        what = name or uid_name(headers[0].sop_class_uid) or "an image without SOP class"
        text = f"{what} is not supported{' yet' if name else ''}; give a CT series of single slices"
        problems.append(Problem(id="not-supported", status="fail", message=text))
        return Candidate(headers=tuple(headers), kind=kind, stack=None, problems=tuple(problems))

    slices = [h for h in headers if "LOCALIZER" not in h.image_type]
    if not slices:
        text = f"{headers[0].name} is a localizer (overview image), not a slice; name the series of the slices"
        problems.append(Problem(id="localizer", status="fail", message=text))
        return Candidate(headers=tuple(headers), kind=kind, stack=None, problems=tuple(problems))
    if len(slices) < len(headers):
        text = f"{len(headers) - len(slices)} localizer image(s) in the series were left out"
        problems.append(Problem(id="localizer-ignored", status="warn", message=text))
    problems += _header_problems(slices)
    planes = [h.plane for h in slices if h.plane is not None]
    stack = stack_slices(planes) if len(planes) == len(slices) else None
    if stack is not None:
        slices = [slices[n] for n in stack.order]
        problems += stack.problems
        coarse = coarse_problem(stack.grid) if stack.grid is not None else None
        if coarse is not None:
            problems.append(coarse)
    return Candidate(headers=tuple(slices), kind=kind, stack=stack, problems=tuple(problems))


def _header_problems(slices: list[SliceHeader]) -> list[Problem]:
    """Faults of single files, each kind once; what must not be mixed; what is unknown."""
    problems: list[Problem] = []
    for h in slices:
        reason = unsupported_pixels(h.layout) if h.layout.bits_allocated else None
        if reason:
            problems.append(Problem(id="not-supported", status="fail", message=f"{h.name}: {reason}"))
            break
    for fault_id in dict.fromkeys(f.id for h in slices for f in h.faults):
        faults = [f for h in slices for f in h.faults if f.id == fault_id]
        more = f" ({len(faults)} such findings)" if len(faults) > 1 else ""
        problems.append(Problem(id=fault_id, status="fail", message=faults[0].message + more))
    first = slices[0]
    for attribute, what in (("patient_id", "Patient ID"), ("study_uid", "Study Instance UID")):
        other = next((h for h in slices if getattr(h, attribute) != getattr(first, attribute)), None)
        if other is not None:  # the values are not shown: they may identify the patient
            text = f"{what} differs between {first.name} and {other.name}; these are not slices of one scan"
            problems.append(Problem(id="mixed-patient", status="fail", message=text))
    other = next((h for h in slices if h.rescale.stated != first.rescale.stated), None)
    if other is not None:
        text = f"only one of {first.name} and {other.name} has a Rescale Slope and Intercept; export the series again"
        problems.append(Problem(id="mixed-rescale", status="fail", message=text))
    position = first.patient_position
    if not patient_position_known(position) or any(h.patient_position != position for h in slices):
        known = ", ".join(sorted(PATIENT_POSITIONS))
        text = (
            f"Patient Position is {position or 'absent'}, not one of {known} in every slice; check how the patient lay"
        )
        problems.append(Problem(id="patient-position-unknown", status="warn", message=text))
    if not first.series_uid:
        text = f"no Series Instance UID; the {len(slices)} files of this folder were taken as one series"
        problems.append(Problem(id="series-uid-missing", status="warn", message=text))
    if not any(h.frame_of_reference_uid for h in slices):
        text = "no Frame of Reference UID; contours of other files cannot be checked to belong to this image"
        problems.append(Problem(id="frame-of-reference-unknown", status="warn", message=text))
    return problems
