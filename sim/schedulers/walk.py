"""One walk over the candidates of a step of transformers' scheduler: what is left for the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..request import Request


@dataclass(slots=True, kw_only=True)
class Walk:
    """One walk over the candidates: what is left, and what became of them."""

    tokens: int
    rows: int
    reads: int
    fast_path_tokens: int
    """A request of fewer tokens may decode through a block table."""
    fast: bool
    """Everybody so far reads through a block table: no budget of reads."""
    roomy: bool
    """The safety margin is free."""
    served: int = 0
    refused: bool = False
    """Somebody found no blocks."""
    starved: list[tuple[Request, int]] = field(default_factory=list)
    """Running requests among them, and the tokens that they would hold."""
    decoded: dict[Request, None] | None = field(default_factory=dict)
    """Who decodes a token; None: all who decode."""
    admitted: list[Request] = field(default_factory=list)
    restored: list[Request] = field(default_factory=list)
    """Those among them whose KV is still in host memory."""

    @property
    def spent(self) -> bool:
        """Whether nobody else gets tokens."""
        return self.tokens == 0 or self.rows <= 0 or (self.reads <= 0 and not self.fast)

    def may_read(self, tokens: int, position: int) -> bool:
        """Whether a request at this place may get so many tokens."""
        return (self.fast and self._is_fast(tokens, position)) or self.reads >= position

    def count(self, tokens: int, position: int) -> None:
        """A request at this place got so many tokens."""
        self.fast = self.fast and self._is_fast(tokens, position)
        self.served += 1
        self.tokens -= tokens
        self.rows -= 1
        self.reads -= position

    def count_decodes(self, num_decodes: int, context_tokens: int) -> None:
        """All who decode got their token; they attend to so many, the new ones included."""
        self.decoded = None
        self.served += num_decodes
        self.tokens -= num_decodes
        self.rows -= num_decodes
        self.reads -= context_tokens - num_decodes

    def _is_fast(self, tokens: int, position: int) -> bool:
        return tokens == 1 and position < self.fast_path_tokens
