"""Decoding of compressed frames in child processes.

A damaged or hostile stream can make a decoder abort, hang or eat memory. That happens in a child
(`decode_worker`) which is watched from here and ends as one `ImageError`. Limits on the child: the clock on
every system; address space, CPU time and core dumps on Linux; on macOS the system ignores the first of
these, on Windows there are none of the three (the size of a frame is limited everywhere).
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from iort_planner.errors import ImageError
from iort_planner.imaging.dicom import decode_worker as worker

Words: TypeAlias = npt.NDArray[Any]

_NAMES = {
    worker.RLE: "RLE",
    worker.JPEG_BASELINE: "JPEG baseline",
    worker.JPEG_EXTENDED: "JPEG extended",
    worker.JPEG_LOSSLESS: "JPEG lossless",
    worker.JPEG_LOSSLESS_FIRST_ORDER: "JPEG lossless",
    worker.JPEG_LS_LOSSLESS: "JPEG-LS lossless",
    worker.JPEG_LS_LOSSY: "JPEG-LS near-lossless",
    worker.JPEG_2000_LOSSLESS: "JPEG 2000 lossless",
    worker.JPEG_2000: "JPEG 2000",
}
SUPPORTED_SYNTAXES = frozenset(_NAMES)
JPEG_2000 = worker.JPEG_2000  # lossy or not: Lossy Image Compression (0028,2110) says which
LOSSY_SYNTAXES = frozenset({worker.JPEG_BASELINE, worker.JPEG_EXTENDED, worker.JPEG_LS_LOSSY})

SECONDS_A_FRAME = 8.0  # our own choice: a frame takes 0.02 s, and no file may hold the tool for 10 s
# Our own choice: four times the pixels of the largest detectors, so that no header makes us ask for gigabytes.
MOST_PIXELS = 4096 * 4096
# Our own choice, measured at 512 x 512 to 4096 x 4096: JPEG 2000 needs most, 21 bytes a pixel and 8 MB; twice that and
# more: a limit that is hit by chance refuses good scans.
_MEMORY_MB, _MEMORY_BYTES_A_PIXEL = 128, 40
# Our own choice: no coding makes noise more than twice as large; heads and application segments come on top.
_MOST_GROWTH, _MOST_OVERHEAD = 2, 2**20
_MOST_IDLE = 4  # children kept for the next decoder
_REMEDY = "export the series again, uncompressed if possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFormat:
    """What the header says of a frame; a stream that says otherwise is refused."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored words."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def byte_count(self) -> int:
        """Bytes of the decoded frame."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def most_compressed_bytes(self) -> int:
        """Bytes that a compressed frame cannot exceed."""
        return _MOST_GROWTH * self.byte_count + _MOST_OVERHEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameJob:
    """One frame to decode: ``index`` comes back with it, ``name`` stands in messages, ``data`` is the stream."""

    index: int
    name: str
    format: FrameFormat
    data: bytes


class FrameDecoder:
    """Decodes frames in child processes; a context manager that leaves no busy child behind.

    Children start with the first jobs. After an error, or when the caller stops with frames under way, all
    are killed and reaped; otherwise a few stay idle for the next decoder until the interpreter ends.

    Parameters
    ----------
    children : int or None
        Most children at a time; by default as many as there are processors, at most 4.
    seconds_a_frame : float
        Longest time for one frame.
    """

    def __init__(self, *, children: int | None = None, seconds_a_frame: float = SECONDS_A_FRAME) -> None:
        self._most = children if children is not None else min(4, os.cpu_count() or 1)
        self._seconds = seconds_a_frame
        self._runs: weakref.WeakSet[Generator[tuple[int, Words], None, None]] = weakref.WeakSet()

    def __enter__(self) -> FrameDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is still running."""
        for run in list(self._runs):
            run.close()

    def decode(self, jobs: Iterable[FrameJob]) -> Iterator[tuple[int, Words]]:
        """Decode frames, in the order in which they come to be ready.

        Jobs are pulled only as children become free, one ahead: memory holds a few frames.

        Yields
        ------
        (index, words)
            ``words`` has the shape (rows, columns) and the type `FrameFormat.dtype`, C order. Bits above
            Bits Stored are as the decoder left them.

        Raises
        ------
        ImageError
            If a frame cannot be decoded to what its format says, or not within the limits.
        """
        run = self._decode(jobs)
        self._runs.add(run)
        return run

    def _decode(self, jobs: Iterable[FrameJob]) -> Generator[tuple[int, Words], None, None]:
        running: dict[Future[Words], tuple[_Child, FrameJob, float]] = {}
        idle: list[_Child] = []
        children: list[_Child] = []
        clean = False
        pool = ThreadPoolExecutor(self._most, thread_name_prefix="decoding")
        try:
            for job in jobs:
                _check(job)
                ready = self._next(running, idle) if len(running) == self._most else None
                if not idle:
                    children.append(_take_child(job))
                    idle.append(children[-1])
                child = idle.pop()
                due = time.monotonic() + self._seconds
                running[pool.submit(child.decode, job, self._seconds)] = (child, job, due)
                del job
                if ready is not None:
                    yield ready
            while running:
                yield self._next(running, idle)
            clean = True
        except GeneratorExit:
            clean = not running  # a caller that stops after the last frame leaves nothing half done
            raise
        finally:
            if not clean:
                for child in children:
                    child.kill()  # which ends its pipes, and so the thread that waits on them
            pool.shutdown(wait=True)
            for child in children:
                _give_back(child) if clean else child.close()

    def _next(
        self, running: dict[Future[Words], tuple[_Child, FrameJob, float]], idle: list[_Child]
    ) -> tuple[int, Words]:
        """Wait for one frame."""
        first_due = min(due for _, _, due in running.values())
        done, _ = wait(running, max(0.0, first_due - time.monotonic()), FIRST_COMPLETED)
        if not done:
            late = next(job for _, job, due in running.values() if due == first_due)
            raise _failed(late, f"took over {self._seconds:g} s")
        future = done.pop()
        child, job, _ = running.pop(future)
        try:
            words = future.result()
        except _FailedError as failure:
            raise _failed(job, str(failure)) from None
        idle.append(child)
        return job.index, words


