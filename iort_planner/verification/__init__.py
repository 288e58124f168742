"""Batch verification: cases with expected values, run one by one, and what came of them."""

from iort_planner.verification.batch import verify
from iort_planner.verification.case import Case, Expectation, read_suite
from iort_planner.verification.compare import Change, changes_since

__all__ = ["Case", "Change", "Expectation", "changes_since", "read_suite", "verify"]
