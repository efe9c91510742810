"""`interp power`: how many rollouts a comparison needs, and what a given number can show."""

from typing import Annotated, Any

import typer

from interp.cli import options

_TESTS = {
    "pooled": "z test, pooled variance",
    "arcsine": "arcsine, Cohen's h",
    "corrected": "z test, continuity-corrected",
}


def power(
    base: Annotated[
        str | None, typer.Argument(help="Base rate: 0.28 or 28%. Without it: the figures often quoted.")
    ] = None,
    other: Annotated[str | None, typer.Argument(help="The rate it should be told from.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="What so many rollouts in each arm can show.")] = None,
    power: Annotated[float, typer.Option(help="Wanted chance to find the difference.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Two-sided level of the test.")] = 0.05,
    tests: Annotated[int, typer.Option(help="Conditions that are tested together: Holm's first step.")] = 1,
    correlation: Annotated[
        float | None, typer.Option(help="Of the halves of a pair (phi); default: 0, 0.25 and 0.5 are shown.")
    ] = None,
    discordance: Annotated[float | None, typer.Option(help="Chance that the halves of a pair differ.")] = None,
    cluster_size: Annotated[float, typer.Option(help="Rollouts that share a scenario.")] = 1,
    intraclass: Annotated[float, typer.Option(help="How alike those are: 0 not at all, 1 the same.")] = 0,
    json: options.AsJson = False,
) -> None:
    """Rollouts per arm for two rates, the gain from pairing, and the effect that a number of rollouts can show."""
    from interp.stats.planner import QUOTED, compare, reach

    level: dict[str, Any] = {"power": power, "alpha": alpha, "tests": tests}
    clusters: dict[str, Any] = {"cluster_size": cluster_size, "intraclass": intraclass}
    pairs: dict[str, Any] = {"correlation": correlation, "discordance": discordance}
    _refuse(base, other, n, pairs)
    if base is None:
        found = [compare(one, two) | {"quoted": size, "by": formula} for one, two, size, formula in QUOTED]
        options.as_json(found) if json else _say_quoted(found)
    elif other is None:
        reached = reach(_share(base), n or 0, **level, **clusters)
        options.as_json(reached) if json else _say_reach(reached)
    else:
        planned = compare(_share(base), _share(other), n=n, **level, **pairs, **clusters)
        options.as_json(planned) if json else _say_plan(planned)


def _refuse(base: str | None, other: str | None, n: int | None, pairs: dict[str, Any]) -> None:
    """Refuse what lacks a rate, and options that would be ignored."""
    from interp.errors import InterpError

    stated = [f"--{name}" for name, value in pairs.items() if value is not None]
    if base is None and (n is not None or stated):
        raise InterpError("planning", "no base rate", "give one, such as `interp power 0.28 0.10`")
    if base is not None and other is None and n is None:
        raise InterpError(f"planning from {base}", "neither another rate nor --n", "give one of the two, or both")
    if base is not None and other is None and stated:
        raise InterpError(f"planning with {stated[0]}", "it needs two rates", "give the other rate, or leave it out")


def _share(text: str) -> float:
    """0.28 from `0.28` or `28%`."""
    from interp.errors import InterpError

    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = None
    if value is None or rest:
        raise InterpError(f"a rate of {text!r}", "it is no number", "write 0.28 or 28%")
    return value


def _say_quoted(found: list[dict[str, Any]]) -> None:
    options.say("Rollouts per arm, 80 % power, two-sided 0.05; quoted figures are rounded to the nearest rollout.")
    options.say(f"{'':<14}{'quoted':>8}  {'given by':<10}" + "".join(f"{formula:>12}" for formula in _TESTS))
    for one in found:
        solutions = "".join(f"{arm['solution']:>12.2f}" for arm in one["arms"])
        rates = f"{_percent(one['base'])} to {_percent(one['other'])}"
        options.say(f"{rates:<14}{one['quoted']:>8}  {one['by']:<10}{solutions}")
    for formula, name in _TESTS.items():
        options.say(f"{formula}: {name}")


def _say_plan(found: dict[str, Any]) -> None:
    options.say(f"{_percent(found['base'])} to {_percent(found['other'])}: {_level(found)}")
    clustered = found["design_effect"] > 1
    last = f"{'in clusters':>13}" if clustered else ""
    options.say(f"{'Rollouts in each arm':<34}{'solution':>10}{'nearest':>9}{'enough':>8}{'Fisher power':>14}{last}")
    for arm in found["arms"]:
        tail = f"{arm['with_clusters']:>13}" if clustered else ""
        options.say(f"  {_TESTS[arm['formula']]:<32}{_counts(arm)}{tail}")
    options.say(f"{'Pairs (McNemar)':<34}{'solution':>10}{'nearest':>9}{'enough':>8}{'exact power':>14}{'saved':>13}")
    for pair in found["pairs"]:
        phi = "-" if pair["correlation"] is None else f"{pair['correlation']:.2f}"
        name = f"correlation {phi}, {_percent(pair['discordance'])} differ"
        options.say(f"  {name:<32}{_counts(pair)}{100 * pair['saved']:>11.0f} %")
    if clustered:
        options.say("Pairs are counted as independent: clusters of pairs take a bootstrap over scenarios.")
    if "at" in found:
        _say_at(found["at"])


def _say_at(at: dict[str, Any]) -> None:
    counted = "" if at["effective_n"] == at["n"] else f", worth {at['effective_n']} independent ones"
    options.say(f"Power with {at['n']} in each arm{counted}:")
    for formula, name in _TESTS.items():
        options.say(f"  {name:<32}{_two(at[formula]):>10}")
    options.say(f"  {'Fisher, exactly':<32}{_two(at['fisher']):>10}")
    for pair in at["pairs"]:
        phi = "-" if pair["correlation"] is None else f"{pair['correlation']:.2f}"
        name = f"{at['n']} pairs, correlation {phi}"
        options.say(f"  {name:<32}{_two(pair['mcnemar']):>10}")


def _say_reach(found: dict[str, Any]) -> None:
    counted = "" if found["effective_n"] == found["n"] else f", worth {found['effective_n']} independent ones"
    options.say(f"From {_percent(found['base'])} with {found['n']} rollouts in each arm{counted}: {_level(found)}")
    options.say(f"{'':<34}{'falls to':>10}{'rises to':>10}")
    for row in found["detectable"]:
        ends = "".join(f"{'-' if row[end] is None else _percent(row[end]):>10}" for end in ("below", "above"))
        options.say(f"  {_TESTS[row['formula']]:<32}{ends}")
    if any(row["below"] is None or row["above"] is None for row in found["detectable"]):
        options.say("- : no change in that direction is large enough to be found with this power.")


def _level(found: dict[str, Any]) -> str:
    corrected = f" over {found['tests']} tests" if found["tests"] > 1 else ""
    return f"{_percent(found['power'])} power, two-sided {found['alpha']:g}{corrected}"


def _counts(row: dict[str, Any]) -> str:
    return f"{row['solution']:>10.2f}{row['nearest']:>9}{row['enough']:>8}{_two(row['exact_power']):>14}"


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
