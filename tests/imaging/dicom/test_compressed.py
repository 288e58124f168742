from __future__ import annotations

import contextlib
import gc
import io
import itertools
import os
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

import iort_planner
from iort_planner.errors import ImageError
from iort_planner.imaging.dicom import compressed
from iort_planner.imaging.dicom.compressed import FrameDecoder, FrameFormat, FrameJob
from iort_planner.imaging.dicom.encapsulated import index_frames
from tests.imaging.compressed_factory import (
    DELIMITER,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_ANY,
    JPEG_LS,
    JPEG_LS_LOSSY,
    LOSSLESS,
    RLE,
    encapsulate,
    encode,
    form,
    item,
    some_words,
)

Words = npt.NDArray[Any]
# More in a long run: IORT_MUTATIONS=300 pytest tests/imaging/test_compressed.py -k damaged
MUTATIONS = int(os.environ.get("IORT_MUTATIONS", "12"))
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


def decode(form: FrameFormat, data: bytes, *, seconds: float = 8.0) -> Words:
    with FrameDecoder(children=1, seconds_a_frame=seconds) as decoder:
        [(index, words)] = decoder.decode([FrameJob(index=7, name="s1.dcm", format=form, data=data)])
    assert index == 7
    assert words.dtype == form.dtype
    assert words.shape == (form.rows, form.columns)
    assert words.flags.c_contiguous
    return words


def bits(words: Words, count: int) -> npt.NDArray[np.int64]:
    return words.astype(np.int64) & ((1 << count) - 1)


