"""What a model of some size costs, this way and others: random weights, sides run in turn."""

from __future__ import annotations

from .limits import Limits, measure_limits
from .measure import LeftOut, measure
from .rows import Row
from .setting import OWN, PLAIN, PUBLISHED, RIVALS, STATIC, Setting
from .shapes import SHAPES, ModelShape, build_decoder, shape_of

__all__ = [
    "OWN",
    "PLAIN",
    "PUBLISHED",
    "RIVALS",
    "SHAPES",
    "STATIC",
    "LeftOut",
    "Limits",
    "ModelShape",
    "Row",
    "Setting",
    "build_decoder",
    "measure",
    "measure_limits",
    "shape_of",
]
