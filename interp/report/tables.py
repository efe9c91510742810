"""The tables behind the figures, and the three numbers of the first screen: words and digits, no markup."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interp.behaviour import MIN_COHERENCE
from interp.plots import baseline, counted, event_of, outcome_rows, percent
from interp.traces import Block, TokenTrace

DASH = "–"


class Table(NamedTuple):
    """Rows of cells that are ready to be shown; the first column names the row, the others are set as numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Figure(NamedTuple):
    """A number for the first screen."""

    title: str
    value: str
    interval: str
    note: str


def interval(low: float | None, high: float | None) -> str:
    """Both ends in percent, or a dash."""
    return DASH if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"


def points(value: float | None) -> str:
    """A difference of shares, in percentage points with its sign."""
    return DASH if value is None else f"{100 * value:+.0f}".replace("-", "−")


def ends(low: float | None, high: float | None) -> str:
    """Both ends of a difference of shares, in percentage points, or a dash."""
    return DASH if low is None or high is None else f"{points(low)} to {points(high)}"


def p_value(value: float | None) -> str:
    """Three decimals, and never a bare zero."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float | None, pattern: str = ".2f") -> str:
    """A number with a real minus sign, or a dash."""
    return DASH if value is None else format(value, pattern).replace("-", "−")


def key_numbers(results: Mapping[str, Any]) -> list[Figure]:
    """The baseline's rate, and the rates of the coherent arms that lower and raise it most."""
    cells = {cell["condition"]: cell for cell in results["cells"]}
    base = baseline(results)
    figures = [] if base is None else [_rate_figure("Unedited", base, _replies(base))]
    return figures + [_arm_figure(arm, cells[arm["treatment"]]) for arm in outermost(results)]


