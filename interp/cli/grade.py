"""`interp grade`: the outcomes of a run by another grader, without generating anything anew."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options

DIFFERENCES_SHOWN = 5


def grade(
    run: Annotated[Path, typer.Argument(help="A run folder, or the name of one in runs/.")],
    grader: Annotated[str | None, typer.Option(help="Grade anew: grammar, rules or judge.")] = None,
    graded: Annotated[str | None, typer.Option(help="Take outcomes that are there: the NAME in outcomes-NAME.")] = None,
    against: Annotated[str, typer.Option(help="Whose outcomes to compare with; run: the run's own.")] = "run",
    called: Annotated[str | None, typer.Option("--as", help="NAME of the file; default: the grader's.")] = None,
    case: Annotated[
        str | None, typer.Option(help="The scene, where transcripts have none: summit-bridge, or a JSON file.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the judge's OpenAI-compatible server.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge, as its server calls it.")] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the server's key; empty for none.")
    ] = "OPENAI_API_KEY",
    sheet: Annotated[Path | None, typer.Option(help="Write a blind sheet (CSV) for people.")] = None,
    from_sheet: Annotated[Path | None, typer.Option(help="Read a filled-in sheet.")] = None,
    person: Annotated[str, typer.Option(help="Who filled the sheet in.")] = "someone",
    per_condition: Annotated[int | None, typer.Option(help="Rollouts of each condition on the sheet.")] = None,
    headline: Annotated[bool, typer.Option("--headline", help="Rates by the published definitions.")] = False,
    seed: Annotated[int, typer.Option(help="Of the sheet, and of the intervals.")] = 0,
    workspace: options.Where = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Grade a run's rollouts again, say how the rates by rung change, and how far two graders agree.

    Outcomes go to outcomes-NAME.jsonl in the run folder; nothing there is overwritten. Without --grader, --graded,
    --sheet or --from-sheet the run's own outcomes are counted.
    """
    _one_of(**{"--grader": grader, "--graded": graded, "--sheet": sheet, "--from-sheet": from_sheet})
    from interp.behaviour import guide, write_sheet
    from interp.behaviour.graded_run import OWN, GradedRun, read_case, slug
    from interp.store import workspace as open_workspace

    found = GradedRun.open(run if run.is_dir() else open_workspace(workspace).runs / run)
    scene = read_case(case) if case else None
    if sheet:
        n = 0 if dry_run else write_sheet(sheet, found.rollouts, seed=seed, per_condition=per_condition, case=scene)
        _say_sheet(sheet, n, guide(), dry_run, json)
        return
    name, gradings = graded or OWN, None
    if grader:
        reads = _grader(grader, scene, base_url, judge_model, key_variable or None, found.folder)
        name = called or (f"judge-{slug(judge_model or '')}" if grader == "judge" else grader)
        if dry_run or not json:
            most = f", at most {2 * len(found.rollouts)} requests" if grader == "judge" else ""
            options.say(f"{len(found.rollouts)} rollouts{most}.")
        if dry_run:
            return
        with options.progress(f"grading by {name}") as tell:
            gradings = found.grade(reads, tell)
    elif from_sheet:
        from interp.behaviour import read_sheet

        name = called or f"human-{slug(person)}"
        gradings = read_sheet(from_sheet, found.rollouts, seed=seed, grader=person)
    written = found.write(name, gradings) if gradings is not None and not dry_run else None
    _tell(found, name, found.read(name) if gradings is None else gradings, against, headline, seed, written, json)


def _one_of(**given: Any) -> None:
    from interp.errors import ExperimentError

    asked = [name for name, value in given.items() if value is not None]
    if len(asked) > 1:
        raise ExperimentError(f"grading with {' and '.join(asked)}", "these are different tasks", "give one of them")


