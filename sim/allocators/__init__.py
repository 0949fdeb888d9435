"""Allocators of KV memory: one file and one line here each."""

from __future__ import annotations

from .base import Allocator, Growth, Usage
from .caching import CachingAllocator
from .contiguous import PLACEMENTS, RESERVATIONS, ContiguousAllocator
from .paged import PagedAllocator

ALLOCATORS = ("contiguous", "paged")

__all__ = [
    "ALLOCATORS",
    "PLACEMENTS",
    "RESERVATIONS",
    "Allocator",
    "CachingAllocator",
    "ContiguousAllocator",
    "Growth",
    "PagedAllocator",
    "Usage",
]
