"""The regression gate: named traces x deployments, replayed and compared with stored baselines.

A suite (TOML) names cases; a case is a trace and a server, under the names of ``kvsim simulate``.
Its baseline is a small text file of the summary's numbers. Simulations are deterministic: without a
tolerance every digit counts.
"""