def children() -> list[int]:
    """Processes this one has started and not reaped, zombies too."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends while we look
            found += map(int, (task / "children").read_text().split())
    return found


@pytest.fixture
def no_children() -> Iterator[None]:
    """Start without children of ours and end without any: killed and reaped."""
    compressed.close_idle_children()
    before = set(children())
    yield
    compressed.close_idle_children()
    gc.collect()  # a Popen that was forgotten would warn here, and warnings are errors
    assert set(children()) <= before


# --- real files -------------------------------------------------------------------------------------------


def read(path: Path, frames: list[int] | None = None) -> tuple[pydicom.Dataset, list[Words]]:
    """Header by pydicom, frames by ours."""
    with path.open("rb") as file:
        data = pydicom.dcmread(file, stop_before_pixels=True)
        offset = file.tell() + 12
        syntax = str(data.file_meta.TransferSyntaxUID)
        count = int(data.get("NumberOfFrames", 1))
        layout = FrameFormat(
            transfer_syntax_uid=syntax,
            rows=data.Rows,
            columns=data.Columns,
            bits_allocated=data.BitsAllocated,
            bits_stored=data.BitsStored,
            signed=data.PixelRepresentation == 1,
        )
        index = index_frames(
            file,
            offset=offset,
            length_limit=path.stat().st_size,
            frames=count,
            name=path.name,
            transfer_syntax_uid=syntax,
        )
        assert len(index.fragments) == count
        jobs = (
            FrameJob(
                index=k,
                name=path.name,
                format=layout,
                data=index.read(file, k, at_most=layout.most_compressed_bytes),
            )
            for k in (frames or range(count))
        )
        with FrameDecoder() as decoder:
            done = dict(decoder.decode(jobs))
    return data, [done[k] for k in sorted(done)]


@pytest.mark.shared
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_lossless_coding_of_one_slice_gives_the_uncompressed_values(shared_data: Path, syntax: str) -> None:
    folder = shared_data / "dicom_formats" / "transfer_syntaxes"
    [path] = folder.glob(f"*_{syntax}.dcm")
    plain = pydicom.dcmread(folder / "CTImage.dcm").pixel_array
    np.testing.assert_array_equal(read(path)[1][0], plain)


@pytest.mark.shared
# Widest and median error against the uncompressed slice, in HU. The errors are the files' own: SimpleITK gives the same.
@pytest.mark.parametrize(
    ("syntax", "most", "median"),
    [(JPEG_2000, 5, 0), (JPEG_LS_LOSSY, 1, 1), (JPEG_EXTENDED, 36, 3), (JPEG_BASELINE, 65, 22)],
)
def test_lossy_codings_agree_with_simpleitk_and_lie_near_the_original(
    shared_data: Path, syntax: str, most: float, median: float
) -> None:
    import SimpleITK

    folder = shared_data / "dicom_formats" / "transfer_syntaxes"
    [path] = folder.glob(f"*_{syntax}.dcm")
    data, [words] = read(path)
    hu = words * float(data.RescaleSlope) + float(data.RescaleIntercept)
    np.testing.assert_allclose(hu, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0], atol=1e-6)
    error = np.abs(hu - (pydicom.dcmread(folder / "CTImage.dcm").pixel_array - 1024.0))
    assert error.max() <= most
    assert np.median(error) <= median


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["totalseg_t11_t12_j2k/ct", "lidc0314_cbct_needle/ct_export"])
def test_real_series_agree_with_pydicom(shared_data: Path, folder: str) -> None:
    for path in sorted((shared_data / folder).iterdir())[:3]:
        np.testing.assert_array_equal(read(path)[1][0], pydicom.dcmread(path).pixel_array)


@pytest.mark.shared
def test_frames_of_a_real_multi_frame_file_agree_with_pydicom(shared_data: Path) -> None:
    from pydicom.pixels.utils import pixel_array

    path = shared_data / "lidc0314_cbct_needle" / "xa3d.dcm"
    wanted = [0, 57, 227]
    for frame, words in zip(wanted, read(path, wanted)[1], strict=True):
        np.testing.assert_array_equal(words, pixel_array(path, index=frame))


# --- values, bits and signs -------------------------------------------------------------------------------

KINDS = [("u1", 8), ("i1", 8), ("u2", 12), ("i2", 12), ("u2", 16), ("i2", 16), ("i2", 13)]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(("dtype", "stored"), KINDS)
def test_lossless_frames_come_back_word_for_word(syntax: str, dtype: str, stored: int) -> None:
    words = some_words(dtype, stored)
    np.testing.assert_array_equal(decode(form(syntax, words, stored), encode(words, syntax, stored)), words)


def test_rle_of_an_odd_number_of_pixels_padded_before_packing_is_read() -> None:
    words = some_words("u2", 16, shape=(37, 53))
    segments = []
    for shift in (8, 0):
        plane = (words >> shift).astype(np.uint8).tobytes() + b"\0"
        # Two pixels a literal run, so that the padding pixel is in the last run.
        segments.append(b"".join(b"\x01" + plane[n : n + 2] for n in range(0, len(plane), 2)))
    head = struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13)
    np.testing.assert_array_equal(decode(form(RLE, words), head + b"".join(segments) + b"\0" * 9), words)


@pytest.mark.parametrize("syntax", LOSSLESS[1:])
def test_the_header_says_the_sign_when_the_stream_says_another(syntax: str) -> None:
    """The stored bits are the same; pydicom's sign correction is the model."""
    words = some_words("i2", 16)
    stream = encode(words.view("u2"), syntax, signed=False)
    np.testing.assert_array_equal(decode(form(syntax, words), stream), words)
    unsigned = some_words("u2", 16)
    stream = encode(unsigned.view("i2"), syntax, signed=True)
    np.testing.assert_array_equal(decode(form(syntax, unsigned), stream), unsigned)


def signed_j2k() -> tuple[bytes, Words]:
    """An 8-bit signed stream: marking an unsigned one as signed takes the level shift of 128 away (T.800 G.1)."""
    words = some_words("u1", 8)
    stream = bytearray(encode(words, JPEG_2000_LOSSLESS))
    assert stream[42] == 7  # Ssiz: 8 bits, unsigned
    stream[42] |= 0x80
    return bytes(stream), words.astype(np.int16) - 128


def test_narrow_signed_jpeg_2000_is_extended_by_its_sign() -> None:
    stream, values = signed_j2k()
    np.testing.assert_array_equal(decode(form(JPEG_2000_LOSSLESS, values.astype("i1")), stream), values)
    np.testing.assert_array_equal(decode(form(JPEG_2000_LOSSLESS, values), stream), values)  # 16 bits stored


