"""The program of a decoding child: compressed frames in on stdin, stored words out on stdout.

Damaged streams make the decoders abort, hang or ask for memory without end, so they run here, where that
costs one process. The child is told the format and the bytes of one frame, nothing of the patient. It
starts in about 40 ms because it imports neither numpy nor pydicom; gdcm comes with the first job that needs it.

What a code stream says of itself (size, precision, sign, components) is read here before a decoder sees
it, and must agree with what the parent says the header says.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import sys
from typing import Any, BinaryIO, NamedTuple

if sys.platform != "win32":
    import resource

# Job: transfer syntax, rows, columns, bits allocated, bits stored, signed, memory in MB, seconds, bytes that follow.
JOB = struct.Struct("<32sHHBB?HHI")
# Reply: status, bytes that follow (pixels when DONE, a reason in ASCII when REFUSED, else none).
REPLY = struct.Struct("<BI")
DONE, REFUSED, OUT_OF_MEMORY, NO_DECODER = range(4)
MOST_REASON_BYTES = 200

RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS, JPEG_LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS, JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"

# Start-of-frame markers of the coding processes each transfer syntax allows (ITU-T T.81 table B.1, T.87 C.1.2).
_START_OF_FRAME = {
    JPEG_BASELINE: (0xC0,),
    JPEG_EXTENDED: (0xC0, 0xC1),
    JPEG_LOSSLESS: (0xC3,),
    JPEG_LOSSLESS_FIRST_ORDER: (0xC3,),
    JPEG_LS_LOSSLESS: (0xF7,),
    JPEG_LS_LOSSY: (0xF7,),
}
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0 to RST7, SOI: markers without a segment (T.81 B.1.1.3)
_J2K_START = b"\xff\x4f\xff\x51"  # SOC, then SIZ at once (ITU-T T.800 A.4.1)
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
# What the JPEG decoder writes to stderr when it goes on over damage, as it always does.
_DAMAGE_REPORTED = (b"Corrupt JPEG data", b"Premature end of JPEG")
# Our own choice: bytes that may follow the pixels of an RLE segment, a pad pixel and a pad byte; more must be filling.
_MOST_RLE_REST = 3


class Refused(Exception):  # noqa: N818  an answer, not a failure
    """The stream cannot be decoded to what the header says; the text is the reason."""


class Job(NamedTuple):
    """The head of one job as it travels."""

    syntax: bytes
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    memory_mb: int
    seconds: int
    size: int


class _Stream(NamedTuple):
    """What a code stream says of itself; ``signed`` is None where the coding has no sign."""

    columns: int
    rows: int
    precision: int
    signed: bool | None
    components: int


def main() -> None:
    """Answer jobs until stdin ends."""
    source, sink, complaints = _take_pipes()
    while len(head := source.read(JOB.size)) == JOB.size:
        job = Job(*JOB.unpack(head))
        syntax = job.syntax.rstrip(b"\0").decode("ascii", "replace")
        status, payload = REFUSED, b""
        try:
            gdcm = None if syntax == RLE else _import_gdcm()
            _limit(job)
            data = source.read(job.size)
            payload = _decode(gdcm, syntax, data, job)
            _refuse_reported_damage(complaints)
            status = DONE
        except MemoryError:
            status, payload = OUT_OF_MEMORY, b""
        except ImportError:
            source.read(job.size)
            status = NO_DECODER
        except Refused as reason:
            payload = str(reason).encode("ascii", "replace")[:MOST_REASON_BYTES]
        sink.write(REPLY.pack(status, len(payload)))
        sink.write(payload)
        sink.flush()


def _take_pipes() -> tuple[BinaryIO, BinaryIO, int]:
    """Own stdin and stdout, so that nothing a library prints gets between the replies.

    stderr becomes a pipe to ourselves that never blocks: what decoders complain of is judged, not shown.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends this process
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    complaints = -1
    for target in (0, 1, 2):
        os.dup2(nothing, target)
    if sys.platform != "win32":
        # 1 byte instead of 0: on Linux only that also stops a core that a pipe handler would take (core(5)).
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1) if sys.platform == "linux" else (0, 0))
        complaints, writer = os.pipe()
        os.set_blocking(complaints, False)
        os.set_blocking(writer, False)
        os.dup2(writer, 2)
    return source, sink, complaints


