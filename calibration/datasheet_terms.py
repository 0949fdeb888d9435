"""Where a datasheet step's time goes: the roofline's parts, with the bytes and FLOPs they rest on.

linear layers  weights read, of the experts those that the tokens chose; 2 FLOPs a parameter used
attention      KV read; 4 FLOPs a pair of query and key, head and dimension
LM head        its weights and three passes over the logits; 2 FLOPs a parameter and row
"""

from __future__ import annotations

from collections.abc import Iterator

from .efficiency import OTHER_READ
from .host import HOST_SOURCE
from .roofline import ACTIVATION_BYTES, Roofline
from .step_cost import NS_PER_S, Batch
from .terms import Term


def datasheet_terms(
    line: Roofline, batch: Batch, *, run_tokens: int, step_ns: float
) -> tuple[Term, ...]:
    """The parts of a step, largest first; they sum to ``step_ns``.

    Args:
        line: the model on the GPU.
        batch: the step's shape.
        run_tokens: tokens that the linear layers compute, padding included.
        step_ns: the whole; what the GPU's parts leave of it is the host's.
    """
    made = [
        *_linear(line, run_tokens),
        *_attention(line, batch),
        *_others(line, run_tokens, batch.num_decodes + len(batch.chunks)),
    ]
    made = [term for term in made if term.ns > 0]
    rest = step_ns - sum(term.ns for term in made)
    made.append(Term(name="host, exposed", ns=rest, source=HOST_SOURCE, bound="host"))
    return tuple(sorted(made, key=lambda term: -term.ns))


def _source(line: Roofline) -> str:
    return f"datasheet of {line.gpu.name}, {line.efficiency.source}"


def _linear(line: Roofline, tokens: int) -> Iterator[Term]:
    for part in line.linear_terms():
        read, compute = part.read_all_ns(tokens), part.compute_ns_per_token * tokens
        yield Term(
            name=part.label,
            ns=part.ns(tokens),
            source=_source(line),
            bytes=_moved(line, read, line.efficiency.weight_read),
            flops=part.flops_per_token * tokens,
            bound="compute" if compute > read else "bandwidth",
        )


def _attention(line: Roofline, batch: Batch) -> Iterator[Term]:
    for kind in line.attention_terms():
        seen = kind.seen_tokens(batch.num_decodes, batch.decode_context_tokens)
        ns, moved = seen * kind.ns_per_token, seen * kind.bytes_per_token
        read_ns, flops = seen * kind.read_ns_per_token, seen * kind.flops_per_token
        for new, past in batch.chunks:
            pairs, keys = kind.pairs_and_keys(new, past)
            ns += max(pairs * kind.ns_per_pair, keys * kind.ns_per_token)
            read_ns += keys * kind.read_ns_per_token
            moved, flops = moved + keys * kind.bytes_per_token, flops + pairs * kind.flops_per_pair
        yield Term(
            name=f"attention, window {kind.window_tokens}" if kind.window_tokens else "attention",
            ns=ns,
            source=_source(line),
            bytes=moved,
            flops=flops,
            bound="compute" if ns > 2 * read_ns else "bandwidth",
        )


def _others(line: Roofline, tokens: int, rows: int) -> Iterator[Term]:
    source, size = _source(line), line.tensor_parallel_size
    elementwise, states = tokens * line.elementwise_ns(), rows * line.recurrent_ns()
    read, compute, logits = (NS_PER_S * part for part in line.head_parts_s(rows))
    read, compute = read / size, compute / size
    payload = tokens * line.model.hidden_size * ACTIVATION_BYTES
    yield Term(
        name="norms, rotary, KV write, activation",
        ns=elementwise,
        source=source,
        bytes=_moved(line, elementwise, OTHER_READ),
        bound="bandwidth",
    )
    yield Term(
        name="LM head and sampling",
        ns=line.head_ns(rows),
        source=source,
        bytes=_moved(line, read, line.efficiency.weight_read) + _moved(line, logits, OTHER_READ),
        flops=2.0 * line.model.vocab_size * line.model.hidden_size * rows / size,
        bound="compute" if compute > read + logits else "bandwidth",
    )
    yield Term(
        name="recurrent layers",
        ns=states,
        source=source,
        bytes=_moved(line, states, OTHER_READ),
        bound="bandwidth",
    )
    yield Term(
        name="all-reduce",
        ns=line.all_reduce_ns(tokens),
        source=source,
        bytes=2.0 * line.model.num_layers * 2 * (size - 1) / size * payload,
        bound="link",
    )
    yield Term(name="attention floors", ns=line.floor_ns(), source=source)


def _moved(line: Roofline, ns: float, efficiency: float) -> float:
    """Bytes read in so many nanoseconds."""
    return ns / NS_PER_S * efficiency * line.gpu.memory_bandwidth_bytes_per_s
