"""Quality assurance of depth-dose tables: one judged, two compared, a history followed."""

from iort_planner.qa.check import TableCheck, check_table
from iort_planner.qa.compare import TableComparison, compare_tables
from iort_planner.qa.criteria import CompareCriteria
from iort_planner.qa.trend import Trend, trend

__all__ = [
    "CompareCriteria",
    "TableCheck",
    "TableComparison",
    "Trend",
    "check_table",
    "compare_tables",
    "trend",
]
