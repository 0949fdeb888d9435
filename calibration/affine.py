"""The affine clock: ``step = base + per_scheduled * tokens + per_context * decode contexts``.

It is the clock of the golden cases and the simplest way to compare with another engine. The
coefficients are held as nanoseconds rounded to 1e-6 ns, so that ``0.005`` is 5,000,000 ns exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost

LONGEST_S = 3600.0
USER_BAND = Band(low=1.0, high=1.0, source="given by the user")


def _whole(ns: float) -> float:
    return round(ns, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineCost(StepCost):
    """Seconds: ``base_s + per_scheduled_token_s * tokens + per_context_token_s * contexts``.

    Raises:
        ValueError: a coefficient is negative or not finite, or a step may take no time.
    """

    base_s: float
    per_scheduled_token_s: float = 0.0
    per_context_token_s: float = 0.0
    source: str = field(default="affine", init=False)
    band: Band = field(default=USER_BAND, init=False)
    _ns: tuple[float, float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        coefficients = (self.base_s, self.per_scheduled_token_s, self.per_context_token_s)
        names = ("base_s", "per_scheduled_token_s", "per_context_token_s")
        for name, value in zip(names, coefficients, strict=True):
            if not 0 <= value <= LONGEST_S:
                raise ValueError(f"{name}(={value}) must be >= 0 and <= {LONGEST_S:g} seconds.")
        if not self.base_s + self.per_scheduled_token_s > 0:
            raise ValueError(
                f"base_s(={self.base_s}) or per_scheduled_token_s(={self.per_scheduled_token_s}) "
                "must be > 0: a step takes time."
            )
        a, b, c = (_whole(x * NS_PER_S) for x in coefficients)
        object.__setattr__(self, "_ns", (a, b, c))

    @classmethod
    def parse(cls, text: str) -> AffineCost:
        """Read ``BASE_S,PER_SCHEDULED_TOKEN_S,PER_CONTEXT_TOKEN_S``.

        Raises:
            ValueError: not three numbers.
        """
        parts = text.split(",")
        try:
            a, b, c = (float(x) for x in parts)
        except ValueError:
            raise ValueError(
                f"step_cost(='affine:{text}') must be affine:BASE_S,PER_SCHEDULED_TOKEN_S,"
                "PER_CONTEXT_TOKEN_S, three numbers in seconds."
            ) from None
        return cls(base_s=a, per_scheduled_token_s=b, per_context_token_s=c)

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        a, b, c = self._ns
        return a + b * batch.num_tokens + c * batch.decode_context_tokens

    def decode_line(self, batch: Batch) -> Line:
        """One line for ever: the context grows by ``num_decodes`` a step."""
        return Line(self.step_ns(batch), self._ns[2] * batch.num_decodes, UNBOUNDED)

    def describe(self) -> dict[str, object]:
        """The three coefficients in seconds."""
        return {
            "source": self.source,
            "base_s": self.base_s,
            "per_scheduled_token_s": self.per_scheduled_token_s,
            "per_context_token_s": self.per_context_token_s,
        }
