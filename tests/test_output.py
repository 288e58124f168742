"""Output folders and files: whole or not at all, and nobody else's files touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from iort_planner.errors import OutputError
from iort_planner.output import DEMO_FOLDER, PLAN_FOLDER, OutputKind, whole_file, whole_folder


def fill(folder: Path, text: str = "new") -> None:
    (folder / "plan.json").write_text(json.dumps({"schema": "iort-planner/plan/1", "text": text}), encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "plan"
    with whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder)
        assert not out.exists()

    assert names(out) == ["plan.json"]
    assert names(out.parent) == ["plan"]


def test_an_earlier_runs_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "plan"
    for name in ("scene.png", "slices.png"):
        with whole_folder(out, PLAN_FOLDER) as folder:
            fill(folder)
            (folder / name).touch()

    assert names(out) == ["plan.json", "slices.png"]
    assert names(tmp_path) == ["plan"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_or_interruption_nothing_is_left_and_an_earlier_result_stands(
    tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "made" / "plan"
    with pytest.raises(error), whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder)
        raise error
    assert names(tmp_path) == []

    with whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder, "old")
    with pytest.raises(error), whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder, "new")
        raise error
    assert names(out.parent) == ["plan"]
    assert "old" in (out / "plan.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.docx": "mine"},
        {"plan.json": "{}"},
        {"plan.json": "no json"},
        {"plan.json": '{"schema": "iort-planner/plan/1"}', "notes.txt": "mine"},
        {"plan.json": '{"schema": "iort-planner/plan/1"}', "canal_edited.nii.gz": "mine"},
        {"truth.json": '{"schema": "iort-planner/truth/1"}'},
    ],
)
def test_a_folder_with_anything_else_in_it_is_refused_and_untouched(tmp_path: Path, files: dict[str, str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text, encoding="utf-8")
    with pytest.raises(OutputError, match="not empty"), whole_folder(out, PLAN_FOLDER):
        pass

    assert {name: (out / name).read_text(encoding="utf-8") for name in names(out)} == files


def test_the_current_folder_and_what_holds_it_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (Path(), tmp_path / "here", tmp_path):
        with pytest.raises(OutputError, match=r"current folder|no name"), whole_folder(name, PLAN_FOLDER):
            pass
    assert names(tmp_path) == ["here"]


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputError, match="give another --out"), whole_folder(tmp_path / "loop", PLAN_FOLDER):
        pass


@pytest.mark.parametrize("at", [0, 1])
def test_an_interruption_in_the_exchange_leaves_the_old_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    out = tmp_path / "plan"
    with whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder, "old")
    calls = 0
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(out, PLAN_FOLDER) as folder:
        fill(folder, "new")
    assert names(tmp_path) == ["plan"]
    assert "old" in (out / "plan.json").read_text(encoding="utf-8")


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "out", PLAN_FOLDER):
        pass
    with pytest.raises(OutputError, match="cannot be"), whole_folder(tmp_path / "out" / "below", PLAN_FOLDER):
        pass


@pytest.mark.parametrize("kind", [PLAN_FOLDER, DEMO_FOLDER])
def test_a_place_that_cannot_be_written_is_refused(kind: OutputKind) -> None:
    with pytest.raises(OutputError, match="give another --out"), whole_folder(Path("/proc/iort-planner/out"), kind):
        pass


def test_a_full_disk_while_writing_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), whole_folder(tmp_path / "out", PLAN_FOLDER) as folder:
        fill(folder)
        raise OSError(28, os.strerror(28))
    assert names(tmp_path) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "shot.png"
    with whole_file(target) as path:
        path.write_bytes(b"one")
        assert not target.exists()
    assert target.read_bytes() == b"one"
    with pytest.raises(ValueError, match="stop"), whole_file(target) as path:
        path.write_bytes(b"two")
        raise ValueError("stop")
    assert target.read_bytes() == b"one"
    assert names(tmp_path) == ["shot.png"]
    with pytest.raises(OutputError, match="cannot be written"), whole_file(tmp_path / "none" / "shot.png"):
        pass


@pytest.mark.parametrize("interrupted", ["mkdtemp", "rmtree"])
def test_an_interrupt_while_the_folder_is_made_or_removed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    module = tempfile if interrupted == "mkdtemp" else shutil
    real = getattr(module, interrupted)

    def then_interrupted(*args: object, **keywords: object) -> object:
        if interrupted == "rmtree":
            signal.raise_signal(signal.SIGINT)
        result = real(*args, **keywords)
        if interrupted == "mkdtemp":
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(module, interrupted, then_interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "a" / "plan", PLAN_FOLDER) as folder:
        (folder / "plan.json").touch()
        raise RuntimeError("so that it is removed")

    assert list(tmp_path.iterdir()) == []
