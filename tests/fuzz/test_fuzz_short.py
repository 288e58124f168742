"""A short run of the fuzz harness, and that it would see what it looks for."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from iort_planner.imaging.series import load_series
from iort_planner.imaging.volume import ImageGrid, Volume
from tests.fuzz.cases import Case, make_case
from tests.fuzz.mutate_containers import Member, write_zip
from tests.fuzz.second_reading import compare
from tests.fuzz.seeds import Seed, SeedSet

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness measures by /proc")
SCANS = ("explicit", "implicit", "big-endian", "deflated", "enhanced", "xa3d", "rle", "j2k-frames-3-empty", "zip")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> SeedSet:
    """Built in a process of its own: pydicom's file-set writer leaves a warning behind."""
    target = tmp_path_factory.mktemp("seeds") / "seeds.pickle"
    code = "import pickle, pathlib, sys; from tests.fuzz.seeds import build; "
    code += "pathlib.Path(sys.argv[1]).write_bytes(pickle.dumps(build()))"
    subprocess.run([sys.executable, "-c", code, target], check=True, cwd=ROOT)
    loaded: SeedSet = pickle.loads(target.read_bytes())
    return loaded


def _case(seed: Seed) -> Case:
    files = dict(seed.files)
    if seed.entry == "scan.zip":
        files = {"scan.zip": write_zip([Member(name=n.encode(), data=data) for n, data in seed.files.items()])}
    return Case(number=0, family=seed.family, seed_name=seed.name, files=files, entry=seed.entry)


def test_a_short_run_finds_nothing() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--files", "600", "--seed", "20261122", "--seconds", "15"]
    command += ["--jobs", "2", "--command-every", "150", "--quiet", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(done.stdout)
    assert result["mutated_files"] >= 200
    assert result["bad"] == {}
    assert result["outcomes"]["loaded"] > 10  # some survive, so more than the refusals was tried
    assert result["second_reading_of_loaded"]["same"] > 10


def test_a_case_is_its_seed_and_number(seeds: SeedSet) -> None:
    for number in range(25):
        first, second = make_case(seeds, 7, number), make_case(seeds, 7, number)
        assert (first.files, first.entry, first.mutators) == (second.files, second.entry, second.mutators)
    assert make_case(seeds, 7, 0).files != make_case(seeds, 8, 0).files


@pytest.mark.parametrize("name", SCANS)
def test_second_reading_agrees_with_good_files_and_sees_wrong_volumes(
    seeds: SeedSet, tmp_path: Path, name: str
) -> None:
    seed = next(s for s in seeds.seeds if s.name == name)
    path = _case(seed).write(tmp_path / "case")
    image = load_series(path)
    assert compare(image, tmp_path / "case", seeds) == "same"

    grid, volume = image.volume.grid, image.volume
    wrong = [
        Volume(values=volume.values[::-1], grid=grid, hu_calibrated=False),
        Volume(values=volume.values + np.int16(1), grid=grid, hu_calibrated=False),
        Volume(values=np.roll(volume.values, 1, axis=2), grid=grid, hu_calibrated=False),
    ]
    moved, wider = grid.origin_lps_mm + np.array([0, 0, 0.3]), grid.spacing_mm * np.array([1, 1.05, 1])
    for change in ({"origin_lps_mm": moved}, {"spacing_mm": wider}):
        fields = {f.name: getattr(grid, f.name) for f in dataclasses.fields(ImageGrid)}
        wrong.append(Volume(values=volume.values, grid=ImageGrid(**{**fields, **change}), hu_calibrated=False))
    for other in wrong:
        assert compare(dataclasses.replace(image, volume=other), tmp_path / "case", seeds).startswith("wrong")


_BAD_LOADER = """
import os, sys, time
from pathlib import Path
import tests.fuzz.worker as worker
from iort_planner.errors import ImageError
from iort_planner.imaging import series

def bad(path, *args, **options):
    match int(path.name if path.name.isdecimal() else path.parent.name):
        case 0: raise KeyError("a traceback")
        case 1: raise ImageError("two\\nlines")
        case 2: raise ImageError("of Secret^Name")
        case 3: (Path(path if path.is_dir() else path.parent) / "new").write_text("x")
        case 4: open(Path.cwd().parent / "outside" / "bait0.dcm", "rb").read()
        case 5: bytearray(600 << 20)
        case 6: print("hello")
        case 7: os.abort()
        case 8: os.chdir("/")
        case 9: import subprocess; [subprocess.Popen(["sleep", "3"], stdout=-3, stderr=-3) for _ in range(5)]
    raise ImageError("fine")

series.load_series = bad
sys.exit(worker.main())
"""


def test_the_harness_sees_what_it_looks_for(seeds: SeedSet, tmp_path: Path) -> None:
    """A loader that does one forbidden thing in each of the first cases."""
    for folder in ("outside", "trap", "tmp", "home"):
        (tmp_path / folder).mkdir()
    (tmp_path / "outside" / "bait0.dcm").write_bytes(b"bait")
    (tmp_path / "seeds.pickle").write_bytes(pickle.dumps(seeds))
    command = [sys.executable, "-c", _BAD_LOADER, "--area", str(tmp_path), "--name", "w", "--seed", "1", "--step", "1"]
    command += ["--command-every", "0", "--only", "classic"]

    def seen(first: int, count: int) -> dict[int, set[str]]:
        done = subprocess.run(
            [*command, "--first", str(first)],
            cwd=ROOT,
            input="next\n" * count,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return {line["number"]: {kind for kind, _ in line["bad"]} for line in lines}

    found = seen(0, 8) | seen(8, 3)
    wanted = ("traceback", "not-one-line", "name-shown", "write", "outside-read", "memory", "printed")
    for number, kind in enumerate(wanted):
        assert kind in found[number], (number, kind, found[number])
    assert 7 not in found  # the worker is gone: the parent counts a crash
    assert "write" in found[8]
    assert "child-left" in found[9]
    assert found[10] <= {"disagree", "child-left"}
