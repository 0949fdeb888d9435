"""Measuring a card: the only part of kvsim that runs kernels, and imports torch, lazily."""