def test_narrow_jpeg_2000_of_another_sign_than_the_header_is_refused() -> None:
    stream, values = signed_j2k()
    with pytest.raises(ImageError, match="8 bits of another sign where the header says 16 bits unsigned"):
        decode(form(JPEG_2000_LOSSLESS, values.astype("u2")), stream)
    # With as many bits as stored there is nothing to make up: the bits are the value.
    same = decode(form(JPEG_2000_LOSSLESS, values.astype("u1")), stream)
    np.testing.assert_array_equal(bits(same, 8), bits(values, 8))


@pytest.mark.parametrize("syntax", LOSSLESS[1:])
def test_wide_streams_of_narrow_values_are_read_and_of_wide_values_refused(syntax: str) -> None:
    for dtype in ("u2", "i2"):
        words = some_words(dtype, 12)
        stream = encode(words, syntax, 16)
        np.testing.assert_array_equal(decode(form(syntax, words, 12), stream), words)
        with pytest.raises(ImageError, match="values that the header's 11 bits stored cannot"):
            decode(form(syntax, words, 11), stream)


def test_jpeg_2000_in_a_jp2_box_is_read() -> None:
    words = some_words("u2", 12)
    boxes = (
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x14ftypjp2 \x00\x00\x00\x00jp2 " + b"\x00\x00\x00\x00jp2c"
    )
    np.testing.assert_array_equal(decode(form(JPEG_2000, words), boxes + encode(words, JPEG_2000_LOSSLESS)), words)


# --- streams that are not what the header says ------------------------------------------------------------


SIZES = [(38, 52), (37, 53), (40, 53), (512, 512)]


# RLE has a number of pixels, not a width: rows and columns exchanged cannot be seen there.
@pytest.mark.parametrize(
    ("syntax", "shape"), [*itertools.product(LOSSLESS, SIZES), *itertools.product(LOSSLESS[1:], [(53, 38)])]
)
def test_another_size_than_the_header_says_is_refused(syntax: str, shape: tuple[int, int]) -> None:
    stream = encode(some_words("u2", 12), syntax)
    with pytest.raises(ImageError, match=r"s1\.dcm: its .* the header says"):
        decode(form(syntax, np.zeros(shape, "u2")), stream)


def test_rle_with_more_pixels_than_the_header_says_is_refused_where_it_can_be_seen() -> None:
    words = some_words("u2", 12)
    with pytest.raises(ImageError, match="2 RLE segments where 8 bits allocated need 1"):
        decode(form(RLE, words.astype("u1")), encode(words, RLE))


@pytest.mark.parametrize(
    ("syntax", "other"),
    [
        (JPEG_LOSSLESS, JPEG_LS),
        (JPEG_LS, JPEG_LOSSLESS),
        (JPEG_2000, JPEG_LS),
        (JPEG_BASELINE, JPEG_LOSSLESS),
        (JPEG_LS, JPEG_2000),
    ],
)
def test_another_coding_than_the_transfer_syntax_says_is_refused(syntax: str, other: str) -> None:
    words = some_words("u2", 12)
    with pytest.raises(ImageError, match=r"a JPEG stream of another kind|not a JPEG"):
        decode(form(syntax, words), encode(words, other))


def test_wide_pixels_in_a_narrow_header_and_colour_are_refused() -> None:
    words = some_words("u2", 12)
    with pytest.raises(ImageError, match="16 bits a pixel where the header allocates 8"):
        decode(form(JPEG_LS, words.astype("u1")), encode(words, JPEG_LS))
    stream = bytearray(encode(words, JPEG_2000_LOSSLESS))
    stream[40:42] = (0, 3)  # Csiz
    with pytest.raises(ImageError, match="3 colours"):
        decode(form(JPEG_2000_LOSSLESS, words), bytes(stream))


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9])
def test_a_cut_stream_is_refused(syntax: str, part: float) -> None:
    words = some_words("u2", 12)
    stream = encode(words, syntax)
    with pytest.raises(ImageError, match=r"^s1\.dcm: its .*; export the series again, uncompressed if possible$"):
        decode(form(syntax, words), stream[: int(part * len(stream))])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.4.53"}, "cannot be decoded"),
        ({"rows": 0}, "pixels are outside"),
        ({"rows": 65535, "columns": 65535}, "pixels are outside"),
        ({"bits_allocated": 32}, "not supported"),
        ({"bits_stored": 17}, "not supported"),
    ],
)
@linux
def test_what_no_decoder_should_be_asked_is_refused_without_a_child(
    no_children: None, change: dict[str, Any], reason: str
) -> None:
    words = some_words("u2", 12)
    fields = {name: getattr(form(RLE, words), name) for name in FrameFormat.__slots__}
    before = children()
    with FrameDecoder() as decoder, pytest.raises(ImageError, match=reason):
        next(decoder.decode([FrameJob(index=0, name="s1.dcm", format=FrameFormat(**fields | change), data=b"")]))
    assert children() == before


