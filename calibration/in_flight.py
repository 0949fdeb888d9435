"""How a step is cut into the batches in flight of a pipeline: decodes evenly, chunks greedily."""

from __future__ import annotations

from .step_cost import Batch


def split(decodes: int, padding: int, longest: bool, stages: int) -> list[tuple[int, int, bool]]:
    """``(decodes, padding, has the longest)`` of each batch in flight: rows evenly."""
    number = max(1, min(stages, decodes + padding))
    each, more = divmod(decodes, number)
    rows, more_rows = divmod(decodes + padding, number)
    sizes = []
    for i in range(number):
        own = each + (i < more)
        sizes.append((own, rows + (i < more_rows) - own, longest and i == 0))
    return sizes


def with_chunks(parts: list[Batch], batch: Batch, most_tokens: int) -> list[Batch]:
    """Chunks go into the first batch with room, the rest of a chunk into the next one."""
    most = max(most_tokens, -(-batch.num_tokens // len(parts)))
    index = 0
    for chunk in batch.chunks:
        new, past = chunk
        while new:
            part = parts[index]
            now = min(new, most - part.num_tokens) if index + 1 < len(parts) else new
            if now > 0:
                parts[index] = part._replace(chunks=(*part.chunks, (now, past)))
                new, past = new - now, past + now
            if new:
                index += 1
    return parts