def _import_gdcm() -> Any:
    if "gdcm" not in sys.modules and sys.platform != "win32":  # its libraries are not part of a frame's memory
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    # gdcm imports a module `dl` that Python lost long ago; a folder of that name would do as it.
    sys.modules["dl"] = None  # type: ignore[assignment]  # None bars an import; typeshed knows modules only
    return importlib.import_module("gdcm")  # no type information is published for it


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not say (then there is no memory limit)."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  pathlib would double the start-up time
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit(job: Job) -> None:
    if sys.platform == "win32":
        return
    if base := _address_space():
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = base + job.memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    # The parent watches the clock; this is for a parent that is gone.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    wanted = int(usage.ru_utime + usage.ru_stime) + job.seconds + 2
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard < 0 else min(wanted, hard), hard))


def _decode(gdcm: Any, syntax: str, data: bytes, job: Job) -> bytes:
    if gdcm is None:
        return decode_rle(data, rows=job.rows, columns=job.columns, bits_allocated=job.bits_allocated)
    return _decode_gdcm(gdcm, syntax, data, job)


def decode_rle(data: bytes, *, rows: int, columns: int, bits_allocated: int) -> bytes:
    """One frame of RLE (DICOM PS3.5 Annex G): one segment a byte of the word, the highest byte first."""
    width = bits_allocated // 8
    count = rows * columns
    if len(data) < 64:
        raise Refused(f"the RLE head needs 64 bytes, there are {len(data)}")
    segments, *offsets = struct.unpack_from("<16I", data)
    if segments != width:
        raise Refused(f"{segments} RLE segments where {bits_allocated} bits allocated need {width}")
    bounds = [*offsets[:width], len(data)]
    if bounds[0] < 64 or bounds != sorted(bounds):
        raise Refused("RLE segments that start in each other or behind the end")
    words = bytearray(count * width)
    for segment in range(width):
        place = segment if sys.byteorder == "big" else width - 1 - segment
        words[place::width] = _unpack(data[bounds[segment] : bounds[segment + 1]], count)
    return bytes(words)


def _unpack(packed: bytes, count: int) -> bytearray:
    """PackBits (DICOM PS3.5 G.3.2) of exactly ``count`` bytes; only padding may follow."""
    out = bytearray()
    position = 0
    try:
        while len(out) < count:
            control = packed[position]
            if control < 128:
                out += packed[position + 1 : position + 2 + control]
                position += 2 + control
            elif control > 128:
                out += packed[position + 1 : position + 2] * (257 - control)
                position += 2
            else:  # no operation
                position += 1
    except IndexError:
        pass
    if not count <= len(out) <= count + count % 2 or position > len(packed):  # some pad before they pack
        raise Refused(f"an RLE segment of {len(out)} pixels where the header says {count}")
    rest = packed[position:]
    if len(rest) > _MOST_RLE_REST and rest.strip(b"\0\x80"):
        raise Refused(f"an RLE segment of more pixels than the {count} that the header says")
    return out[:count]


def _decode_gdcm(gdcm: Any, syntax: str, data: bytes, job: Job) -> bytes:
    """One frame of the JPEG family as words of Bits Allocated, in this machine's byte order."""
    if syntax in _START_OF_FRAME:
        stream = _jpeg_stream(data, _START_OF_FRAME[syntax])
    else:
        data, stream = _jpeg_2000_stream(data)
    _compare(stream, job)
    width = 1 if stream.precision <= 8 else 2  # gdcm answers in the smallest word that holds the precision
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    sign = job.signed if stream.signed is None else stream.signed
    if syntax in _START_OF_FRAME:
        image = gdcm.Image()
        image.SetDataElement(element)
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    else:  # the codec itself, because an Image would start a thread a processor, each with an address space of its own
        image = gdcm.JPEG2000Codec()
        image.SetNumberOfThreadsForDecompression(1)
    image.SetNumberOfDimensions(2)
    image.SetDimensions((job.columns, job.rows, 1))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetPixelFormat(gdcm.PixelFormat(1, width * 8, stream.precision, stream.precision - 1, int(sign)))
    # gdcm hands bytes over as a str with surrogates.
    if syntax in _START_OF_FRAME:
        text = image.GetBuffer()
    else:
        decoded = gdcm.DataElement()
        text = decoded.GetByteValue().GetBuffer() if image.Decode(element, decoded) else None
    if text is None:
        raise Refused("the stream is damaged or cut off")
    words: bytes = text.encode("utf-8", "surrogateescape")
    if len(words) != job.rows * job.columns * width:
        raise Refused(f"{len(words)} bytes where {job.columns} x {job.rows} pixels need another number")
    if width * 8 < job.bits_allocated:
        words = _widened(words, signed=bool(stream.signed))
    if stream.precision > job.bits_stored:
        _refuse_too_large(words, job)
    return words


