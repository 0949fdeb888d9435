"""Allocators of KV memory: one file and one line here each."""

from __future__ import annotations

from .base import Allocator, Growth, Usage
from .caching import CachingAllocator
from .contiguous import PLACEMENTS, RESERVATIONS, ContiguousAllocator
from .deduplicating import DeduplicatingAllocator
from .grouped import GroupedAllocator
from .layout import KINDS, Layout, TokensOf, areas
from .paged import PagedAllocator
from .radix import RadixAllocator
from .sharing import SharingAllocator
from .tiered import TieredAllocator
from .tiers import TierSpec
from .virtual import VirtualAllocator

ALLOCATORS = ("contiguous", "paged", "virtual")

__all__ = [
    "ALLOCATORS",
    "KINDS",
    "PLACEMENTS",
    "RESERVATIONS",
    "Allocator",
    "CachingAllocator",
    "ContiguousAllocator",
    "DeduplicatingAllocator",
    "GroupedAllocator",
    "Growth",
    "Layout",
    "PagedAllocator",
    "RadixAllocator",
    "SharingAllocator",
    "TierSpec",
    "TieredAllocator",
    "TokensOf",
    "Usage",
    "VirtualAllocator",
    "areas",
]
