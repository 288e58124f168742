"""A series before its pixels are read: kind, order, grid, and every problem that headers show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from iort_planner.imaging.dicom.compressed import JPEG_2000, LOSSY_SYNTAXES
from iort_planner.imaging.dicom.frames import Frame
from iort_planner.imaging.dicom.headers import FileHeader
from iort_planner.imaging.dicom.pixels import StoredSlice, uid_name, unsupported_pixels
from iort_planner.imaging.dicom.sop_classes import IMAGE_KINDS
from iort_planner.imaging.dicom.sources import MAX_EXPANSION, READ_ERRORS, SMALL_SERIES_BYTES
from iort_planner.imaging.geometry_checks import (
    PATIENT_POSITIONS,
    Problem,
    Stack,
    coarse_problem,
    patient_position_known,
    stack_slices,
)
from iort_planner.imaging.hu import HuAnswer, hu_from_header
from iort_planner.imaging.volume import ImageGrid

# Problems that make the plan fail its checks but do not keep the image from being placed.
_LOADABLE_FAILURES = frozenset({"scan-coarse"})
_TELL_TALES = (
    "Acquisition Number",
    "Acquisition Date",
    "Convolution Kernel",
    "KVP",
    "Image Type",
    "Temporal Position Index",
)
_NO_GEOMETRY = frozenset({"not-supported", "localizer"})
# Warnings of what was read on request; whoever reads the same image again must ask for the same.
TILT_RESAMPLED, FRAMES_MIXED = "stack-tilt-resampled", "frame-of-reference-mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRequest:
    """What is read only when a person asks for it; each becomes a warning of the plan.

    ``resample_tilt``: a stack with gantry tilt is made straight. ``accept_mixed_frames``: slices that name different frames
    of reference are taken to be of one.
    """

    resample_tilt: bool = False
    accept_mixed_frames: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """One frame with the file it is in."""

    file: FileHeader
    frame: Frame

    @property
    def stored(self) -> StoredSlice:
        """What decoding the pixels needs."""
        return StoredSlice(
            source=self.file.source,
            name=self.frame.name,
            layout=self.file.layout,
            rescale=self.frame.rescale,
            index=self.frame.index,
            padding=self.frame.padding,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A series before its pixels are read: slices in k order if it has a grid or a tilt."""

    files: tuple[FileHeader, ...]
    slices: tuple[Slice, ...]
    kind: str
    stack: Stack | None
    problems: tuple[Problem, ...]

    @property
    def first(self) -> FileHeader:
        """The file of the first slice along k, or just the first file."""
        return self.slices[0].file if self.slices else self.files[0]

    @property
    def obstacle(self) -> Problem | None:
        """The first problem that keeps the series from being placed."""
        return next((p for p in self.problems if p.status == "fail" and p.id not in _LOADABLE_FAILURES), None)

    @property
    def has_geometry(self) -> bool:
        """Whether an obstacle is about where slices lie, and not about the kind of object."""
        return self.obstacle is None or self.obstacle.id not in _NO_GEOMETRY

    @property
    def grid(self) -> ImageGrid | None:
        """Where the voxels lie; of a tilted stack, when it has been made straight."""
        if self.stack is None:
            return None
        return self.stack.tilt.straight_grid() if self.stack.tilt is not None else self.stack.grid

    @property
    def acquired_at(self) -> str | None:
        """The earliest time of all files; None if none has one."""
        return min((f.acquired_at for f in self.files if f.acquired_at), default=None)

    @property
    def frames_of_reference(self) -> frozenset[str]:
        """All that the slices name."""
        return frozenset(s.file.frame_of_reference_uid for s in self.slices) - {""}

    @property
    def header_hu(self) -> HuAnswer:
        """Whether the headers allow the values to be read as HU."""
        first = self.first
        return hu_from_header(
            first.sop_class_uid,
            first.modality,
            [s.frame.rescale for s in self.slices],
            frame_types={s.frame.frame_type for s in self.slices},
            photometric=first.layout.photometric,
        )