def _jpeg_stream(data: bytes, allowed: tuple[int, ...]) -> _Stream:
    """Read the frame header of a JPEG or JPEG-LS stream (T.81 B.2.2)."""
    position = 2
    if data[:2] != b"\xff\xd8":
        raise Refused("not a JPEG stream")
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _NO_LENGTH:
            position += 2
        elif marker in allowed:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, position + 4)
            return _Stream(columns, rows, precision, None, components)
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker in (0xDA, 0xF7):
            raise Refused(f"a JPEG stream of another kind (marker FF{marker:02X})")
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise Refused("a JPEG stream without a frame header")


def _jpeg_2000_stream(data: bytes) -> tuple[bytes, _Stream]:
    """Read the SIZ segment (T.800 A.5.1); a JP2 wrapper, which DICOM does not allow but files have, is taken off."""
    if data.startswith(_JP2_SIGNATURE):
        data = data[max(data.find(_J2K_START), 0) :]
    if not data.startswith(_J2K_START) or len(data) < 45:
        raise Refused("not a JPEG 2000 code stream")
    right, bottom, left, top = struct.unpack_from(">4I", data, 8)
    components, depth, step_x, step_y = struct.unpack_from(">HBBB", data, 40)
    if (step_x, step_y) != (1, 1):
        raise Refused("a JPEG 2000 code stream with subsampled pixels")
    return data, _Stream(right - left, bottom - top, (depth & 0x7F) + 1, bool(depth & 0x80), components)


def _compare(stream: _Stream, job: Job) -> None:
    """Refuse a stream that cannot be what the header says.

    From ``bits_stored`` bits of precision on, the lowest ``bits_stored`` bits are the stored value whatever
    sign the stream claims. With fewer, the bits between must be made up, which is safe only where both
    sides agree on the sign.
    """
    if (stream.columns, stream.rows) != (job.columns, job.rows):
        raise Refused(
            f"the stream holds {stream.columns} x {stream.rows} pixels where the header says {job.columns} x {job.rows}"
        )
    if stream.components != 1:
        raise Refused(f"the stream holds {stream.components} colours where the header says 1")
    if not 2 <= stream.precision <= job.bits_allocated:
        raise Refused(f"{stream.precision} bits a pixel where the header allocates {job.bits_allocated}")
    if stream.precision < job.bits_stored and bool(stream.signed) != job.signed:
        signs = "signed" if job.signed else "unsigned"
        raise Refused(f"{stream.precision} bits of another sign where the header says {job.bits_stored} bits {signs}")


def _widened(small: bytes, *, signed: bool) -> bytes:
    """8-bit words as 16-bit words of the same values."""
    wide = bytearray(2 * len(small))
    low, high = (1, 0) if sys.byteorder == "big" else (0, 1)
    wide[low::2] = small
    if signed:
        wide[high::2] = small.translate(bytes(128) + b"\xff" * 128)
    return bytes(wide)


def _refuse_too_large(words: bytes, job: Job) -> None:
    """Refuse values that Bits Stored cannot hold: masking them would change them.

    Allowed in the bits above are zeros, and for signed values copies of the sign.
    """
    used = job.bits_stored
    planes: tuple[bytes, ...] = (words,)
    if job.bits_allocated == 16:
        planes = (words[::2], words[1::2]) if sys.byteorder == "big" else (words[1::2], words[::2])
        if used > 8:
            planes, used = planes[:1], used - 8
    for place, plane in enumerate(planes):
        bits = used if place == len(planes) - 1 else 0
        allowed = set(range(1 << bits))
        if job.signed:
            allowed |= {256 - value for value in range(1, (1 << max(bits - 1, 0)) + 1)}
        if plane.translate(None, bytes(allowed)):
            raise Refused(f"the stream holds values that the header's {job.bits_stored} bits stored cannot")


def _refuse_reported_damage(complaints: int) -> None:
    if complaints < 0:
        return
    try:
        text = os.read(complaints, 2**16)
    except BlockingIOError:
        return
    if any(report in text for report in _DAMAGE_REPORTED):
        raise Refused("the stream is damaged")


if __name__ == "__main__":
    main()
