"""How good answers are, against the references of a manifest, with 95 % intervals.

Pure: texts in, numbers out. Answers are kept raw and normalised here, at scoring.
"""

from .bootstrap import Estimate, Score, scores
from .normalise import BASIC, NORMALISERS
from .references import REFERENCE_KEYS, Reference, reference
from .tallies import MEASURED, Measure, Tally, tallies

__all__ = [
    "BASIC",
    "MEASURED",
    "NORMALISERS",
    "REFERENCE_KEYS",
    "Estimate",
    "Measure",
    "Reference",
    "Score",
    "Tally",
    "reference",
    "scores",
    "tallies",
]
