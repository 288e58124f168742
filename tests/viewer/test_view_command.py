"""``iort-planner view``: the picture on a real folder, and one clear line for everything that is wrong with it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iort_planner.cli.main import main
from iort_planner.imaging.nifti import write_nifti
from iort_planner.imaging.series import load_series
from iort_planner.imaging.structures.read import read_label_map
from iort_planner.viewer import render
from iort_planner.workflow import PlanRequest, plan_scan


@pytest.fixture(scope="module")
def made(small_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan folder; read only."""
    folder = tmp_path_factory.mktemp("made") / "plan"
    plan_scan(folder, PlanRequest(path=small_phantom / "scan", pictures=False))
    return folder


@pytest.fixture
def plan_folder(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "plan"))


@pytest.fixture
def any_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before drawing does not depend on a renderer."""
    monkeypatch.setattr(render, "renderer_problem", lambda: None)


def stop(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run ``view`` that must end with exit status 2 and one line; the line."""
    assert main(["view", *map(str, arguments)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def change(folder: Path, part: str, **values: object) -> None:
    content = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    content[part].update(values)
    (folder / "plan.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_picture_is_written_whole_and_quietly(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    problem = render.renderer_problem()
    if problem is not None:
        pytest.skip(problem)
    target = tmp_path / "shot.PNG"
    assert main(["view", str(made), "--screenshot", str(target)]) == 0
    assert capfd.readouterr() == (f"{target}\n", "")
    with Image.open(io.BytesIO(target.read_bytes())) as picture:
        assert picture.size == (1200, 900)
        assert len(picture.convert("RGB").getcolors(1200 * 900) or []) > 5000
    assert [path.name for path in tmp_path.iterdir()] == ["shot.PNG"]


@pytest.mark.usefixtures("any_renderer")
def test_another_image_than_the_planned_one_is_refused_by_its_hash(
    plan_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    true_hash = json.loads((plan_folder / "plan.json").read_text())["image"]["sha256"]
    change(plan_folder, "image", sha256="0123456789abcdef" * 4)
    line = stop(capfd, plan_folder, "--screenshot", tmp_path / "a.png")
    assert true_hash[:12] in line
    assert "0123456789ab" in line
    assert "--image" in line
    assert not (tmp_path / "a.png").exists()


@pytest.mark.usefixtures("any_renderer")
def test_a_moved_image_is_asked_for_and_found_by_image(
    plan_folder: Path,
    small_phantom: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(plan_folder, "image", path=str(tmp_path / "gone"))
    assert "--image" in stop(capfd, plan_folder, "--screenshot", tmp_path / "a.png")
    drawn: list[Path] = []
    monkeypatch.setattr(render, "screenshot", lambda scene, path: drawn.append(path))
    arguments = ["view", str(plan_folder), "--image", str(small_phantom / "scan"), "--screenshot"]
    assert main([*arguments, str(tmp_path / "a.png")]) == 0
    assert drawn == [tmp_path / "a.png"]


@pytest.mark.usefixtures("any_renderer")
def test_a_relative_path_is_found_from_the_folders_above_the_plan(
    plan_folder: Path, small_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan").symlink_to(small_phantom / "scan")
    (tmp_path / "elsewhere").mkdir()
    change(plan_folder, "image", path="scan")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(render, "screenshot", lambda scene, path: None)
    assert main(["view", str(plan_folder), "--screenshot", str(tmp_path / "a.png")]) == 0


@pytest.mark.usefixtures("any_renderer")
@pytest.mark.parametrize(
    ("name", "word"), [("a.jpg", ".png"), ("absent/a.png", "there is no folder"), ("folder.png", "is a folder")]
)
def test_a_picture_that_cannot_be_written_is_refused_first(
    name: str, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    assert word in stop(capfd, tmp_path / "no-plan-needed-yet", "--screenshot", tmp_path / name)


@pytest.mark.usefixtures("any_renderer")
def test_a_folder_without_a_plan_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no plan" in stop(capfd, tmp_path, "--screenshot", tmp_path / "a.png")


@pytest.mark.usefixtures("any_renderer")
@pytest.mark.parametrize("damage", ["missing", "cut off", "another"])
def test_a_plan_folder_without_its_canal_is_refused(
    damage: str, plan_folder: Path, small_phantom: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    canal = plan_folder / "canal.nii.gz"
    if damage == "missing":
        canal.unlink()
    elif damage == "cut off":
        canal.write_bytes(canal.read_bytes()[:200])
    else:
        volume = load_series(small_phantom / "scan").volume
        mask = np.roll(read_label_map(canal, volume.grid).mask, 3, axis=1)
        write_nifti(canal, mask, volume.grid)
    assert "make the plan again" in stop(capfd, plan_folder, "--screenshot", tmp_path / "a.png")


def test_without_a_renderer_the_remedy_is_the_whole_answer(
    plan_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "renderer_problem", lambda: "no 3-D renderer can start here; install libegl1")
    assert "install libegl1" in stop(capfd, plan_folder, "--screenshot", tmp_path / "a.png")


def test_without_a_display_the_window_is_refused_with_the_way_out(
    plan_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "--screenshot" in stop(capfd, plan_folder)
