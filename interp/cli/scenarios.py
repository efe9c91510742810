"""`interp scenarios`: what situations there are, and prompts of them in a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options

app = typer.Typer(help="Written scenarios, their benign twins and prompt variants.", no_args_is_help=True)

Family = Annotated[
    str, typer.Option("--family", help="replacement, peer, organism or organism:KIND (`interp scenarios list`).")
]
Number = Annotated[int, typer.Option("--n", help="How many scenes, before levels are crossed and twins are added.")]
Filters = Annotated[
    list[str] | None, typer.Option("--where", help="FACTOR=LEVEL,LEVEL; repeatable. template=NAME picks frames.")
]
Cross = Annotated[str, typer.Option("--cross", help="Factors of which every scene is told under all levels.")]
Twins = Annotated[str, typer.Option("--twins", help="Benign twins of every prompt: all, or a list of them.")]
Group = Annotated[str, typer.Option("--group", help="What a group is: scene or template.")]


@app.command("list")
def show(json: options.AsJson = False) -> None:
    """List families, factors with their levels, twins and templates."""
    from interp.scenarios import listing

    found = listing()
    if json:
        options.as_json(found)
        return
    for name, family in found.items():
        options.say(f"{name}: {family['says']}")
        for factor, told in family["factors"].items():
            options.say(f"    {factor:<12}{', '.join(told['levels'])}  ({told['meaning']})")
        more = {key: family[key] for key in ("twins", "templates", "kinds") if key in family}
        for key, values in more.items():
            options.say(f"    {key:<12}{', '.join(values)}")


@app.command("write")
def write(
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    family: Family = "replacement",
    n: Number = 48,
    seed: Annotated[int, typer.Option(help="Of casts, wordings and orders.")] = 0,
    where: Filters = None,
    cross: Cross = "",
    twins: Twins = "",
    group: Group = "scene",
    json: options.AsJson = False,
) -> None:
    """Write prompts, one transcript a line, that every command reads."""
    from interp.scenarios import scenarios
    from interp.transcripts import write_jsonl

    prompts = scenarios(wanted(family, n, seed, where, cross, twins, group))
    write_jsonl(out, prompts)
    groups = len({prompt.group for prompt in prompts})
    if json:
        options.as_json({"path": str(out), "prompts": len(prompts), "groups": groups})
    else:
        options.say(f"{len(prompts)} prompts of {groups} groups are in {out}")


def wanted(
    family: str, n: int, seed: int, where: list[str] | None, cross: str, twins: str, group: str = "scene"
) -> Any:
    """What the options ask for."""
    from interp.scenarios import Wanted, parse_twins, parse_where

    crossed = tuple(part.strip() for part in cross.split(",") if part.strip())
    return Wanted(family, n, seed, parse_where(where or []), crossed, parse_twins(family, twins), group)
