"""The tokens of all sequences: prompts drawn by seed, beginnings in common, and what was sampled.

A prompt may begin as another sequence does, its answer included. If that answer is asked for before
it was sampled it is drawn, and its own sequence will have to give it: whoever the ledger says has
the same content does have it.
"""

from __future__ import annotations

import numpy as np

from .steps import Content


class History:
    """Token ids, sequence by sequence.

    Args:
        content: lengths and beginnings.
        vocab_size: ids are below.
        seed: of what is drawn.
    """

    def __init__(self, content: Content, *, vocab_size: int, seed: int) -> None:
        self._content = content
        self._vocab_size = vocab_size
        self._seed = seed
        self._ids: dict[int, list[int]] = {}
        """What is decided: the known tokens, and at times some more."""
        self._known: dict[int, int] = {}
        self.num_forced = 0
        """Outputs that were asked for before they were sampled."""

    def known(self, sequence: int) -> int:
        """Tokens of the prompt and outputs so far."""
        return self._known.get(sequence, self._content.prompt_tokens(sequence))

    def tokens(self, sequence: int, first: int, stop: int) -> list[int]:
        """Known tokens from one place to another.

        Raises:
            AssertionError: they are not known yet.
        """
        assert stop <= self.known(sequence), f"token {stop} of sequence {sequence} is not known"
        return self._of(sequence)[first:stop]

    def take(self, sequence: int, place: int, token: int) -> None:
        """A sampled token, where it was not decided before.

        A member of a group that is preempted while it computes again may have been there before.
        """
        ids, known = self._of(sequence), self.known(sequence)
        if place < known:
            return
        assert place == known, f"token {place} of sequence {sequence}, of which {known} are known"
        if known < len(ids):
            self.num_forced += 1
        else:
            ids.append(token)
        self._known[sequence] = known + 1

    def outputs(self, sequence: int) -> list[int]:
        """Sampled so far."""
        return self.tokens(sequence, self._content.prompt_tokens(sequence), self.known(sequence))

    def _of(self, sequence: int) -> list[int]:
        if sequence not in self._ids:
            self._ids[sequence] = self._prompt(sequence)
        return self._ids[sequence]

    def _prompt(self, sequence: int) -> list[int]:
        content = self._content
        length, prompt = content.prompt_tokens(sequence), content.prompt_of(sequence)
        host, shared = content.beginning(prompt)
        begins = self._decided(host, min(shared, length)) if host >= 0 else []
        drawn = self._drawn("prompt", prompt, length)
        return begins + drawn[len(begins) :]

    def _decided(self, sequence: int, stop: int) -> list[int]:
        """The first tokens of a sequence, whether they are known or not."""
        ids = self._of(sequence)
        if len(ids) < stop:
            ids += self._drawn("answer", sequence, stop - len(ids))
        return ids[:stop]

    def _drawn(self, purpose: str, number: int, count: int) -> list[int]:
        key = (self._seed, ("prompt", "answer").index(purpose), number)
        drawn = np.random.default_rng(key).integers(0, self._vocab_size, count)
        return [int(token) for token in drawn]
