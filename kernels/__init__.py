"""Triton paged-attention kernels and their plain-torch definitions; imports nothing of kvsim."""