class _FailedError(Exception):
    """What happened to one frame in a child."""


class _Child:
    """One decoding process and its pipes; used by one thread at a time."""

    def __init__(self) -> None:
        # -P keeps the working directory from the module path; the package itself is found where this
        # process found it (folder or zip), and that place is taken off again before a decoder is imported.
        home = str(Path(__file__).parents[3])
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); "
            "from iort_planner.imaging.dicom.decode_worker import main; del sys.path[0]; main()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # A second arena of glibc's malloc asks for 128 MB of address space at once: under the limit, 2 % of good
            # JPEG 2000 frames were refused for it.
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, job: FrameJob, seconds: float) -> Words:
        """Send one job, wait for its words; _FailedError says what went wrong."""
        form = job.format
        memory_mb = memory_limit_mb(form)
        head = worker.JOB.pack(
            form.transfer_syntax_uid.encode("ascii"),
            form.rows,
            form.columns,
            form.bits_allocated,
            form.bits_stored,
            form.signed,
            memory_mb,
            math.ceil(seconds),
            len(job.data),
        )
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None:  # not with PIPE; for the type checker
            raise _FailedError("the decoder has no pipes")
        try:
            _write(sink, head)
            _write(sink, job.data)
            status, length = worker.REPLY.unpack(_read(source, worker.REPLY.size))
            if status == worker.DONE and length == form.byte_count:
                words = np.empty((form.rows, form.columns), dtype=form.dtype)
                _read_into(source, words.data.cast("B"))
                return words
            reason = _read(source, length) if status == worker.REFUSED and length <= worker.MOST_REASON_BYTES else b""
        except (OSError, EOFError):
            raise _FailedError(self._death()) from None
        if status == worker.OUT_OF_MEMORY:
            raise _FailedError(f"needed over {memory_mb} MB")
        if status == worker.NO_DECODER:
            raise _FailedError("there is no decoder (python-gdcm is missing or broken: install iort-planner again)")
        text = reason.decode("ascii", "replace")
        raise _FailedError(text if text and text.isprintable() else "the decoder gave a wrong answer")

    def _death(self) -> str:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "the decoder closed its pipes"
        return f"the decoder stopped ({f'signal {-status}' if status < 0 else f'exit status {status}'})"

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """Kill and reap; no thread may be in `decode`."""
        self.kill()
        self._close_pipes()
        self._process.wait()

    def forget(self) -> None:
        """In a forked copy of this process: the child belongs to the original."""
        self._close_pipes()
        self._process.returncode = 0

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_idle_children: list[_Child] = []
_idle_lock = threading.Lock()


