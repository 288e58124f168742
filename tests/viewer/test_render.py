"""Drawing: pixels stand where the camera's formula says, files are whole, VTK keeps quiet and its errors count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iort_planner.errors import OutputError, RendererError
from iort_planner.viewer import render
from iort_planner.viewer.meshes import sphere_mesh
from iort_planner.viewer.scene import Scene, Surface, build_scene
from tests import plan_factory as factory

SIZE = (480, 360)
COLOURS = {"#FF0000": (-25.0, 0.0, 0.0), "#00FF00": (0.0, 25.0, 0.0), "#0000FF": (0.0, 0.0, 25.0)}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return build_scene(*factory.example())


@pytest.fixture
def renderer() -> None:
    problem = render.renderer_problem()
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture
def no_cache() -> Iterator[None]:
    render.renderer_problem.cache_clear()
    yield
    render.renderer_problem.cache_clear()


@pytest.mark.usefixtures("renderer")
def test_known_points_are_drawn_where_the_camera_projects_them(scene: Scene) -> None:
    balls = tuple(
        Surface(kind="marker", label="", mesh=sphere_mesh(factory.SOURCE_LPS_MM + offset, 2.0), colour=c, opacity=1.0)
        for c, offset in COLOURS.items()
    )
    picture = render.draw(dataclasses.replace(scene, surfaces=balls, title=(), notes=(), footer=""), SIZE).astype(int)
    for colour, offset in COLOURS.items():
        channel = next(n for n in range(3) if colour[1 + 2 * n : 3 + 2 * n] == "FF")
        others = [n for n in range(3) if n != channel]
        rows, columns = np.nonzero(picture[..., channel] - picture[..., others].max(axis=-1) > 120)
        expected = scene.camera.project(factory.SOURCE_LPS_MM + np.array(offset), SIZE)
        assert rows.size > 50, colour
        np.testing.assert_allclose((columns.mean(), rows.mean()), expected, atol=1.5)


@pytest.mark.usefixtures("renderer")
def test_same_scene_same_bytes_and_nothing_on_the_terminal(
    scene: Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        render.screenshot(scene, tmp_path / name, SIZE)
    first = (tmp_path / "a.png").read_bytes()
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert first == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("renderer")
def test_huge_surfaces_are_thinned_and_still_drawn(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = render.draw(scene, SIZE).astype(int)
    monkeypatch.setattr(render, "_MOST_TRIANGLES", 4000)
    thinned = render.draw(scene, SIZE).astype(int)
    assert np.any(whole != thinned)
    assert np.abs(whole - thinned).mean() < 4.0  # of 255


@pytest.mark.usefixtures("renderer")
def test_a_missing_folder_is_an_output_error(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        render.screenshot(scene, tmp_path / "absent" / "a.png", SIZE)


@pytest.mark.usefixtures("renderer")
def test_an_error_of_vtk_becomes_ours(capfd: pytest.CaptureFixture[str]) -> None:
    from vtkmodules.vtkCommonCore import vtkObject
    from vtkmodules.vtkFiltersCore import vtkContourFilter

    assert vtkObject.GetGlobalWarningDisplay()
    with pytest.raises(RendererError, match="picture failed"), render._vtk_errors():
        vtkContourFilter().Update()  # without an input
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("child", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "exit 1"),
        ("raise SystemExit(3)", "exit 3"),
    ],
)
def test_a_machine_without_a_renderer_gets_one_line_with_the_remedy(
    child: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_PROBE", child)
    problem = render.renderer_problem()
    assert problem is not None
    assert why in problem
    assert "apt-get install libegl1" in problem
    assert "\n" not in problem
    with pytest.raises(RendererError, match="libegl1"):
        render.check_can_draw(window=False)


@pytest.mark.usefixtures("no_cache")
def test_a_renderer_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(render, "_PROBE_TIMEOUT_S", 0.3)
    problem = render.renderer_problem()
    assert problem is not None
    assert "did not finish" in problem


def test_a_window_without_a_display_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(RendererError, match="--screenshot"):
        render.check_can_draw(window=True)