def _grader(
    kind: str, case: Any, base_url: str | None, judge_model: str | None, key_variable: str | None, folder: Path
) -> Any:
    """The grader of that kind; the judge's replies are kept in the folder."""
    from interp.behaviour import Judge, Rules, Server, grammar
    from interp.errors import ExperimentError
    from interp.store import Rows

    if kind == "judge":
        if not base_url or not judge_model:
            do = "give --base-url http://localhost:8000/v1 and --judge-model NAME"
            raise ExperimentError("grading by a judge", "no server or no model", do)
        return Judge(Server(base_url, judge_model, key_variable=key_variable), case, Rows(folder / "judge.jsonl"))
    known = {"grammar": grammar, "rules": Rules(case)}
    if kind not in known:
        raise ExperimentError(f"grading by {kind!r}", "no such grader", "choose one of grammar, rules, judge")
    return known[kind]


def _say_sheet(path: Path, n: int, guide: str, dry_run: bool, json: bool) -> None:
    if json:
        options.as_json({"sheet": str(path), "rows": n, "guide": guide})
    elif not dry_run:
        options.say(f"{n} replies are in {path}, shuffled and without their conditions.\n\n{guide}")


def _tell(
    found: Any, name: str, gradings: Any, against: str, headline: bool, seed: int, written: Path | None, json: bool
) -> None:
    """Counts by rung; beside another grader's where there is one; and the headlines."""
    from interp.behaviour.graded_run import definitions, headline_rates, rung_rates

    rates = rung_rates(gradings)
    compared = found.beside(name, gradings, against, seed=seed)
    headlines = headline_rates(found.rollouts, gradings) if headline else {}
    if json:
        told: dict[str, Any] = {"grader": name, "written": written and str(written), "graders": found.graders}
        told |= {"rates": {rung: _plain(rate) for rung, rate in rates.items()}}
        told |= {"comparison": compared and compared.to_dict()}
        named = {c: {one: _plain(rate) for one, rate in by_name.items()} for c, by_name in headlines.items()}
        options.as_json(told | ({"headlines": named} if headline else {}))
        return
    if compared is None:
        options.say(f"{len(gradings)} rollouts by {name}:")
        for rung, rate in rates.items():
            options.say(f"  {rung:<18}{_said(rate)}")
    else:
        _say_comparison(compared)
    for one in definitions() if headline else ():
        options.say(f"\n{one.name}: {', '.join(one.rungs)} ({one.meaning}; {one.source})")
        for condition in found.shown:
            if condition in headlines:
                options.say(f"  {_said(headlines[condition][one.name])}  {condition}")
    options.say(f"\nThe outcomes are in {written}" if written else f"\nGraders of this run: {', '.join(found.graders)}")


def _say_comparison(compared: Any) -> None:
    options.say(f"{'':<18}{'by ' + compared.before:<32}{'by ' + compared.after:<32}change, in points")
    for row in compared.rungs:
        change, low_high = row.change.difference, row.change.interval
        spread = f" ({100 * low_high.low:+.0f} to {100 * low_high.high:+.0f})" if low_high else ""
        moved = "undefined" if change is None else f"{100 * change:+.1f}{spread}"
        options.say(f"{row.rung:<18}{_said(row.before):<32}{_said(row.after):<32}{moved}")
    found = compared.agreement
    if found.observed is None:
        options.say("No rollout was graded by both.")
        return
    spread = f" ({found.interval.low:.2f} to {found.interval.high:.2f})" if found.interval else ""
    kappa = "undefined" if found.kappa is None else f"{found.kappa:.2f}{spread}"
    ungraded = f"; {found.ungraded} were left ungraded by one or both" if found.ungraded else ""
    options.say(f"They agree on {100 * found.observed:.0f} % of {found.n} rollouts, kappa {kappa}{ungraded}.")
    for one, other, n in found.differences[:DIFFERENCES_SHOWN]:
        options.say(f"  {n} x {one} by {compared.before}, {other} by {compared.after}")


def _plain(rate: Any) -> dict[str, Any]:
    counts = {"successes": rate.successes, "trials": rate.trials, "ungraded": rate.ungraded, "value": rate.value}
    return counts | {"low": rate.interval and rate.interval.low, "high": rate.interval and rate.interval.high}


def _said(rate: Any) -> str:
    if rate.value is None:
        return f"undefined ({rate.ungraded} ungraded)"
    low, high = 100 * rate.interval.low, 100 * rate.interval.high
    return f"{100 * rate.value:.0f} % ({low:.0f} to {high:.0f}; {rate.successes} of {rate.trials})"
