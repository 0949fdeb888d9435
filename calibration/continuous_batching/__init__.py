"""transformers' continuous batching as an engine to measure: its loop, kvsim's attention kernels.

Needs transformers 5.23 beside torch; nothing else of kvsim imports this folder.
"""
