"""transformers' continuous batching as an engine to measure: its loop, kvsim's attention kernels.

Needs transformers 5.23 beside torch; only ``sim.groundtruth.by_transformers`` imports this folder.
"""
