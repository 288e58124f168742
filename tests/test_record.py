"""The append-only record: nothing that was appended is lost, nothing that was changed goes unnoticed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iort_planner import record
from iort_planner.errors import RecordError

ROOT = Path(__file__).resolve().parents[1]


def entries(path: Path) -> list[int]:
    return [entry["n"] for entry in record.read(path).entries]


def filled(path: Path, count: int = 4) -> Path:
    for n in range(count):
        record.append(path, {"n": n, "who": "Prüfer"})
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_record_that_is_not_there_is_empty(tmp_path: Path) -> None:
    found = record.read(tmp_path / "none" / "log.jsonl")

    assert (found.entries, found.warnings) == ((), ())
    assert list(tmp_path.iterdir()) == []  # reading makes nothing


def test_entries_come_back_in_order_as_they_were(tmp_path: Path) -> None:
    path = filled(tmp_path / "new" / "log.jsonl")

    assert record.read(path).entries == tuple({"n": n, "who": "Prüfer"} for n in range(4))
    assert len(lines(path)) == 4
    chain = [json.loads(line) for line in lines(path)]
    assert [each["previous"] for each in chain] == ["0" * 64, *(each["hash"] for each in chain[:-1])]


def test_what_is_there_is_never_rewritten(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl", 3)
    before = path.read_bytes()
    record.append(path, {"n": 3})

    assert path.read_bytes().startswith(before)


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("how", ["edited", "removed", "doubled", "blanked"])
def test_any_line_edited_removed_or_doubled_is_noticed_the_last_one_too(tmp_path: Path, how: str, line: int) -> None:
    path = filled(tmp_path / "log.jsonl")
    parts = lines(path)
    parts[line] = {
        "edited": parts[line].replace(b'"who": "Pr', b'"who": "Br'),
        "removed": b"",
        "doubled": parts[line] * 2,
        "blanked": b"\n",
    }[how]
    path.write_bytes(b"".join(parts))

    with pytest.raises(RecordError, match="changed"):
        record.read(path)
    with pytest.raises(RecordError, match="changed"):
        record.append(path, {"n": 4})


def test_lines_in_another_order_and_a_line_of_another_record_are_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl")
    first, second, *rest = lines(path)
    path.write_bytes(b"".join([second, first, *rest]))
    with pytest.raises(RecordError, match="line 1"):
        record.read(path)
    other = filled(tmp_path / "other.jsonl", 5)
    path.write_bytes(b"".join([first, second, *rest, lines(other)[0]]))
    with pytest.raises(RecordError, match="line 5"):
        record.read(path)


def test_a_whole_record_or_head_that_is_gone_or_nonsense_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl")
    head = record.head_of(path)
    kept, head_kept = path.read_bytes(), head.read_bytes()
    for data, head_data in (
        (None, head_kept),
        (b"", head_kept),
        (kept, None),
        (kept, b""),
        (kept, b"4 nonsense"),
        (kept, b"-1 " + b"0" * 64),
        (b"\x00" * 4096, head_kept),
        (b"[" * 100_000, head_kept),
    ):
        for file, content in ((path, data), (head, head_data)):
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
        with pytest.raises(RecordError, match="put record and head back from a backup"):
            record.read(path)
    path.write_bytes(kept)
    head.write_bytes(head_kept)
    assert entries(path) == [0, 1, 2, 3]


@pytest.mark.parametrize("with_head", [True, False])
def test_a_last_line_cut_off_anywhere_by_a_crash_is_left_out_and_the_next_append_works(
    tmp_path: Path, with_head: bool
) -> None:
    """Every length of the third line that a crash can leave; its head was not written yet."""
    before = filled(tmp_path / "before.jsonl", 2)
    data, head = before.read_bytes(), record.head_of(before).read_bytes()
    after = filled(tmp_path / "after.jsonl", 3)
    whole = after.read_bytes()
    cut = whole[len(data) :]
    for length in range(len(cut) + 1):
        path = tmp_path / "cut" / "log.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data + cut[:length])
        record.head_of(path).write_bytes(head)
        complete = length >= len(cut) - 1  # all but the line's end: the entry is whole and counts
        found = record.read(path)

        assert [each["n"] for each in found.entries] == [0, 1, 2][: 3 if complete else 2]
        assert len(found.warnings) == (0 if complete or length == 0 else 1)
        record.append(path, {"n": 9})
        assert entries(path) == ([0, 1, 2, 9] if complete else [0, 1, 9])
        record.append(path, {"n": 10})
        assert entries(path)[-2:] == [9, 10]


def test_zeros_that_a_power_cut_left_are_left_out(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl", 2)
    with path.open("ab") as stream:
        stream.write(b"\x00" * 300)

    assert entries(path) == [0, 1]
    assert "line 3: cut off" in record.read(path).warnings[0]
    record.append(path, {"n": 2})
    assert entries(path) == [0, 1, 2]
    assert len(record.read(path).warnings) == 1


def test_a_cut_off_line_is_no_way_to_hide_a_removed_one(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl", 3)
    parts = lines(path)
    path.write_bytes(b"".join(parts[:2]) + parts[2][:40])
    with pytest.raises(RecordError, match="2 entries do not fit the head file"):
        record.read(path)


def test_a_head_one_behind_is_mended_at_the_next_append_and_two_behind_is_an_error(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl", 2)
    behind = record.head_of(path).read_bytes()
    record.append(path, {"n": 2})
    record.head_of(path).write_bytes(behind)

    assert entries(path) == [0, 1, 2]
    record.append(path, {"n": 3})
    assert record.head_of(path).read_text().startswith("4 ")
    record.head_of(path).write_bytes(behind)
    with pytest.raises(RecordError):
        record.read(path)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_never_changes_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = filled(tmp_path_factory.mktemp("bytes") / "log.jsonl", 3)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    path.write_bytes(bytes(content))
    try:
        found = entries(path)
    except RecordError:
        return
    assert found == [0, 1, 2]  # a blank more or less between words says the same


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everything")
def test_a_record_without_permission_is_a_clear_stop(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.jsonl", 1)
    path.chmod(0o400)
    with pytest.raises(RecordError, match="cannot be written"):
        record.append(path, {"n": 1})
    path.chmod(0o000)
    with pytest.raises(RecordError, match="cannot be read"):
        record.read(path)


def test_a_record_that_is_a_folder_is_a_clear_stop(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        record.read(tmp_path / "log.jsonl")
    with pytest.raises(RecordError, match="cannot be written"):
        record.append(tmp_path / "log.jsonl", {"n": 0})


APPENDING = """
import sys
from pathlib import Path
from iort_planner import record
path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for n in range(first, first + count):
    record.append(path, {"n": n, "filler": "x" * (n % 700)})
    print(n, flush=True)
"""


def start(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPENDING, str(path), str(first), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_two_processes_cannot_interleave(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    both = [start(path, 0, 40), start(path, 1000, 40)]
    for process in both:
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, "")

    found = entries(path)
    assert sorted(found) == [*range(40), *range(1000, 1040)]
    assert [n for n in found if n < 1000] == list(range(40))  # each one's own order
    assert len(lines(path)) == 80
    assert record.read(path).warnings == ()


def test_kill_9_in_the_middle_of_appends_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    path, chance = tmp_path / "log.jsonl", random.Random(5)
    confirmed: list[int] = []
    for run in range(8):
        process = start(path, 100_000 * run, 100_000)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 60)):  # wait until it is in full swing, then any time
            confirmed.append(int(process.stdout.readline()))
        process.kill()
        rest, _ = process.communicate(timeout=60)
        confirmed += [int(line) for line in rest.splitlines() if line]
        found = entries(path)

        assert set(confirmed) <= set(found)
        assert len(found) <= len(confirmed) + run + 1  # at most one a kill was written and not yet confirmed
        assert found == sorted(found)
    record.append(path, {"n": -1})
    assert entries(path)[-1] == -1
