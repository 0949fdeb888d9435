"""What a sweep is to run, as a TOML file says it: deployments x traces x rates.

schema = "kvsim-grid/1"
rates = [2, 4, 8]              # requests a second; without it the traces' own
slo_ttft = 2.0                 # seconds; then each run says who kept the limits
slo_tpot = 0.05
quantile = 0.95

[defaults]                     # options of every deployment and trace
model = "llama-3.1-8b"

[[deployment]]
name = "paged"
gpu = ["a100", "h100-sxm"]     # a list makes a deployment for each value
block_size = [16, 32]

[[trace]]
name = "chat"
trace = "traces/chat.jsonl.gz" # from the grid's folder on

Options have the names of ``kvsim simulate``. With ``rates = "slo"`` the rate is searched that keeps
the limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from ...traces.intake import Intake
from ..regress.document import Document, check_key
from ..regress.expand import expanded, with_defaults
from ..regress.keys import KEYS, WORK, asked
from ..slo import SLO
from .cell import Cell

SCHEMA = "kvsim-grid/1"
SEARCH = "slo"
_LIMITS = {"slo_ttft": "ttft_s", "slo_tpot": "tpot_s", "slo_e2e": "e2e_s"}
_TOP = ("schema", "rates", *_LIMITS, "quantile", "defaults", "deployment", "trace")
_KINDS = ("deployment", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Everything that one file asks for."""

    path: Path
    cells: tuple[Cell, ...]
    """Every product; none has a key yet."""

    @property
    def name(self) -> str:
        """The file's, without its ending."""
        return self.path.stem


def read_grid(path: str | Path) -> Grid:
    """Read and check a grid; no trace is opened.

    Raises:
        ValueError: no TOML, another schema, an unknown key (with near ones) or one in the wrong
            place, a value of the wrong kind, two entries of one name. One sentence with file, line
            and entry.
    """
    return _Reader(Path(path)).grid()


class _Reader:
    """Holds the document while its parts are read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._document = Document(path, field="grid", named=_KINDS)
        self._folder = path.parent.resolve()  # workers may stand elsewhere

    def grid(self) -> Grid:
        self._document.check_head(SCHEMA, _TOP)
        defaults = self._defaults()
        slo = self._slo()
        rates = self._rates(slo)
        deployments = dict(self._entries("deployment", defaults))
        traces = dict(self._entries("trace", defaults))
        for table, found in (("deployment", deployments), ("trace", traces)):
            if not found:
                raise ValueError(f"{self._path} holds no [[{table}]].")
        cells = []
        for deployment, flags in deployments.items():
            server = asked(flags, self._folder)
            for trace, work in traces.items():
                intake = asked(work, self._folder).intake
                self._check_rates(rates, intake, trace)
                cells += [
                    Cell(
                        deployment=deployment,
                        trace=trace,
                        intake=intake,
                        hardware=server.hardware,
                        flags=server.flags,
                        rate_per_s=rate if isinstance(rate, float) else None,
                        slo=slo,
                        search=rate == SEARCH,
                    )
                    for rate in rates
                ]
        return Grid(path=self._path, cells=tuple(cells))

    def _defaults(self) -> dict[str, Any]:
        defaults = self._document.table("defaults")
        for key, value in defaults.items():
            try:
                check_key(key, KEYS)
                list(expanded("", {key: value}))
            except ValueError as error:
                raise self._document.wrong(error, "defaults", key=key) from None
        return defaults

    def _slo(self) -> SLO | None:
        values = self._document.values
        given = {key: values[key] for key in (*_LIMITS, "quantile") if key in values}
        for key, value in given.items():
            _check_number(key, value, self._path)
        if not given:
            return None
        try:
            limits = {name: given[key] for key, name in _LIMITS.items() if key in given}
            quantile = {"quantile": given["quantile"]} if "quantile" in given else {}
            return SLO(**limits, **quantile)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None

    def _rates(self, slo: SLO | None) -> tuple[float | str | None, ...]:
        value = self._document.values.get("rates")
        if value is None:
            return (None,)
        if value == SEARCH:
            if slo is None:
                raise ValueError(
                    f"{self._path}: rates(={SEARCH!r}) needs slo_ttft, slo_tpot or slo_e2e."
                )
            return (SEARCH,)
        rates = value if isinstance(value, list) else [value]
        if not rates:
            raise ValueError(f"{self._path}: rates(=[]) must hold a value.")
        for rate in rates:
            _check_number("rates", rate, self._path)
            if not 0 < rate < inf:
                raise ValueError(f"{self._path}: rates(={rate!r}) must be > 0 requests a second.")
        return tuple(dict.fromkeys(float(rate) for rate in rates))

    def _check_rates(
        self, rates: tuple[float | str | None, ...], intake: Intake, name: str
    ) -> None:
        if rates == (None,):
            return
        for key in ("concurrency", "rate_per_s"):
            value = getattr(intake, key)
            if value is not None:
                given = f"{key.removesuffix('_per_s')}(={value:g})"
                raise self._beside_rates(given, name)
        if intake.arrival_process == "backlog":
            raise self._beside_rates("arrival_process(='backlog')", name)

    def _beside_rates(self, given: str, name: str) -> ValueError:
        return ValueError(
            f"{self._path}, trace {name!r}: {given} has no place beside rates: leave one out."
        )

    def _entries(
        self, kind: str, defaults: Mapping[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and options of the expanded tables of a kind."""
        own = {key for key in KEYS if (key in WORK) == (kind == "trace")}
        shared = {key: value for key, value in defaults.items() if key in own}
        seen: set[str] = set()
        for index, table in enumerate(self._document.tables(kind)):
            name = self._document.name_of(kind, index, table)
            options = {key: value for key, value in table.items() if key != "name"}
            at: str | None = None
            try:
                for at, value in options.items():
                    _check_place(at, own, kind)
                    list(expanded("", {at: value}))
            except ValueError as error:
                raise self._document.wrong(error, kind, index, key=at) from None
            for title, one in expanded(name, with_defaults(options, shared)):
                try:
                    asked(one, self._folder)
                    if title in seen:
                        raise ValueError(f"name(={title!r}) must be one {kind}'s only.")
                except ValueError as error:
                    raise self._document.wrong(error, kind, index) from None
                seen.add(title)
                yield title, one


def _check_place(key: str, own: set[str], kind: str) -> None:
    if key in KEYS and key not in own:
        other = _KINDS[kind == "deployment"]
        raise ValueError(f"key(={key!r}) belongs to a [[{other}]].")
    check_key(key, (*(name for name in KEYS if name in own), "name"))


def _check_number(key: str, value: object, path: Path) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{path}: {key}(={value!r}) must be a number.")
