"""What is neither product nor attention, from a profile's lines: small kernels, link, host.

A line is ``t0 + unit * units + bytes / rate``. Bytes of a token are those of the model that was
measured, in proportion to the width of what the kernel works on:

    rms_norm, residual, embed   hidden size
    silu_mul                    MLP width of the shard
    rope_write                  (query + 2 KV heads of the shard) * head dimension
    sample, argmax              vocabulary

The host's share of a step, where it was measured:

    step, per request   prepare + upload + download: metadata, block tables, tokens. The scheduler
                        itself was not measured, so never less than what is assumed with it
    gap                 the next step's metadata sent, a graph of next to nothing replayed
    eager layer         15 launches without a graph, each
    piecewise layer     two replays and the 3 launches of attention
"""

from __future__ import annotations

from dataclasses import replace

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..host import ASSUMED, HostTimes
from ..model_spec import ModelSpec
from ..models import load_model
from ..operators import ALL_REDUCE, Operator
from ..silicon.comm import AllReduce
from ..silicon.shapes import dense_layers, num_mixers
from ..silicon.systems import covers
from ..silicon.tables import TableMissing
from ..step_cost import NS_PER_S
from . import forms
from .doubts import Doubts
from .scaled import datasheet_all_reduce
from .unfit import Unfit
from .values import LineFit, Profile

HIDDEN = ("rms_norm", "residual", "embed")
SAMPLERS = ("sample", "argmax")
"""The first that was measured."""
UPLOAD = "host upload"
HOST = ("host prepare", UPLOAD, "host download")
REPLAY, LAUNCH = "graph empty_nodes graph", "graph empty_nodes eager"
LAUNCHES_A_LAYER, ATTENTION_LAUNCHES = 15, 3
VALUE_BYTES = 2


class Small:
    """The lines of one profile, for one model.

    Args:
        name: of the profile, for error sentences.

    Raises:
        Unfit: the model that was measured is not known.
    """

    def __init__(self, profile: Profile, model: ModelSpec, size: int, *, name: str) -> None:
        self._lines = {line.name: line for line in profile.lines}
        self._doubts, self._name, self._id = Doubts(profile), name, profile.id
        self._model, self._size = model, size
        try:
            self._measured = model if profile.model == model.name else load_model(profile.model)
        except ValueError:
            raise Unfit(
                f"{name} was measured with {profile.model}, a model that kvsim does not know: its "
                "element-wise kernels cannot be scaled."
            ) from None

    def elementwise(self) -> Operator:
        """Norms, residuals, rotary embedding with the KV write, activation, embedding."""
        model = self._model
        launches = {"rms_norm": num_mixers(model) + 1, "residual": num_mixers(model), "embed": 1}
        launches["rope_write"] = sum(g.num_layers for g in model.layers if g.kind != "recurrent")
        if (dense := dense_layers(model)[0]) and model.intermediate_size:
            launches["silu_mul"] = dense
        lines = [(self._line(op), count, self._bytes(op)) for op, count in launches.items()]
        return self._operator("norms, rotary, KV write, activation", lines)

    def sampling(self) -> Operator:
        """From logits to tokens."""
        op = next((op for op in SAMPLERS if op in self._lines), SAMPLERS[0])
        return self._operator("sampling", [(self._line(op), 1, self._bytes(op))])

    def _line(self, op: str) -> LineFit:
        if op not in self._lines:
            raise Unfit(f"{self._name} has no times of {op}: it was not measured in full.")
        return self._lines[op]

    def _bytes(self, op: str) -> float:
        """Of one token, for this model's shard."""
        ours, theirs = width(self._model, op, self._size), width(self._measured, op, 1)
        return self._line(op).bytes_per_token * ours / theirs

    def _operator(self, label: str, lines: list[tuple[LineFit, int, float]]) -> Operator:
        doubts = [self._doubts.of("elementwise", fitted=line.uncertainty) for line, _, _ in lines]
        doubt = max(doubts)

        def ns(count: int) -> Estimate:
            if count <= 0:
                return NOTHING
            moved = [(line, times, count * each) for line, times, each in lines]
            total = sum(n * forms.line_s(line, moved_bytes=size) for line, n, size in moved)
            whole = sum(n * size for _, n, size in moved)
            return Estimate(NS_PER_S * total, whole, 0.0, 0.0, False, doubt)

        return Operator(
            label=label,
            source=f"profile {self._id}: lines of element-wise kernels",
            ns=ns,
            launches=sum(times for _, times, _ in lines),
        )


def width(model: ModelSpec, op: str, size: int) -> float:
    """Values of one token (or row of logits) that a kernel works on, on one GPU."""
    if op in HIDDEN:
        return model.hidden_size
    if op in SAMPLERS:
        return model.vocab_size
    if op == "silu_mul":
        return max(model.intermediate_size, 1) / size
    group = next(g for g in model.layers if g.kind != "recurrent")
    return (model.num_heads / size + 2 * group.heads_per_gpu(size)) * max(group.head_dim, 1)


def all_reduce(
    profile: Profile, model: ModelSpec, gpu: GPUSpec, size: int, kv_cache_dtype: str
) -> Operator:
    """The profile's line for so many GPUs, else the card's tables, else its datasheet."""
    line = next((x for x in profile.lines if x.name == f"all_reduce {size} graph"), None)
    count, row = num_mixers(model), model.hidden_size * VALUE_BYTES
    if line is not None:
        doubt = Doubts(profile).of("all_reduce", fitted=line.uncertainty)

        def ns(tokens: int) -> Estimate:
            if tokens <= 0:
                return NOTHING
            one = NS_PER_S * forms.line_s(line, moved_bytes=tokens * row)
            return Estimate(count * one, count * float(tokens * row), 0.0, 0.0, False, doubt)

        source = f"profile {profile.id}: line of all-reduce"
        return Operator(label=ALL_REDUCE, source=source, ns=ns)
    try:
        table = AllReduce(gpu, size) if covers(gpu) else None
    except TableMissing:
        table = None
    if table is None:
        return datasheet_all_reduce(model, gpu, size, kv_cache_dtype)
    return Operator(
        label=ALL_REDUCE,
        source=table.source,
        ns=lambda tokens: table(tokens * model.hidden_size).times(count),
        derived=table.derived,
    )


def host_times(profile: Profile) -> HostTimes:
    """The profile's, each assumed where it was not measured."""
    lines = {line.name: line for line in profile.lines}
    made, said = ASSUMED, []
    if all(name in lines for name in HOST):
        made = replace(
            made,
            step_s=max(ASSUMED.step_s, sum(lines[name].t0_s for name in HOST)),
            per_request_s=max(ASSUMED.per_request_s, sum(lines[name].unit_s for name in HOST)),
        )
        said.append("metadata, with a scheduler of 0.8 ms and 8 us a request assumed")
    if REPLAY in lines and LAUNCH in lines and UPLOAD in lines:
        replay_s, launch_s = lines[REPLAY].t0_s, lines[LAUNCH].unit_s
        made = replace(
            made,
            gap_s=lines[UPLOAD].t0_s + replay_s,
            eager_layer_s=LAUNCHES_A_LAYER * launch_s,
            piecewise_layer_s=2 * replay_s + ATTENTION_LAUNCHES * launch_s,
        )
        said.append("launches")
    if not said:
        return made
    rest = "" if len(said) == 2 else "; the rest assumed"
    return replace(made, source=f"profile {profile.id}: {' and '.join(said)}{rest}")