def test_more_compressed_bytes_than_pixels_can_need_are_refused() -> None:
    layout = form(RLE, some_words("u1", 8))
    with pytest.raises(ImageError, match="need at most"):
        decode(layout, bytes(layout.most_compressed_bytes + 1))


@pytest.mark.parametrize("syntax", [*LOSSLESS[:1], *LOSSLESS[2:], JPEG_BASELINE])
def test_damaged_streams_end_in_an_image_error_or_in_words(syntax: str) -> None:
    """Never anything else, and never slowly."""
    words = some_words("u1", 8) if syntax == JPEG_BASELINE else some_words("u2", 12)
    good = encode(words, syntax)
    layout = form(syntax, words)
    rng = random.Random(f"2026 {syntax}")
    for _ in range(MUTATIONS):
        data = bytearray(good)
        end = rng.choice((100, len(data)))  # heads do more harm than bodies
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(min(end, len(data)))] = rng.randrange(256)
        start = time.monotonic()
        message = ""
        try:
            decode(layout, bytes(data))
        except ImageError as error:
            message = str(error)
        assert message == "" or re.fullmatch(r"s1\.dcm: its [ -~]+; export the series again, [ -~]+", message)
        assert time.monotonic() - start < 10


def test_damage_that_the_jpeg_decoder_only_mentions_is_refused() -> None:
    """libjpeg fills up what is missing and goes on; its words on stderr are all there is."""
    words = some_words("u2", 12, shape=(64, 64))
    stream = bytearray(encode(words, JPEG_LOSSLESS))
    middle = len(stream) // 2
    stream[middle : middle + 2] = b"\xff\xd9"  # the image ends early
    with pytest.raises(ImageError, match="the stream is damaged"):
        decode(form(JPEG_LOSSLESS, words), bytes(stream))


# --- processes --------------------------------------------------------------------------------------------


def one_job(index: int = 0, words: Words | None = None) -> FrameJob:
    words = some_words("u2", 12) if words is None else words
    return FrameJob(index=index, name=f"s{index}.dcm", format=form(RLE, words), data=encode(words, RLE))


@linux
def test_children_are_used_again_and_a_dead_one_is_replaced(no_children: None) -> None:
    decode(one_job().format, one_job().data)
    [child] = children()
    os.kill(child, signal.SIGINT)  # Ctrl-C reaches the whole group; the parent decides
    decode(one_job().format, one_job().data)
    assert children() == [child]
    with FrameDecoder() as decoder:
        next(decoder.decode([one_job()]))  # nothing is under way after the only frame
    assert children() == [child]
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    decode(one_job().format, one_job().data)
    assert child not in children()


@linux
def test_a_child_that_hangs_is_killed_in_time(no_children: None) -> None:
    decode(one_job().format, one_job().data)
    [child] = children()
    os.kill(child, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"s1\.dcm: its RLE pixels could not be decoded: took over 0\.3 s; export"):
        decode(one_job().format, one_job().data, seconds=0.3)
    assert time.monotonic() - start < 2
    assert children() == []


@linux
def test_a_child_that_does_not_read_is_killed_in_time(no_children: None) -> None:
    """A job larger than the pipe: the parent is stuck in writing."""
    big = one_job(words=some_words("u2", 16, shape=(700, 700)))
    assert len(big.data) > 2**19
    decode(one_job().format, one_job().data)
    os.kill(children()[0], signal.SIGSTOP)
    with pytest.raises(ImageError, match="took over"):
        decode(big.format, big.data, seconds=0.3)
    assert children() == []


@linux
def test_a_child_killed_at_work_is_named(no_children: None) -> None:
    decode(one_job().format, one_job().data)
    [child] = children()
    os.kill(child, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (child, signal.SIGKILL))
    killer.start()
    with pytest.raises(ImageError, match=r"the decoder stopped \(signal 9\)"):
        decode(one_job().format, one_job().data)
    killer.join()
    assert children() == []


