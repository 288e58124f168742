"""The same cases on the workers of a dask scheduler (extra ``cluster``)."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iort_planner.errors import InputError
from iort_planner.verification.case import read_case
from iort_planner.verification.run_case import failed_case
from iort_planner.verification.workers import Worker, picture_name, run_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iort_planner.verification.case import Case

_REACH_S = "10s"
_RETRIES = 3  # of a case whose worker was lost


def run_on_cluster(
    cases: Sequence[Case], pictures: Path, address: str, timeout: float | None
) -> Iterator[dict[str, Any]]:
    """Entries as they come. A case's folder travels with it; what ``[input] path`` names must be reachable from the workers.

    Raises
    ------
    InputError
        If dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise InputError(
            "--scheduler needs dask: install it with  pip install 'iort-planner[cluster]'  here and on the workers"
        ) from error
    try:
        client = Client(address, timeout=_REACH_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--scheduler {address}: no scheduler answers there ({type(error).__name__}); start one with  dask scheduler"
        ) from error
    with client:
        futures = {
            client.submit(
                run_packed,
                _packed(case),
                case.name,
                _outside(case),
                timeout or case.seconds,
                pure=False,
                retries=_RETRIES,
            ): case
            for case in cases
        }
        for future in as_completed(futures):
            try:
                entry, picture = future.result()
            except Exception as error:  # noqa: BLE001 - whatever a worker or the scheduler gave up with: the other cases go on
                problem = f"the cluster gave it up ({type(error).__name__}: {error})"
                entry, picture = failed_case(futures[future], problem, 0.0), None
            if picture is not None:
                (pictures / f"{picture_name(entry['name'])}.png").write_bytes(picture)
            yield entry


def _packed(case: Case) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(case.folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(case.folder).as_posix())
    return buffer.getvalue()


def _outside(case: Case) -> str | None:
    """A scan that does not lie in the case's folder."""
    return None if case.path is None else str((case.folder / case.path).resolve())


def run_packed(packed: bytes, name: str, outside: str | None, seconds: float) -> tuple[dict[str, Any], bytes | None]:
    """On a worker of the cluster: unpack a case, run it in a process of its own, and send back entry and picture."""
    from dataclasses import replace

    with tempfile.TemporaryDirectory(prefix="iort-verify-", ignore_cleanup_errors=True) as folder:
        suite, pictures = Path(folder) / "suite", Path(folder) / "pictures"
        pictures.mkdir()
        place = suite / name
        place.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(place)
        case = read_case(place / "case.toml", suite)
        if outside is not None and not (place / str(case.path)).exists():
            case = replace(case, path=outside)
        worker: Worker | None = None
        try:
            worker, entry = run_one(None, case, suite, pictures, seconds)
        finally:
            if worker is not None:
                worker.stop()
        picture = pictures / f"{picture_name(name)}.png"
        return entry, picture.read_bytes() if picture.is_file() else None
