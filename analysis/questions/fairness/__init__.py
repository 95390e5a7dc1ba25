"""How fair a comparison is: the comparison setups of Wang et al. 2023, as far as rows say.

A setup is a tuple of named conditions, a condition a pure function of two groups of rows. What the
rows don't say is never taken for granted: the finding is then "unknown".
"""

from __future__ import annotations

from analysis.questions.fairness.conditions import CONDITIONS
from analysis.questions.fairness.cross_test import FOUR, OF_CROSS_TEST, cross_tests
from analysis.questions.fairness.groups import Group
from analysis.questions.fairness.labels import drawn, fairness_label, label_of_pair, label_of_pairs
from analysis.questions.fairness.prepared import GROUP
from analysis.questions.fairness.records import pair_record
from analysis.questions.fairness.setups import SETUPS, SHORT
from analysis.questions.fairness.verdicts import Pair, fairness

__all__ = [
    "CONDITIONS",
    "FOUR",
    "GROUP",
    "OF_CROSS_TEST",
    "SETUPS",
    "SHORT",
    "Group",
    "Pair",
    "cross_tests",
    "drawn",
    "fairness",
    "fairness_label",
    "label_of_pair",
    "label_of_pairs",
    "pair_record",
]
