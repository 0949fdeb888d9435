"""What to show: tables for the terminal, figures, the HTML page.

Importing this package loads neither matplotlib nor jinja2: ``tables`` needs rich alone, ``write``
(and ``figures``, ``page``) the rest.
"""

from .tables import (
    budget_table,
    gpus_table,
    headline,
    models_table,
    plan_table,
    pool_table,
    stats_table,
    summary_table,
)

__all__ = [
    "budget_table",
    "gpus_table",
    "headline",
    "models_table",
    "plan_table",
    "pool_table",
    "stats_table",
    "summary_table",
]
