"""What a server is made from: names and flags, before they are resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..load import load_server
from ..servable import Arrivals
from ..server import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """Hardware and flags by name, as a command or a grid gives them."""

    hardware: Mapping[str, Any]
    """Arguments of :func:`~kvsim.sim.load.load_hardware`."""
    flags: Mapping[str, Any]
    """Flags of ``kvsim simulate``."""

    def changed(self, **changes: object) -> ServerSpec:
        """With other hardware or flags."""
        hardware = {name: changes.pop(name) for name in tuple(changes) if name in self.hardware}
        return replace(
            self,
            hardware={**self.hardware, **hardware},
            flags={**self.flags, **changes},
        )

    def server(self, trace: Arrivals) -> Server:
        """The server for a trace.

        Raises:
            ValueError: as :func:`~kvsim.sim.load.load_server`.
        """
        return load_server(trace, hardware=self.hardware, flags=self.flags)
