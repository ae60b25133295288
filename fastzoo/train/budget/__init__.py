"""Budgets: which networks fit so many bytes of int8 weights, and whether one answers within so many microseconds.

Bytes follow from sizes and ranks alone, latency is measured on this machine; both are known before training.
"""

from fastzoo.train.budget.latency import check_latency, measure_latency
from fastzoo.train.budget.scales import Sizes
from fastzoo.train.budget.sizes import LARGEST, alternatives, check_bytes, int8_bytes, options, suggest

__all__ = [
    "LARGEST", "Sizes", "alternatives", "check_bytes", "check_latency", "int8_bytes", "measure_latency", "options",
    "suggest",
]  # fmt: skip
