"""kvsim in Python: what ``from kvsim import ...`` gives. These names are stable.

``read_trace``
    files, a table or a synthetic workload as a :class:`~kvsim.traces.Trace`.
``Deployment``
    what to serve it with: a model, a GPU and vLLM's flags.
``SLO``
    latency limits and the share of requests that must keep them.
``simulate``
    the trace through one server: a :class:`Simulation` with tables and figures.
``plan``
    what to deploy: a :class:`Planned` with the candidates, the report and the server's command.

``Trace``, ``Simulation`` and ``Planned`` are what these return. Everything else may move.
"""

STABLE = (
    "Deployment",
    "Planned",
    "SLO",
    "Simulation",
    "Trace",
    "plan",
    "read_trace",
    "simulate",
)
"""The names that stay."""