def outermost(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The coherent arms that lower and raise the event most, lowest first; one or none where there are no more."""
    cells = {cell["condition"]: cell for cell in results["cells"]}
    arms = [arm for arm in results["arms"] if arm["rank"] is not None and _coherent(cells[arm["treatment"]])]
    arms.sort(key=lambda arm: _change(arm, cells[arm["treatment"]]))
    return [arms[0], arms[-1]] if len(arms) > 1 else arms


def _change(arm: Mapping[str, Any], cell: Mapping[str, Any]) -> float:
    """The change over all rollouts; the ranked one is over those that the controls have too."""
    found = (cell["contrast"] or {}).get("difference")
    return arm["rank"]["real"] if found is None else found


def _replies(cell: Mapping[str, Any]) -> str:
    ungraded = counted(cell)["ungraded"]
    return f"{percent(cell['coherent']['value'])} coherent" + (f", {ungraded} ungraded" if ungraded else "")


def _coherent(cell: Mapping[str, Any]) -> bool:
    return (cell["coherent"]["value"] or 0) >= MIN_COHERENCE


def _arm_figure(arm: Mapping[str, Any], cell: Mapping[str, Any]) -> Figure:
    rank, contrast = arm["rank"], cell["contrast"]
    spread = "" if contrast is None else f" (95 % interval {points(contrast['low'])} to {points(contrast['high'])})"
    note = (
        f"{points(_change(arm, cell))} points against the baseline{spread}; rank {rank['rank']} of "
        f"{len(rank['controls']) + 1} with its controls; {_replies(cell)}"
    )
    return _rate_figure(arm["name"], cell, note)


def _rate_figure(title: str, cell: Mapping[str, Any], note: str) -> Figure:
    rate = counted(cell)
    spread = f"95 % interval {interval(rate['low'], rate['high'])}, {rate['successes']} of {rate['trials']}"
    return Figure(title, percent(rate["value"]), spread, note)


def conditions(results: Mapping[str, Any], role: str | None = None) -> Table:
    """Every number of the cells: of the baseline and the treatments, or of one role."""
    head = (
        "Condition",
        "Strength",
        "Raw",
        "n",
        event_of(results).capitalize(),
        "95 % interval",
        "Change",
        "95 % interval",
        "p",
        "Coherent",
        "Ungraded",
        "KL",
    )
    own = ("baseline", "treatment")
    wanted = [c for c in results["cells"] if (c["role"].startswith(role) if role else c["role"] in own)]
    return Table(head, tuple(_condition(cell) for cell in wanted))


def _condition(cell: Mapping[str, Any]) -> tuple[str, ...]:
    rate, contrast = counted(cell), cell["contrast"] or {}
    strength = DASH if cell["strength"] is None else f"{number(cell['strength'], '+g')} {cell['unit']}"
    return (
        cell["condition"],
        strength,
        number(cell["raw_strength"]),
        str(cell["n"]),
        percent(rate["value"]),
        interval(rate["low"], rate["high"]),
        points(contrast.get("difference")),
        f"{points(contrast.get('low'))} to {points(contrast.get('high'))}" if contrast else DASH,
        p_value(contrast.get("p_value")),
        percent(cell["coherent"]["value"]),
        str(rate["ungraded"]),
        number(cell["kl"], ".3f"),
    )


def ranks(results: Mapping[str, Any]) -> Table:
    """Where each arm stands among its control directions."""
    head = (
        "Arm",
        "Tested",
        "Change, ranked",
        "Controls, lowest",
        "Controls, highest",
        "Rank",
        "p",
        "Smallest p possible",
        "p of the contrast (Holm)",
    )
    return Table(head, tuple(_rank(arm) for arm in results["arms"]))


def _rank(arm: Mapping[str, Any]) -> tuple[str, ...]:
    rank, holm = arm["rank"], p_value(arm.get("p_holm"))
    if rank is None:
        return (arm["name"], arm["alternative"], *[DASH] * 6, holm)
    bank = rank["controls"]
    return (
        arm["name"],
        arm["alternative"],
        points(rank["real"]),
        points(min(bank, default=None)),
        points(max(bank, default=None)),
        f"{rank['rank']} of {len(bank) + 1}",
        p_value(rank["p_value"]),
        p_value(rank["floor"]),
        holm,
    )


def standings(results: Mapping[str, Any]) -> Table | None:
    """Each arm within every kind of control, at equal norm and at equal KL; None in results of an older version."""
    head = (
        "Arm",
        "Kind of control",
        "At equal",
        "n",
        "Rank",
        "Percentile",
        "Nearest",
        "Real minus nearest",
        "p (Holm)",
    )
    rows = [
        (arm["name"], one["kind"], at, str(one["n"]), *_kind(one))
        for arm in results["arms"]
        for at, found in (("norm", arm.get("standing")), ("KL", arm.get("equal_kl")))
        for one in (found or {"kinds": []})["kinds"]
    ]
    return Table(head, tuple(rows)) if rows else None


def _kind(one: Mapping[str, Any]) -> tuple[str, ...]:
    rank = one["rank"]
    placed = (DASH, DASH) if rank is None else (f"{rank['rank']} of {one['n'] + 1}", number(rank["percentile"], ".0f"))
    return (*placed, one["nearest"] or DASH, points(one["difference"]), p_value(one["p_holm"]))


def side_effects(results: Mapping[str, Any]) -> Table | None:
    """Every side effect under every condition, with its change; None where they were not measured."""
    found = results.get("side_effects")
    if not found:
        return None
    head = ("Condition", "Measure", "On", "Value", "Change", "Interval", "For the worse")
    rows = [(c["condition"], *_measure(one)) for c in found["conditions"] for one in c["measures"]]
    return Table(head, tuple(rows))


def _measure(one: Mapping[str, Any]) -> tuple[str, ...]:
    def told(value: float | None) -> str:
        return percent(value) if one["unit"] == "share" else number(value, ".3g")

    def moved(value: float | None) -> str:
        return points(value) if one["unit"] == "share" else number(value, "+.3g")

    change = one["change"] or {}
    bounds = change.get("interval")
    interval = DASH if not bounds else f"{moved(bounds['low'])} to {moved(bounds['high'])}"
    worse = DASH if one["worsened"] is None else "yes" if one["worsened"] else "not shown"
    value = f"{told(one['value'])}{'' if one['unit'] == 'share' else ' ' + one['unit']}"
    return one["name"], one["on"], value, moved(change.get("difference")), interval, worse


def outcomes(results: Mapping[str, Any]) -> Table:
    """Counts of every outcome, by condition."""
    rows = outcome_rows(results)
    names = list(dict.fromkeys(name for _, counts in rows for name in counts))
    body = tuple((name, str(sum(counts.values())), *(str(counts.get(n, 0)) for n in names)) for name, counts in rows)
    return Table(("Condition", "n", *names), body)


def sweep(rows: Sequence[Mapping[str, Any]]) -> Table:
    """AUROC by site and method."""
    head = ("Site", "Method", "AUROC", "95 % interval", "Shuffled labels", "p", "n")

    def ends(low: float | None, high: float | None) -> str:
        return DASH if low is None or high is None else f"{low:.3f} to {high:.3f}"

    return Table(
        head,
        tuple(
            (
                row["site"],
                row["method"],
                number(row["auroc"], ".3f"),
                ends(row["low"], row["high"]),
                ends(row["null_low"], row["null_high"]),
                p_value(row["p_value"]),
                str(row["n"]),
            )
            for row in rows
        ),
    )


def segments(trace: TokenTrace) -> Table:
    """Mean and highest score of each part of a transcript, and how much of it lies above the null band."""
    head = (
        "Part",
        "Tokens",
        *(f"{key}: {what}" for key in trace.directions for what in ("mean z", "highest z", "above band")),
    )
    return Table(head, tuple(_segment(trace, block) for block in trace.blocks if block.role is not None))


def _segment(trace: TokenTrace, block: Block) -> tuple[str, ...]:
    cells = []
    for row, key in enumerate(trace.directions):
        known = slice(max(block.start, 1), block.stop)
        scores, high = trace.scores[row][known], trace.band(key)[1][known]
        cells += (
            [
                number(float(scores.mean()), "+.2f"),
                number(float(scores.max()), "+.2f"),
                percent(float((scores > high).mean())),
            ]
            if len(scores)
            else [DASH] * 3
        )
    return (block.name, str(block.stop - block.start), *cells)


def strongest(trace: TokenTrace, count: int = 8) -> list[tuple[int, str, float]]:
    """The tokens at which the first direction fires most: position, piece, z."""
    scores = trace.scores[0]
    order = sorted(range(1, len(trace)), key=lambda position: -scores[position])[:count]
    return [(position, trace.pieces[position], float(scores[position])) for position in order]


def offsets(found: Mapping[str, Any]) -> Table:
    """An average offset by offset: mean and band of the rollouts, of their twins, of the difference."""
    parts = [("Rollouts", found["average"]), ("Twins", found["twins"]), ("Rollouts minus twins", found["difference"])]
    known = [(name, part) for name, part in parts if part is not None]
    head = ("Offset", *(column for name, _ in known for column in (name, "95 % band", "Scenarios")))
    rows = [
        (f"{at:+d}".replace("-", "\u2212"), *(cell for _, part in known for cell in _at_offset(part, index)))
        for index, at in enumerate(found["offsets"])
    ]
    return Table(head, tuple(rows))


def _at_offset(part: Mapping[str, Any], index: int) -> tuple[str, str, str]:
    low, high = part["low"][index], part["high"][index]
    band = DASH if low is None or high is None else f"{number(low, '+.2f')} to {number(high, '+.2f')}"
    return number(part["mean"][index], "+.2f"), band, str(part["scenarios"][index])


def pretty(record: Mapping[str, Any] | None) -> Table | None:
    """A run record as names and values; nested names are joined by dots."""
    return None if record is None else Table(("Setting", "Value"), tuple(flat("", record)))


def flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    """Nested settings as names and values; nested names are joined by dots."""
    if isinstance(value, Mapping) and value:
        return [row for key, item in value.items() for row in flat(f"{prefix}.{key}" if prefix else key, item)]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [row for index, item in enumerate(value) for row in flat(f"{prefix}[{index}]", item)]
    shown = ", ".join(map(str, value)) if isinstance(value, list) else DASH if value is None else str(value)
    return [(prefix, shown)]