def _take_child(job: FrameJob) -> _Child:
    with _idle_lock:
        while _idle_children:
            child = _idle_children.pop()
            if child.alive:
                return child
            child.close()
    if not sys.executable:
        raise _failed(job, "this Python does not know its own program, which a child process needs")
    try:
        return _Child()
    except OSError as error:
        raise _failed(job, f"no process could be started ({error.strerror or error})") from error


def _give_back(child: _Child) -> None:
    with _idle_lock:
        if len(_idle_children) < _MOST_IDLE and child.alive:
            _idle_children.append(child)
            return
    child.close()


@atexit.register
def close_idle_children() -> None:
    """End the children that wait for work; they are started again when needed."""
    with _idle_lock:
        while _idle_children:
            _idle_children.pop().close()


def _after_fork() -> None:
    global _idle_lock  # the copy of a lock may be held by a thread that was not copied
    _idle_lock = threading.Lock()
    while _idle_children:
        _idle_children.pop().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def memory_limit_mb(form: FrameFormat) -> int:
    """Address space a child may add to its own for one frame, in MB (MiB)."""
    return _MEMORY_MB + math.ceil(form.rows * form.columns * _MEMORY_BYTES_A_PIXEL / 2**20)


def _check(job: FrameJob) -> None:
    """Refuse, before a child is asked, what no child should be asked."""
    form = job.format
    if form.transfer_syntax_uid not in SUPPORTED_SYNTAXES:
        raise ImageError(f"{job.name}: transfer syntax {form.transfer_syntax_uid[:64]!r} cannot be decoded; {_REMEDY}")
    if not (1 <= form.rows <= 65535 and 1 <= form.columns <= 65535 and form.rows * form.columns <= MOST_PIXELS):
        raise _failed(job, f"{form.columns} x {form.rows} pixels are outside 1 to {MOST_PIXELS} a frame")
    if form.bits_allocated not in (8, 16) or not 1 <= form.bits_stored <= form.bits_allocated:
        raise _failed(job, f"{form.bits_stored} bits stored in {form.bits_allocated} are not supported")
    if len(job.data) > form.most_compressed_bytes:
        raise _failed(job, f"{len(job.data)} bytes where its pixels need at most {form.most_compressed_bytes}")


def _failed(job: FrameJob, what: str) -> ImageError:
    kind = _NAMES[job.format.transfer_syntax_uid]
    return ImageError(f"{job.name}: its {kind} pixels could not be decoded: {what}; {_REMEDY}")


def _write(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    _read_into(pipe, memoryview(data))
    return bytes(data)


def _read_into(pipe: IO[bytes], target: memoryview) -> None:
    while target:
        count = pipe.readinto(target)  # type: ignore[attr-defined]  # a raw file, since bufsize is 0
        if not count:
            raise EOFError
        target = target[count:]