def make_candidate(files: Sequence[FileHeader], notes: Sequence[Problem], on_request: OnRequest) -> Candidate:
    """Order the slices of one series and collect its problems; ``notes`` are problems known before."""
    kind = IMAGE_KINDS.get(files[0].sop_class_uid)
    problems = list(notes)
    if kind is None:
        what = uid_name(files[0].sop_class_uid) or "an image without SOP class"
        text = f"{what} is not supported; give a CT or 3-D fluoroscopy series"
        problems.append(Problem(id="not-supported", status="fail", message=text))
        return Candidate(files=tuple(files), slices=(), kind="other", stack=None, problems=tuple(problems))

    kept, copies = _without_copies(files)
    problems += copies
    images = [f for f in kept if "LOCALIZER" not in f.image_type]
    if not images:
        text = f"{kept[0].name} is a localizer (overview image), not a slice; name the series of the slices"
        problems.append(Problem(id="localizer", status="fail", message=text))
        return Candidate(files=tuple(kept), slices=(), kind=kind, stack=None, problems=tuple(problems))
    if len(images) < len(kept):
        text = f"{len(kept) - len(images)} localizer image(s) in the series were left out"
        problems.append(Problem(id="localizer-ignored", status="warn", message=text))
    problems += _header_problems(images)
    asked, there = (
        sum(f.layout.byte_count * f.layout.frames for f in images),
        sum(f.source.packed_size for f in images),
    )
    if not any(p.id == "absurd-size" for p in problems) and asked > max(SMALL_SERIES_BYTES, MAX_EXPANSION * there):
        text = f"the series asks for {asked} bytes of pixels, more than {MAX_EXPANSION} times its files' {there} bytes"
        problems.append(Problem(id="absurd-size", status="fail", message=text))
    slices = [Slice(file=f, frame=frame) for f in images for frame in f.frames]
    planes = [s.frame.plane for s in slices if s.frame.plane is not None]
    stack = None
    if slices and len(planes) == len(slices) and all(f.frames for f in images):
        stack = stack_slices(planes)
        slices = [slices[n] for n in stack.order]
        stack, found = _as_requested(stack, on_request)
        problems += found
        problems += _acquisitions(slices)
    candidate = Candidate(files=tuple(images), slices=tuple(slices), kind=kind, stack=stack, problems=tuple(problems))
    coarse = coarse_problem(candidate.grid) if candidate.grid is not None else None
    return candidate if coarse is None else replace(candidate, problems=(*problems, coarse))


def _as_requested(stack: Stack, on_request: OnRequest) -> tuple[Stack, list[Problem]]:
    """The stack and its problems, with what was asked for turned into warnings; a tilt nobody asked for is dropped."""
    problems = []
    for problem in stack.problems:
        if problem.id == FRAMES_MIXED and on_request.accept_mixed_frames:
            text = (
                "the slices name different frames of reference and were taken as one scan, as asked for: nothing in the files "
                "says that their coordinates mean the same place"
            )
            problems.append(Problem(id=problem.id, status="warn", message=text))
        elif problem.id == "tilted-stack" and on_request.resample_tilt and stack.tilt is not None:
            text = (
                f"the slices are stacked askew by {stack.tilt.angle_deg:.2f} degrees; each was moved within its plane to make "
                "the stack straight, as asked for: edges are softer by up to a pixel"
            )
            problems.append(Problem(id=TILT_RESAMPLED, status="warn", message=text))
        else:
            problems.append(problem)
    if not on_request.resample_tilt:
        stack = replace(stack, tilt=None)
    return stack, problems


def _without_copies(files: Sequence[FileHeader]) -> tuple[list[FileHeader], list[Problem]]:
    """Drop files that are byte for byte the same object as one before; others of the same UID stay, to be refused."""
    by_uid: dict[str, list[FileHeader]] = {}
    for header in files:
        by_uid.setdefault(header.sop_instance_uid, []).append(header)
    copies: set[int] = set()
    for uid, same in by_uid.items():
        seen: dict[str, FileHeader] = {}
        for header in same if uid and len(same) > 1 else ():
            digest = _digest(header)
            if digest is not None and seen.setdefault(digest, header) is not header:
                copies.add(id(header))
    kept = [f for f in files if id(f) not in copies]
    if not copies:
        return kept, []
    dropped = next(f for f in files if id(f) in copies)
    text = f"{len(copies)} file(s) are exact copies of others and were left out, first {dropped.name}"
    return kept, [Problem(id="copies-ignored", status="warn", message=text)]


def _digest(header: FileHeader) -> str | None:
    """Hash of a file's bytes; None where it cannot be read, which decoding will name."""
    try:
        with header.source.open() as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
    except READ_ERRORS:
        return None


def _acquisitions(slices: list[Slice]) -> list[Problem]:
    """Several acquisitions under one series: side by side is worth a word, interleaved is two scans in one.

    What tells them apart is any of `_TELL_TALES`: the acquisition's number alone is often empty. Exports that number every
    slice are left alone: then the number says nothing.
    """
    counted = [s.frame.acquisition for s in slices]
    if len(set(counted)) == len(counted):
        counted = [""] * len(counted)
    numbers = [
        (number, *s.file.technique, "/".join(s.frame.frame_type), s.frame.phase)
        for number, s in zip(counted, slices, strict=True)
    ]
    several = set(numbers)
    if len(several) < 2:
        return []
    changes = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1]]
    before, after = changes[0] - 1, changes[0]
    what = next(n for n in range(len(_TELL_TALES)) if numbers[before][n] != numbers[after][n])
    title = _TELL_TALES[what]
    named = (
        f"{title} is {numbers[before][what] or 'absent'} in {slices[before].frame.name}, "
        f"{numbers[after][what] or 'absent'} in {slices[after].frame.name}"
    )
    if len(changes) == len(several) - 1:
        text = f"the series holds {len(several)} acquisitions one after the other ({named}); see that the patient did not move"
        return [Problem(id="several-acquisitions", status="warn", message=text)]
    text = f"slices of {len(several)} acquisitions lie between each other ({named}); name or export one acquisition"
    return [Problem(id="mixed-acquisition", status="fail", message=text)]


