"""Triton paged-attention kernels and their plain-torch definitions; imports nothing of kvsim.

``reference`` defines, ``launch`` says how, ``version`` names the code; ``paged_decode``,
``paged_prefill``, ``paged_mixed``, ``latent_decode``, ``kv_write`` and ``block_move`` are to be
called. ``split`` is plain arithmetic, which cost models share.
"""
