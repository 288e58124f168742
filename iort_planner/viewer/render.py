"""Draws a finished scene with pyvista: the only module that touches VTK."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iort_planner.errors import RendererError
from iort_planner.output import whole_file
from iort_planner.viewer import palette

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iort_planner.viewer.scene import Scene, Surface

# Bone of a fine scan may have millions of triangles; software rendering stays under a second below this.
_MOST_TRIANGLES = 250_000
# Layers of translucent surfaces sorted in each pixel: four isodoses, bone inside and outside, canal, tip, front and back.
_PEELS = 12
_PROBE_TIMEOUT_S = 60
_PROBE = """
from iort_planner.viewer.render import _plotter
import pyvista
plotter = _plotter((32, 32), off_screen=True)
plotter.add_mesh(pyvista.Sphere(), color="white")
picture = plotter.screenshot(return_img=True)
raise SystemExit(0 if picture.max() > picture.min() else 3)
"""
_REMEDY = (
    "install an OpenGL library (Debian: apt-get install libegl1 libgl1; "
    "Windows and macOS: a graphics driver), or leave the 3-D picture out"
)


@functools.cache
def renderer_problem() -> str | None:
    """Why nothing can be drawn in 3-D on this machine, with the remedy; None where it works.

    Tried once, in a child process: without any OpenGL library VTK ends the process instead of raising.
    """
    try:
        # the child runs this package's own code in this interpreter
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
            env=_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no 3-D renderer: the trial picture did not finish ({type(error).__name__}); {_REMEDY}"
    if done.returncode == 0:
        return None
    why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
    return f"no 3-D renderer can start here (trial picture: {why}); {_REMEDY}"


def screenshot(scene: Scene, path: Path, size: tuple[int, int] = (1200, 900)) -> None:
    """Draw a scene off screen into a PNG file, written whole or not at all.

    Raises
    ------
    RendererError
        If no renderer can start here, or VTK reports an error.
    OutputError
        If the file cannot be written.
    """
    from PIL import Image

    check_can_draw(window=False)
    with whole_file(path) as partial:
        Image.fromarray(draw(scene, size)).save(partial, format="PNG", optimize=False)


def draw(scene: Scene, size: tuple[int, int] = (1200, 900)) -> Any:
    """Draw a scene off screen; uint8 array of shape (height, width, 3). No probe: see `renderer_problem`."""
    with _vtk_errors():
        plotter = _plotter(size, off_screen=True)
        try:
            _populate(plotter, scene, size)
            picture = plotter.screenshot(return_img=True)
        finally:
            plotter.close()
    return picture


def show(scene: Scene, size: tuple[int, int] = (1200, 900)) -> None:
    """Open a window on a scene and wait until it is closed.

    Raises
    ------
    RendererError
        If there is no display, no renderer can start, or VTK reports an error.
    """
    check_can_draw(window=True)
    with _vtk_errors():
        plotter = _plotter(size, off_screen=False)
        _populate(plotter, scene, size)
        plotter.show(title="iort-planner")


def check_can_draw(*, window: bool) -> None:
    """Stop early where a window, or any picture at all, cannot be made on this machine.

    Raises
    ------
    RendererError
        With the remedy.
    """
    no_display = not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if window and sys.platform.startswith("linux") and no_display:
        raise RendererError("no display for a window here; give --screenshot FILE.png for a picture without one")
    problem = renderer_problem()
    if problem is not None:
        raise RendererError(problem)


def _environment() -> dict[str, str]:
    """Environment in which Mesa's libraries keep their notices to themselves."""
    return {**os.environ, **_QUIET}


_QUIET = {"EGL_LOG_LEVEL": "fatal", "MESA_LOG_LEVEL": "error"}


@contextlib.contextmanager
def _vtk_errors() -> Iterator[None]:
    """Keep VTK's messages off the terminal; an error among them becomes a RendererError."""
    from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow

    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    before, messages = vtkOutputWindow.GetInstance(), vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(messages)
    try:
        yield
    finally:
        vtkOutputWindow.SetInstance(before)
    errors = [line for line in messages.GetOutput().splitlines() if line.startswith(("ERROR", "Generic Error"))]
    if errors:
        raise RendererError(f"the 3-D picture failed: {' '.join(messages.GetOutput().split())[:300]}; {_REMEDY}")


def _plotter(size: tuple[int, int], *, off_screen: bool) -> Any:
    import pyvista

    with _vtk_errors():
        return pyvista.Plotter(off_screen=off_screen, window_size=list(size), lighting="three lights")