@linux
def test_memory_is_limited(no_children: None, monkeypatch: pytest.MonkeyPatch) -> None:
    words = some_words("u2", 12, shape=(1024, 1024))
    monkeypatch.setattr(compressed, "memory_limit_mb", lambda form: 1)
    with pytest.raises(ImageError, match="needed over 1 MB"):
        decode(form(RLE, words), encode(words, RLE))
    with pytest.raises(ImageError, match=r"s1\.dcm: its JPEG 2000 lossless pixels could not be decoded"):
        decode(form(JPEG_2000_LOSSLESS, words), encode(words, JPEG_2000_LOSSLESS))


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS_ANY, JPEG_LOSSLESS, JPEG_LS, JPEG_2000_LOSSLESS])
def test_the_memory_limit_suffices_for_noise(syntax: str) -> None:
    words = np.random.default_rng(3).integers(0, 2**16, (1024, 1024), dtype=np.uint16)
    np.testing.assert_array_equal(decode(form(syntax, words), encode(words, syntax)), words)


@linux
def test_good_frames_are_not_refused_by_chance(no_children: None) -> None:
    """Address space differs from child to child: with a second malloc arena, 2 % of fresh children refused a good frame."""
    words = np.random.default_rng(5).integers(0, 4096, (512, 512)).astype("u2")
    stream, how = encode(words, JPEG_2000_LOSSLESS), form(JPEG_2000_LOSSLESS, words)
    for _ in range(25):
        compressed.close_idle_children()
        np.testing.assert_array_equal(decode(how, stream), words)


def test_limits_of_a_child(no_children: None) -> None:
    decode(one_job().format, one_job().data)
    limits = Path(f"/proc/{children()[0]}/limits").read_text()
    soft = {line[:26].strip(): line[26:47].strip() for line in limits.splitlines()[1:]}
    assert soft["Max core file size"] == "1"  # less than a page: no core, and none through a pipe either (core(5))
    assert int(soft["Max address space"]) < 2**30
    assert int(soft["Max cpu time"]) <= 30
    assert Path(f"/proc/{children()[0]}/fd/2").resolve().name.startswith("pipe:")


@linux
def test_stopping_early_leaves_no_child(no_children: None) -> None:
    with FrameDecoder(children=2) as decoder:
        for _ in decoder.decode(one_job(k) for k in range(50)):
            break
    assert children() == []
    for _ in FrameDecoder(children=2).decode(one_job(k) for k in range(50)):
        break
    gc.collect()
    assert children() == []


@linux
def test_an_error_of_the_caller_leaves_no_child(no_children: None) -> None:
    def jobs() -> Iterator[FrameJob]:
        yield one_job(0)
        yield one_job(1)
        raise ImageError("cannot read s2.dcm")

    with FrameDecoder(children=2) as decoder, pytest.raises(ImageError, match=r"s2\.dcm"):
        list(decoder.decode(jobs()))
    assert children() == []


def test_frames_come_once_each_and_jobs_are_pulled_one_ahead() -> None:
    pulled = 0

    def jobs() -> Iterator[FrameJob]:
        nonlocal pulled
        for k in range(40):
            pulled += 1
            yield one_job(k, words)

    words = some_words("u2", 12)
    seen = []
    with FrameDecoder(children=3) as decoder:
        for index, got in decoder.decode(jobs()):
            seen.append(index)
            assert pulled <= len(seen) + 3
            np.testing.assert_array_equal(got, words)
    assert sorted(seen) == list(range(40))


SCRIPT = """
import os, sys
sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]  # the parent's own care
{setup}
from iort_planner.imaging.dicom.compressed import FrameDecoder, FrameFormat, FrameJob
form = FrameFormat(transfer_syntax_uid={syntax!r}, rows=38, columns=53, bits_allocated=16, bits_stored=16, signed=False)
data = open("stream", "rb").read()
{close}
with FrameDecoder(children=2) as decoder:
    done = dict(decoder.decode(FrameJob(index=k, name="s", format=form, data=data) for k in range(3)))
with open("out", "wb") as file:
    file.write(done[2].tobytes())
"""


