"""Errors of the package: each one is a clear stop with one line that a person can act on.

A message says what was given, where, the limit and its origin, and what to do. The command line
prints it after ``error:`` and ends with exit status 2.
"""

from __future__ import annotations


class IortError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(IortError, ValueError):
    """An argument is not usable: a dose of 0, an axis of length zero, an option without its partner."""


class ImageError(IortError, ValueError):
    """No image could be read there: no such path, no image in the folder, an unknown series UID."""


class GeometryError(ImageError):
    """The slices do not make one volume that can be placed: missing, double, tilted, mixed."""


class ApplicatorError(IortError, ValueError):
    """An applicator file is missing, incomplete or impossible."""


class DepthDoseTableError(IortError, ValueError):
    """A depth-dose table is missing, incomplete or impossible."""


class DepthDoseRangeError(IortError, ValueError):
    """A distance or dose lies outside what the table covers; dose is never extrapolated."""


class TissueError(IortError, ValueError):
    """A HU curve is missing, incomplete or impossible, or the image's values may not be read as HU."""


class NeedleNotFoundError(IortError, RuntimeError):
    """No needle was found in the image, or more than one thing could be it."""


class CanalNotFoundError(IortError, RuntimeError):
    """No spinal canal was found near the needle, or the given one cannot be used."""


class LevelError(IortError, RuntimeError):
    """The planned vertebra, its HU or the way to the canal cannot be told from this image; a note, not a stop."""


class PhantomError(IortError, ValueError):
    """A phantom specification is missing, incomplete or impossible."""


class MaterialError(IortError, ValueError):
    """A material is unknown, or its density or composition is impossible."""


class SimulationError(IortError, ValueError):
    """A case of the photon transport or a spectrum is missing, incomplete or impossible."""


class PlanError(IortError, ValueError):
    """A plan folder or plan file cannot be read, or does not fit the image it names."""


class OutputError(IortError, OSError):
    """An output folder or file cannot be written, or holds something this tool did not make."""


class RecordError(IortError, ValueError):
    """A record that this tool keeps cannot be read or written, or was changed after it was written."""


class RendererError(IortError, RuntimeError):
    """No renderer can start on this machine."""