def _populate(plotter: Any, scene: Scene, size: tuple[int, int]) -> None:
    plotter.set_background("white", top="#C9D3DC")
    for surface in scene.surfaces:
        _add_surface(plotter, surface)
    camera = scene.camera
    plotter.camera.position = tuple(camera.position_lps_mm)
    plotter.camera.focal_point = tuple(camera.focus_lps_mm)
    plotter.camera.up = tuple(camera.up_lps)
    plotter.camera.view_angle = camera.view_angle_deg
    plotter.renderer.ResetCameraClippingRange()
    plotter.enable_depth_peeling(_PEELS, 0.0)
    plotter.enable_anti_aliasing("ssaa")
    _add_words(plotter, scene, size)
    _add_cube(plotter)


def _add_surface(plotter: Any, surface: Surface) -> None:
    import pyvista

    mesh = pyvista.PolyData.from_regular_faces(surface.mesh.vertices_lps_mm, surface.mesh.faces.astype(int))
    if mesh.n_cells > _MOST_TRIANGLES:
        mesh = mesh.decimate(1.0 - _MOST_TRIANGLES / mesh.n_cells)
    if surface.kind == "isodose":  # the pure colour at the edge: nested translucent balls blend to others
        plotter.add_silhouette(mesh, color=surface.colour, line_width=10.0)
    metal = surface.kind in ("shaft", "cannula")
    plotter.add_mesh(
        mesh,
        color=surface.colour,
        opacity=surface.opacity,
        smooth_shading=True,
        split_sharp_edges=surface.kind in ("shaft", "cannula", "tip"),
        ambient=0.25,
        specular=0.6 if metal else 0.15,
        specular_power=30,
        show_scalar_bar=False,
        render=False,
    )


def _add_words(plotter: Any, scene: Scene, size: tuple[int, int]) -> None:
    height = size[1]
    line = round(height / 36)

    def write(
        text: str, x: float, y: float, *, scale: float = 1.0, colour: str = palette.INK, bold: bool = False
    ) -> None:
        plotter.add_text(
            text.replace("|", "│").replace("$", "＄"),  # VTK reads the plain ones as columns and formulae
            position=(round(x), round(y)),
            font_size=max(4, round(scale * height / 90)),
            color=colour,
            font_file=str(_font(bold=bold)),
            render=False,
        )

    left, y = 0.6 * line, height - 1.5 * line
    write("■", left, y, scale=1.2, colour=palette.VERDICT_COLOUR[scene.verdict])
    for number, text in enumerate(scene.title):
        write(
            text, left + (1.2 * line if number == 0 else 0.0), y, scale=1.2 if number == 0 else 1.05, bold=number == 0
        )
        y -= 1.2 * line
    y -= 0.3 * line
    for surface in scene.surfaces:
        if surface.label:
            write("■", left, y, colour=surface.colour)
            write(surface.label, left + 1.1 * line, y, scale=0.9)
            y -= 0.95 * line
    for text in scene.notes:
        write(text, left + 1.1 * line, y, scale=0.9)
        y -= 0.95 * line
    write(scene.footer, left, 0.35 * line, scale=0.75)


def _add_cube(plotter: Any) -> None:
    """Cube with the patient's directions; x is left, y posterior, z superior."""
    from vtkmodules.vtkRenderingAnnotation import vtkAnnotatedCubeActor

    cube = vtkAnnotatedCubeActor()
    for face, letter in {"XPlus": "L", "XMinus": "R", "YPlus": "P", "YMinus": "A", "ZPlus": "S", "ZMinus": "I"}.items():
        getattr(cube, f"Set{face}FaceText")(letter)
    cube.SetFaceTextScale(0.65)
    cube.GetCubeProperty().SetColor(0.93, 0.95, 0.97)
    cube.GetTextEdgesProperty().SetColor(0.08, 0.13, 0.17)
    cube.GetTextEdgesProperty().SetLineWidth(1)
    for name in ("XPlus", "XMinus", "YPlus", "YMinus", "ZPlus", "ZMinus"):
        getattr(cube, f"Get{name}FaceProperty")().SetColor(0.08, 0.13, 0.17)
    plotter.add_orientation_widget(cube, interactive=False, viewport=(0.86, 0.80, 1.0, 1.0))


@functools.cache
def _font(*, bold: bool) -> Path:
    """DejaVu Sans as shipped with matplotlib: the same letters on every machine, umlauts included."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