@pytest.mark.parametrize("case", ["plain", "closed", "zip"])
def test_a_plain_script_works_in_a_folder_of_traps(tmp_path: Path, case: str) -> None:
    """No main guard; `dl`, gdcm.py and others lie in the working directory; stdin and stdout closed; a zipped package."""
    words = some_words("u2", 12)
    (tmp_path / "stream").write_bytes(encode(words, JPEG_2000_LOSSLESS))
    (tmp_path / "dl").mkdir()
    for trap in ("gdcm.py", "_gdcm.py", "struct.py", "pydicom.py"):
        (tmp_path / trap).write_text("raise SystemExit('trap')")
    package = Path(iort_planner.__file__).parent
    home = package.parent
    if case == "zip":
        home = tmp_path / "package.zip"
        with zipfile.ZipFile(home, "w") as archive:
            for file in [*package.glob("*.py"), *(package / "imaging").rglob("*.py")]:
                archive.write(file, file.relative_to(package.parent))
    (tmp_path / "script.py").write_text(
        SCRIPT.format(
            syntax=JPEG_2000_LOSSLESS,
            setup=f"sys.path.insert(0, {str(home)!r})",
            close="os.close(0); os.close(1); os.close(2)" if case == "closed" else "",
        )
    )
    run = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, timeout=30, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes() == words.tobytes()


INTERRUPTED = """
import itertools
from iort_planner.imaging.dicom.compressed import FrameDecoder, FrameFormat, FrameJob
form = FrameFormat(transfer_syntax_uid={syntax!r}, rows=38, columns=53, bits_allocated=16, bits_stored=16, signed=False)
data = open("stream", "rb").read()
try:
    with FrameDecoder(children=2) as decoder:
        for k, _ in decoder.decode(FrameJob(index=k, name="s", format=form, data=data) for k in itertools.count()):
            if k == 4:
                print("up", flush=True)
except KeyboardInterrupt:
    print("stopped")
"""


@posix
def test_ctrl_c_stops_without_a_word_of_the_child(tmp_path: Path) -> None:
    """The whole group gets the signal, as from a terminal."""
    (tmp_path / "stream").write_bytes(encode(some_words("u2", 12), JPEG_2000_LOSSLESS))
    (tmp_path / "script.py").write_text(INTERRUPTED.format(syntax=JPEG_2000_LOSSLESS))
    with subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(iort_planner.__file__).parents[1])},
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        os.killpg(run.pid, signal.SIGINT)
        try:
            out, err = run.communicate(timeout=30)
        finally:
            run.kill()  # else the block's end would wait for it for ever
    assert (out, err, run.returncode) == (b"stopped\n", b"", 0)


# --- where the frames of a file lie -----------------------------------------------------------------------


def index_of(
    data: bytes,
    frames: int,
    *,
    syntax: str = JPEG_LS,
    extended: tuple[bytes, bytes] | None = None,
    size: int | None = None,
) -> list[bytes]:
    file = io.BytesIO(b"head" + data)
    limit = len(data) + 4 if size is None else size
    index = index_frames(
        file,
        offset=4,
        length_limit=limit,
        frames=frames,
        name="m.dcm",
        transfer_syntax_uid=syntax,
        extended_offsets=extended,
    )
    return [index.read(file, k, at_most=10_000) for k in range(len(index.fragments))]


def pieces(frame: int, count: int) -> list[bytes]:
    """Fragments of a made-up JPEG frame; the first starts like an image."""
    body = [bytes([frame, part]) * (8 + 2 * frame + part) for part in range(count)]
    return [b"\xff\xd8\xff\xf7" + body[0], *body[1:]]


ONE_EACH = [pieces(k, 1) for k in range(4)]
SEVERAL = [pieces(0, 2), pieces(1, 1), pieces(2, 3)]


@pytest.mark.parametrize("table", ["right", "empty", [0, 1, 2, 3], [0], [5, 4, 3, 2]])
def test_a_fragment_a_frame_needs_no_table(table: list[int] | str) -> None:
    assert index_of(encapsulate(ONE_EACH, table=table), 4) == [b"".join(frame) for frame in ONE_EACH]


