"""A process that runs cases for ``verify``: reads one a line on stdin, answers with one a line on stdout.

    python -m iort_planner.cli.verify_worker

Started by `iort_planner.verification.workers`, not by hand. What the cases print goes nowhere: the answers have a descriptor of
their own, which no library knows of.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> int:
    """Serve until stdin ends."""
    from iort_planner.cli.main import main as command
    from iort_planner.verification.run_case import case_in, run_case

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        work = Path(job["work"])
        work.mkdir(parents=True, exist_ok=True)
        entry = run_case(case_in(Path(job["folder"]), Path(job["suite"])), work, command)
        answers.write(json.dumps(entry) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
