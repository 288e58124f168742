"""One mutated case from (run's seed, number): the same two give the same bytes."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.mutate_bytes import BYTE_MUTATORS
from tests.fuzz.mutate_containers import Folder, Member, litter, mutate_zip, write_zip
from tests.fuzz.mutate_dicom import STRUCTURE_MUTATORS, mutate
from tests.fuzz.mutate_pixels import DEFLATED_MUTATORS, ENCAPSULATED_MUTATORS, NATIVE_MUTATORS
from tests.fuzz.seeds import FAMILIES, Seed, SeedSet

# How often each family is drawn. A compressed case costs some ten times a native one (a decoder process is started).
WEIGHTS = {"classic": 44, "multiframe": 26, "compressed": 7, "container": 13, "structure": 10}


@dataclass(kw_only=True)
class Case:
    """Files of one case by name, what else lies in its folder, and what the loader is given (empty: the folder)."""

    number: int
    family: str
    seed_name: str
    files: dict[str, bytes]
    entry: str
    mutators: list[str] = field(default_factory=list)
    mutated: int = 0
    folder: Folder = field(default_factory=Folder)

    def write(self, root: Path) -> Path:
        """Put the case on the disk; the path for the loader."""
        root.mkdir(parents=True)
        for name, data in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for name in self.folder.folders:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name, target in self.folder.links.items():
            (root / name).symlink_to(target)
        for name in self.folder.pipes:
            os.mkfifo(root / name)
        return root / self.entry if self.entry else root


def make_case(seeds: SeedSet, run_seed: int, number: int, only: str | None = None, outside: str = "/nowhere") -> Case:
    """Case ``number`` of a run; ``outside`` is the folder that links and names try to reach."""
    rng = random.Random(f"{run_seed}:{number}")
    families = [f for f in FAMILIES if only is None or f == only]
    family = rng.choices(families, [WEIGHTS[f] for f in families])[0]
    seed = rng.choice([s for s in seeds.seeds if s.family == family])
    case = Case(number=number, family=family, seed_name=seed.name, files=dict(seed.files), entry=seed.entry)
    match family:
        case "container":
            _container(rng, case, seed, seeds, outside)
        case "structure":
            _structure(rng, case)
        case _:
            _objects(rng, case, family, seeds)
    return case


def _objects(rng: random.Random, case: Case, family: str, seeds: SeedSet) -> None:
    """One file mutated, each in its own way, or all in the same way (so that the series still fits together)."""
    extra = {"compressed": ENCAPSULATED_MUTATORS}.get(family, NATIVE_MUTATORS)
    if "deflated" in case.seed_name:
        extra = DEFLATED_MUTATORS
    names = sorted(case.files)
    way = rng.choices(("one", "same", "each"), (45, 40, 15))[0]
    chosen = [rng.choice(names)] if way == "one" else names
    steps = rng.choices((1, 2, 4), (70, 22, 8))[0]
    same = rng.getrandbits(64)
    for name in chosen:
        own = random.Random(same) if way == "same" else rng
        original = case.files[name]
        for _ in range(steps):
            case.files[name], mutator = mutate(own, case.files[name], extra)
            case.mutators.append(mutator)
        case.mutated += case.files[name] != original
    if rng.random() < 0.02:  # half of one kind of file, half of another
        other = rng.choice(seeds.seeds)
        name, foreign = rng.choice(names), rng.choice(list(other.files.values()))
        data = case.files[name]
        case.files[name] = data[: rng.randrange(len(data) + 1)] + foreign[rng.randrange(len(foreign)) :]
        case.mutators.append(f"splice:{other.name}")
        case.mutated = max(case.mutated, 1)
    if len(names) == 1 and rng.random() < 0.3:
        case.entry = names[0]
    case.mutators = list(dict.fromkeys(case.mutators))


def _container(rng: random.Random, case: Case, seed: Seed, seeds: SeedSet, outside: str) -> None:
    if seed.name.startswith("zip"):
        files = dict(seed.files)
        if rng.random() < 0.4:
            name = rng.choice(sorted(files))
            files[name], mutator = mutate(rng, files[name])
            case.mutators.append(mutator)
        members = [Member(name=n.encode(), data=data, method=rng.choice((0, 8))) for n, data in files.items()]
        if rng.random() < 0.75:
            archive, mutator = mutate_zip(rng, members)
            case.mutators.append(mutator)
        else:
            archive = write_zip(members)
        if rng.random() < 0.4:
            mutator_ = rng.choice(BYTE_MUTATORS)
            # The end of an archive decides as much as its start.
            half = len(archive) // 2
            archive = archive[:half] + mutator_(rng, archive[half:]) if rng.random() < 0.5 else mutator_(rng, archive)
            case.mutators.append(f"zip:{mutator_.__name__}")
        case.files, case.mutated = {"scan.zip": archive}, 1
        if rng.random() < 0.15:  # an archive beside other files of a folder
            case.entry = ""
        return
    name = "DICOMDIR" if "DICOMDIR" in case.files and rng.random() < 0.8 else rng.choice(sorted(case.files))
    original = case.files[name]
    for _ in range(rng.choice((1, 1, 2, 3))):
        if original[128:132] == b"DICM":
            case.files[name], mutator = mutate(rng, case.files[name], STRUCTURE_MUTATORS)
        else:
            chosen = rng.choice(BYTE_MUTATORS)
            case.files[name], mutator = chosen(rng, case.files[name]), chosen.__name__
        case.mutators.append(mutator)
    case.mutated = int(case.files[name] != original)
    if rng.random() < 0.3:
        case.mutators.append(litter(rng, case.folder, outside))


def _structure(rng: random.Random, case: Case) -> None:
    (name,) = case.files
    original = case.files[name]
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = case.files[name]
        if original[128:132] == b"DICM":
            case.files[name], mutator = mutate(rng, data)
        elif name.endswith(".gz") and rng.random() < 0.7:
            import gzip
            import zlib

            try:
                plain = gzip.decompress(data)
            except (OSError, EOFError, zlib.error):
                plain = data
            case.files[name], mutator = gzip.compress(_head(rng, plain), mtime=0), "head"
        else:
            case.files[name], mutator = _head(rng, data), "head"
        case.mutators.append(mutator)
    case.mutated = int(case.files[name] != original)


_NRRD_LINES = (
    b"sizes: 99999 99999 99999",
    b"sizes: 0 16 4",
    b"sizes: -1 -1 -1",
    b"sizes: 16 16",
    b"dimension: 17",
    b"space directions: (nan,0,0) (0,1,0) (0,0,1)",
    b"space directions: none (1,0,0) (0,1,0)",
    b"space directions: (1e308,0,0) (0,1e308,0) (0,0,1e308)",
    b"space: scanner-xyz",
    b"encoding: hex",
    b"encoding: bzip2",
    b"encoding: ascii",
    b"data file: ../outside/bait0.dcm",
    b"data file: /etc/passwd",
    b"datafile: LIST",
    b"byte skip: -1",
    b"line skip: 99999999",
    b"byte skip: 99999999999",
    b"type: double",
    b"type: block",
    b"space origin: (inf,nan,0)",
    b"measurement frame: (1,0,0) (0,0,0) (0,0,1)",
    b"content: " + b"x" * 100_000,
)
_NIFTI_FIELDS = {
    0: 4,
    40: 2,
    42: 2,
    44: 2,
    46: 2,
    48: 2,
    70: 2,
    72: 2,
    76: 4,
    80: 4,
    84: 4,
    88: 4,
    108: 4,
    112: 4,
    252: 2,
    254: 2,
}
_NIFTI_FIELDS |= {256 + 4 * n: 4 for n in range(18)}


def _head(rng: random.Random, data: bytes) -> bytes:
    """A label map's head: a field of NIfTI, a line of NRRD, or just bytes."""
    if data[:4] == b"NRRD" and rng.random() < 0.6:
        lines = data.split(b"\n")
        end = lines.index(b"") if b"" in lines else len(lines)
        at = rng.randrange(1, max(2, end))
        new = rng.choice(_NRRD_LINES)
        key = new.split(b":")[0]
        same = [n for n, line in enumerate(lines[:end]) if line.split(b":")[0] == key]
        if same and rng.random() < 0.8:
            lines[same[0]] = new
        else:
            lines.insert(at, new)
        return b"\n".join(lines)
    if data[344:346] == b"n+" and rng.random() < 0.6:
        at = rng.choice(sorted(_NIFTI_FIELDS))
        size = _NIFTI_FIELDS[at]
        value = rng.choice(
            (b"\0" * 4, b"\xff" * 4, b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\x7f\xff\x7f", rng.randbytes(4))
        )
        return data[:at] + value[:size] + data[at + size :]
    return rng.choice(BYTE_MUTATORS)(rng, data)