@pytest.mark.parametrize("table", ["right", "empty", [0, 3, 9], [0, 0, 0], [7, 8, 9], [0, 2**32 - 1, 5]])
def test_frames_of_several_fragments_are_found_by_the_table_or_by_their_start(table: list[int] | str) -> None:
    assert index_of(encapsulate(SEVERAL, table=table), 3) == [b"".join(frame) for frame in SEVERAL]


def test_frames_of_several_fragments_are_found_by_the_table_where_starts_are_not_seen() -> None:
    frames = [[b"abcdefgh", b"ijklmnop"], [b"qrstuvwx"]]
    assert index_of(encapsulate(frames, table="right"), 2) == [b"abcdefghijklmnop", b"qrstuvwx"]
    with pytest.raises(ImageError, match="3 pieces of compressed pixels, 0 of which start an image, for 2 frames"):
        index_of(encapsulate(frames), 2)


def test_the_extended_offset_table_is_used() -> None:
    frames = [[b"abcdefgh", b"ijklmnop"], [b"qrstuvwx"]]
    table = (struct.pack("<2Q", 0, 32), struct.pack("<2Q", 16, 8))
    assert index_of(encapsulate(frames), 2, extended=table) == [b"abcdefghijklmnop", b"qrstuvwx"]
    for wrong in (b"", b"\0" * 16, struct.pack("<2Q", 0, 33), struct.pack("<2Q", 0, 2**63)):
        with pytest.raises(ImageError, match="for 2 frames"):
            index_of(encapsulate(frames), 2, extended=(wrong, b""))


def test_a_single_frame_is_all_its_fragments() -> None:
    frame = pieces(1, 5)
    for table in ("right", "empty"):
        assert index_of(encapsulate([frame], table=table), 1) == [b"".join(frame)]


@pytest.mark.parametrize("table", ["right", "empty"])
def test_several_images_under_one_frame_are_refused(table: str) -> None:
    with pytest.raises(ImageError, match="4 pieces of compressed pixels, 4 of which start an image, for 1 frame"):
        index_of(encapsulate(ONE_EACH, table=table), 1)


def test_rle_in_several_fragments_a_frame_is_refused() -> None:
    with pytest.raises(ImageError, match="6 pieces of RLE pixels for 3 frames"):
        index_of(encapsulate(SEVERAL, table="right"), 3, syntax=RLE)


def test_a_missing_delimiter_is_no_harm_and_a_missing_frame_is() -> None:
    data = encapsulate(ONE_EACH)
    assert len(index_of(data[: -len(DELIMITER)], 4)) == 4
    with pytest.raises(ImageError, match=r"^m\.dcm: 4 pieces of compressed pixels for 5 frames; the file is damaged"):
        index_of(data, 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends in its compressed pixels"),
        (b"\xfe\xff\x00\xe0\x00", "ends in its compressed pixels"),
        (item(b""), "no compressed pixels"),
        (item(b"") + DELIMITER, "no compressed pixels"),
        (item(b"") + b"\x08\x00\x05\x00abcdefgh", r"\(0008,0005\) stands at byte 12 where"),
        (item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + b"12", "a piece of 4294967295 bytes at byte 20"),
        (item(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"123", "a piece of 4 bytes at byte 20 of a file of 23"),
        (struct.pack("<HHI", 0xFFFE, 0xE000, 2**31) + item(b"12345678"), "a piece of 2147483648 bytes"),
        (item(b"") * 100_002, "more than 100000 pieces"),
    ],
)
def test_broken_items_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        index_of(data, 1)


def test_lengths_are_judged_by_the_stated_size_and_frames_by_their_limit() -> None:
    with pytest.raises(ImageError, match="of a file of 30"):
        index_of(encapsulate(ONE_EACH), 4, size=30)
    with pytest.raises(ImageError, match="frame 1 has 20004 bytes where its pixels need at most 10000"):
        index_of(encapsulate([[b"\xff\xd8\xff\xf7" + b"12" * 10_000]]), 1)


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    data = encapsulate(ONE_EACH)
    file = io.BytesIO(data)
    index = index_frames(file, offset=0, length_limit=len(data), frames=4, name="m.dcm", transfer_syntax_uid=JPEG_LS)
    file.truncate(len(data) - 20)
    with pytest.raises(ImageError, match="the file ends in frame 4"):
        index.read(file, 3, at_most=10_000)
