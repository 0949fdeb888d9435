"""A profile that cannot tell what a step of this model on this GPU costs."""

from __future__ import annotations


class Unfit(ValueError):
    """Says in one sentence what is wrong with the profile, or what it lacks."""
