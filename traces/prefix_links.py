"""Prefix links: which earlier row a prompt begins like, and for how many tokens.

Row k's link (j, t) says: the first t tokens of k's prompt are the first t of j's sequence (prompt,
then output). Links form a forest. Two rows that link to one row r with t and u tokens share at
least min(t, u) with each other, and so does a row with what r itself links to: that is how rows
that began like a dropped row stay linked.
"""

from typing import Any

import numpy as np

from .columns import Ints

Best = dict[int, tuple[int, int]]  # dropped row -> the kept row that shares most with it, tokens


def relink_prefixes(prefix_row: Ints, prefix_tokens: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Links of the kept `rows` (ascending) in their own numbering.

    A link to a dropped row r goes to the earlier kept row that shares most: one that began like r,
    or like what r itself began like, and so on. As min(s, t) grows with s, only the row that shares
    most with r can win, so one candidate per dropped row is held.
    """
    new_index = np.full(len(prefix_row) + 1, -1, dtype=np.int64)  # the last entry answers -1
    new_index[rows] = np.arange(len(rows))
    linked, shared = prefix_row[rows], prefix_tokens[rows]
    lost = (linked >= 0) & (new_index[linked] < 0)
    best: Best = {}
    for index in np.flatnonzero(lost).tolist():
        link = (int(linked[index]), int(shared[index]))
        path = _dropped_ancestors(link, prefix_row, prefix_tokens, new_index)
        linked[index], shared[index] = _nearest(path, best, new_index)
        for dropped, tokens in path[:-1]:
            if best.get(dropped, (-1, 0))[1] < tokens:
                best[dropped] = (int(rows[index]), tokens)
    return new_index[linked], np.where(linked < 0, 0, shared)


def _dropped_ancestors(
    link: tuple[int, int], prefix_row: Ints, prefix_tokens: Ints, new_index: Ints
) -> list[tuple[int, int]]:
    """The dropped rows up from a link, each with the tokens shared; last, the kept row or -1."""
    row, tokens = link
    path = [link]
    while row >= 0 and new_index[row] < 0:
        row, tokens = int(prefix_row[row]), min(tokens, int(prefix_tokens[row]))
        path.append((row, tokens))
    return path


def _nearest(path: list[tuple[int, int]], best: Best, new_index: Ints) -> tuple[int, int]:
    """The kept row that shares most tokens, along a path of dropped ones; (-1, 0) for none."""
    row, tokens = path[-1] if path[-1][1] > 0 else (-1, 0)
    for dropped, most in path[:-1]:
        candidate, shared = best.get(dropped, (-1, 0))
        if min(shared, most) > tokens:
            row, tokens = candidate, min(shared, most)
    return row, tokens


def link_stats(prompt_tokens: Ints, prefix_tokens: Ints) -> dict[str, Any]:
    """Tokens that an infinite cache of all earlier prompts and outputs hits, to the token."""
    hits, prompts = int(prefix_tokens.sum()), int(prompt_tokens.sum())
    return {
        "requests": len(prompt_tokens),
        "input_tokens": prompts,
        "hit_tokens": hits,
        "token_ratio": round(hits / prompts, 6),
    }