def _header_problems(files: list[FileHeader]) -> list[Problem]:
    """Faults of single files, each kind once; what must not be mixed; what is unknown."""
    problems: list[Problem] = []
    for f in files:
        reason = unsupported_pixels(f.layout) if f.layout.bits_allocated else None
        if reason:
            problems.append(Problem(id="not-supported", status="fail", message=f"{f.name}: {reason}"))
            break
    for fault_id in dict.fromkeys(fault.id for f in files for fault in f.faults):
        faults = [fault for f in files for fault in f.faults if fault.id == fault_id]
        more = f" ({len(faults)} such findings)" if len(faults) > 1 else ""
        problems.append(Problem(id=fault_id, status="fail", message=faults[0].message + more))
    first = files[0]
    identity = {
        "patient_id": "Patient ID",
        "birth_date": "Patient's Birth Date",
        "sex": "Patient's Sex",
        "study_uid": "Study Instance UID",
    }
    for attribute, what in identity.items():
        other = next((f for f in files if getattr(f, attribute) != getattr(first, attribute)), None)
        if other is not None:  # the values are not shown: they may identify the patient
            text = f"{what} differs between {first.name} and {other.name}; these are not slices of one scan"
            problems.append(Problem(id="mixed-patient", status="fail", message=text))
    other = next((f for f in files if f.modality != first.modality), None)
    if other is not None:
        text = (
            f"Modality is {first.modality or 'absent'} in {first.name}, {other.modality or 'absent'} in {other.name}; these are "
            "not slices of one scan"
        )
        problems.append(Problem(id="mixed-modality", status="fail", message=text))
    frames = [frame for f in files for frame in f.frames]
    other_frame = next((frame for frame in frames if frame.rescale.stated != frames[0].rescale.stated), None)
    if other_frame is not None:
        text = f"only one of {frames[0].name} and {other_frame.name} has a Rescale Slope and Intercept; export the series again"
        problems.append(Problem(id="mixed-rescale", status="fail", message=text))
    problems += _unknowns(files)
    return problems


def _unknowns(files: list[FileHeader]) -> list[Problem]:
    """What the files leave open, and what reading takes on trust."""
    problems = []
    first = files[0]

    def warn(problem_id: str, text: str) -> None:
        problems.append(Problem(id=problem_id, status="warn", message=text))

    position = first.patient_position
    turned = next((f for f in files if f.patient_position != position), None)
    if turned is not None:
        text = (
            f"Patient Position is {position or 'absent'} in {first.name}, {turned.patient_position or 'absent'} in "
            f"{turned.name}; check how the patient lay, and that this is one scan"
        )
        warn("patient-position-unknown", text)
    elif not patient_position_known(position):
        known = ", ".join(sorted(PATIENT_POSITIONS))
        text = f"Patient Position is {position or 'absent'}, not one of {known}; check how the patient lay"
        warn("patient-position-unknown", text)
    if not first.series_uid:
        text = f"no Series Instance UID; the {len(files)} files of this folder were taken as one series"
        warn("series-uid-missing", text)
    if not any(f.frame_of_reference_uid for f in files):
        text = "no Frame of Reference UID; contours of other files cannot be checked to belong to this image"
        warn("frame-of-reference-unknown", text)
    assumed = next((f for f in files if f.syntax_assumed), None)
    if assumed is not None:
        name = uid_name(assumed.layout.transfer_syntax_uid)
        warn("transfer-syntax-missing", f"{assumed.name} names no transfer syntax; it was read as {name}")
    lossy = next((f for f in files if f.lossy == "01" or f.layout.transfer_syntax_uid in LOSSY_SYNTAXES), None)
    unsaid = next((f for f in files if f.layout.transfer_syntax_uid == JPEG_2000 and f.lossy != "00"), None)
    if lossy is not None:
        warn(
            "lossy-compression", f"{lossy.name} was compressed with loss: edges and HU are not as the scanner made them"
        )
    elif unsaid is not None:
        warn("lossy-compression", f"{unsaid.name} may have been compressed with loss: its header does not say")
    return problems
