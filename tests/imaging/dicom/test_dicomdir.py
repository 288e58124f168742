"""A DICOMDIR: the files it names are read, if they lie below it; its own chains of records are not followed."""

from __future__ import annotations

import gc
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.fileset import FileSet

from iort_planner.errors import ImageError
from iort_planner.imaging.series import load_series
from tests.imaging.dicom_factory import Scan, slice_dataset, write_scan
from tests.imaging.reading import SCAN, bounded, ignored, problems, read, refused, stays_empty

# Reported, not mended here: a test that fails on purpose until the loader is mended.


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from stays_empty(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file-set as discs have it: upper-case names in folders, and a DICOMDIR that lists them."""
    files = FileSet()
    for k in range(SCAN.size[2]):
        data = slice_dataset(SCAN, k, instance=k)
        data.StudyDate, data.StudyTime, data.StudyID, data.SeriesNumber = "20260102", "030405", "1", "1"
        files.add(data)
    folder = tmp_path_factory.mktemp("pressed") / "disc"
    files.write(folder)
    del files
    with warnings.catch_warnings():  # its temporary folder goes now, not in the midst of another test
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return folder


@pytest.fixture
def directory(pressed: Path, tmp_path: Path) -> Path:
    """The DICOMDIR of a copy that may be changed."""
    shutil.copytree(pressed, tmp_path / "disc")
    return tmp_path / "disc" / "DICOMDIR"


def edit_records(directory: Path, edit: Callable[[int, FileDataset], None]) -> None:
    """Change the records of images."""
    data = dcmread(directory)
    images = [r for r in data.DirectoryRecordSequence if r.DirectoryRecordType == "IMAGE"]
    for number, record in enumerate(images):
        edit(number, record)
    data.save_as(directory, enforce_file_format=True)


def test_dicomdir_and_its_folder_are_read(directory: Path, tmp_path: Path) -> None:
    read(directory)
    assert ignored(directory) == {}
    read(directory.parent)
    assert ignored(directory.parent) == {"Media Storage Directory Storage": 1}


def test_dicomdir_reads_what_it_names_and_nothing_else(directory: Path, tmp_path: Path) -> None:
    write_scan(directory.parent / "more", Scan(series_uid="1.2.3"))
    read(directory)
    with pytest.raises(ImageError, match="several series"):
        load_series(directory.parent)


def test_names_in_lower_case_on_the_disc_are_found(directory: Path, tmp_path: Path) -> None:
    for path in sorted(directory.parent.rglob("*"), key=lambda p: -len(p.parts)):
        path.rename(path.with_name(path.name.lower()))
    read(directory.with_name("dicomdir"))


def test_dicomdir_in_a_zip_does_not_matter(directory: Path, tmp_path: Path) -> None:
    disc = directory.parent
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for file in disc.rglob("*"):
            made.write(file, file.relative_to(disc).as_posix())
    read(tmp_path / "a.zip")


def test_missing_file_of_a_dicomdir_is_named(directory: Path, tmp_path: Path) -> None:
    files = sorted(file for file in directory.parent.rglob("*") if file.is_file() and file != directory)
    files[2].unlink()
    refused(directory, "1 slice missing between")
    name = files[2].relative_to(directory.parent).as_posix()
    assert f"{name} (named by the DICOMDIR, not there)" in problems(directory)["unreadable-file"]


@pytest.mark.parametrize(
    "file_id",
    [
        ["..", "x"],
        ["PT000000", "..", "..", "x"],
        ["", "etc", "passwd"],
        ["/etc/passwd"],
        ["C:", "x"],
        ["."],
        ["a/../../x"],
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on names that are wrong on purpose
def test_dicomdir_that_names_files_outside_is_refused(directory: Path, tmp_path: Path, file_id: list[str]) -> None:
    (tmp_path / "x").write_bytes((directory.parent / "PT000000" / "ST000000" / "SE000000" / "IM000003").read_bytes())

    def edit(number: int, record: FileDataset) -> None:
        if number == 3:
            record.ReferencedFileID = file_id

    edit_records(directory, edit)
    refused(directory, "DICOMDIR names the file", "which is no file below it")


def test_links_out_of_the_disc_are_not_followed(directory: Path, tmp_path: Path) -> None:
    file = directory.parent / "PT000000" / "ST000000" / "SE000000" / "IM000003"
    file.rename(tmp_path / "elsewhere.dcm")
    file.symlink_to(tmp_path / "elsewhere.dcm")
    refused(directory, "1 slice missing between")
    assert "IM000003 (a link out of the DICOMDIR's folder)" in problems(directory)["unreadable-file"]
    refused(directory.parent, "1 slice missing between")
    assert ignored(directory.parent)["link out of the folder or to a folder"] == 1


@pytest.mark.parametrize("offset", [0, 1, 400, 2**31, 2**32 - 1])
def test_offsets_of_records_are_not_followed(directory: Path, tmp_path: Path, offset: int) -> None:
    """Chains that run in circles or out of the file: records are read as they stand."""
    data = dcmread(directory)
    for record in data.DirectoryRecordSequence:
        record.OffsetOfTheNextDirectoryRecord = offset
        record.OffsetOfReferencedLowerLevelDirectoryEntity = offset
    data.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = offset
    data.save_as(directory, enforce_file_format=True)
    read(directory)


@pytest.mark.parametrize(
    "share",
    [
        0.2,
        0.5,
        0.9,
        0.999,
    ],
)
def test_cut_off_dicomdir_is_refused(directory: Path, tmp_path: Path, share: float) -> None:
    data = directory.read_bytes()
    directory.write_bytes(data[: int(len(data) * share)])
    refused(directory, "DICOMDIR")


def test_dicomdir_that_names_itself_and_files_twice(directory: Path, tmp_path: Path) -> None:

    def edit(number: int, record: FileDataset) -> None:
        if number in (5, 6, 7):
            again = ["PT000000", "ST000000", "SE000000", "IM000004"]
            record.ReferencedFileID = "DICOMDIR" if number == 7 else again

    edit_records(directory, edit)
    with bounded(directory):
        assert load_series(directory).volume.grid.size_voxels == (13, 11, 5)
    assert ignored(directory) == {"Media Storage Directory Storage": 1}
