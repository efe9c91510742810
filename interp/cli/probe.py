"""`interp probe`: is the concept there? `show` prints what was found; `push` and `pull`: what others may use of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from interp.cli import options


class _FitsByDefault(TyperGroup):
    """Commands of which `fit` may be left out: `interp probe RECIPE.toml` fits."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["fit", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands, and then what fitting takes."""
        super().format_options(ctx, formatter)
        fit = self.commands["fit"]
        with formatter.section("Fitting"):
            formatter.write_text("interp probe RECIPE.toml..., or interp probe fit RECIPE.toml..., with these options:")
        fit.format_options(type(ctx)(fit, info_name="fit", parent=ctx), formatter)


app = typer.Typer(
    cls=_FitsByDefault,
    help="Fit and measure probes (`interp probe RECIPE.toml ...`), show them, share them, or take one that was shared.",
    no_args_is_help=True,
    subcommand_metavar="RECIPE.toml... | show NAME | push NAME --to PLACE | pull SOURCE",
)


@app.command("fit")
def probe(
    recipes: Annotated[
        list[Path], typer.Argument(metavar="RECIPE.toml...", help="A recipe (TOML), or several, for one batch.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="organism (embedded, the default), a folder, or a hub id; repeatable."),
    ] = None,
    sites: Annotated[
        str | None, typer.Option(help="In place of the recipes' sites: all, or a list such as L2.resid_post,-1,2/3.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave probes alone that are whole and of the same recipe, data and model.")
    ] = False,
    shard: Annotated[
        str, typer.Option(metavar="i/n", help="Do the i-th of n parts of the batch; parts may run at once.")
    ] = "1/1",
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    model_arg: options.ModelArgs = None,
    despite_doctor: options.DespiteDoctor = False,
    workspace: options.Where = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Fit and measure probes at every layer: AUROC on unseen groups, its interval, its null.

    Directions and card are written to probes/NAME/MODEL/, whole or not at all. Every recipe is fitted on every model;
    a table of them all is in runs/probe-.../summary.html and .csv. Exit status 1 if any failed.
    """
    from interp.jobs.batch import batch, batch_cost, parse_shard
    from interp.store import workspace as open_workspace

    part, jobs, where = parse_shard(shard), _jobs(recipes, model, sites), open_workspace(workspace)

    def load(name: str) -> Any:
        return options.load_model(name, dtype, device, device_map, revision, model_arg)

    if dry_run:
        _state_costs(batch_cost(jobs, load, shard=part), json)
        return
    with _hint_at_resuming(len(jobs) > 1 and not resume), options.stages() as tell:
        found = batch(
            jobs,
            load,
            workspace=where,
            resume=resume,
            shard=part,
            despite_doctor=despite_doctor,
            command=("interp", *sys.argv[1:]),
            on_start=None if json else partial(_say_cost, err=True),
            on_progress=lambda _, *stage: tell(*stage),
            on_end=(lambda _, done, total: tell("probes", done, total)) if len(jobs) > 1 else None,
        )
    if json:
        options.as_json({"jobs": [_as_json(row, where.root) for row in found.rows], "summary": str(found.summary)})
    elif len(jobs) == 1:
        _tell_one(found.rows, where.root)
    else:
        _tell_all(found)
    if found.failed:
        raise typer.Exit(1)


@contextmanager
def _hint_at_resuming(wanted: bool) -> Iterator[None]:
    """Say after Ctrl-C how finished probes are left alone."""
    try:
        yield
    except KeyboardInterrupt:
        if wanted:
            typer.echo("interp: add --resume to leave the finished probes alone.", err=True)
        raise


def _jobs(recipes: list[Path], models: list[str] | None, sites: str | None) -> list[Any]:
    """Every recipe for every model."""
    from interp.jobs import Recipe
    from interp.jobs.batch import ProbeJob

    chosen = None if sites is None else tuple(name.strip() for name in sites.split(","))
    read = [(Recipe.load(path), str(path)) for path in recipes]
    return [ProbeJob(recipe, name, chosen, source) for name in models or ["organism"] for recipe, source in read]


def _state_costs(costs: Any, json: bool) -> None:
    """What every job would cost; exit status 1 if the data of any could not give a probe."""
    from dataclasses import asdict

    rows, faults = [], 0
    for job, cost in costs:
        row: dict[str, Any] = {"recipe": job.source, "name": job.recipe.name, "model": job.on}
        faults += (failed := isinstance(cost, Exception))
        stages = {} if failed else {stage: asdict(one) for stage, one in cost.items()}
        rows.append(row | {"cost": stages, "error": str(cost) if failed else None})
        if not json:
            _say_cost(job, cost)
    if json:
        options.as_json({"jobs": rows})
    if faults:
        raise typer.Exit(1)


def _say_cost(job: Any, cost: Any, *, err: bool = False) -> None:
    if isinstance(cost, Exception):
        typer.echo(f"interp: {cost}", err=True)
        return
    typer.echo(f"{job.name}:", err=err)
    for stage, one in cost.items():
        told = f"  {stage}: {one.transcripts} texts, {one.tokens} tokens, {one.bytes / 1e6:.1f} MB kept"
        typer.echo(told, err=err)


def _as_json(row: dict[str, Any], root: Path) -> dict[str, Any]:
    """One job for machines: what is undefined is null."""
    keys = ("recipe", "name", "model", "state", "error", "best", "choosing", "baselines", "recall", "signal")
    folder = str(root / row["folder"]) if row.get("folder") else None
    return {key: row.get(key) for key in keys} | {"folder": folder, "measures": row.get("measures", [])}


def _tell_one(rows: Any, root: Path) -> None:
    """The card of a single probe and where it is; or, on standard error, why there is none."""
    for row in rows:
        if row["state"] == "failed":
            typer.echo(f"interp: {row['error']}", err=True)
            continue
        folder = root / row["folder"]
        options.say((folder / "card.md").read_text(encoding="utf-8"))
        there = " (it was there already)" if row["state"] == "skipped" else ""
        options.say(f"The probe is in {folder}{there}")


def _tell_all(found: Any) -> None:
    """A line a probe, and where the table is."""
    for row in found.rows:
        options.say(f"{row['state']:<8} {row['name']} on {row['model']}: {row.get('error') or _best(row.get('best'))}")
    options.say(f"The table of all is {found.summary}")


def _best(best: dict[str, Any] | None) -> str:
    if best is None:
        return "no measure"
    spread = "" if best["low"] is None else f" ({best['low']:.3f} to {best['high']:.3f})"
    return f"{best['name']}@{best['site']} AUROC {best['auroc']:.3f}{spread}, p {best['p_value']:.2g}"


@app.command("show")
def show(
    probe: Annotated[str, typer.Argument(metavar="NAME", help="A probe of the workspace, or its folder.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model's; needed if there are several.")
    ] = None,
    workspace: options.Where = None,
    json: options.AsJson = False,
) -> None:
    """Print a fitted probe's card: what it reads, how well, against what, and on which data."""
    from interp.sharing import find_probe
    from interp.store import read_json
    from interp.store import workspace as open_workspace

    folder = find_probe(open_workspace(workspace), probe, model)
    if json:
        options.as_json(read_json(folder / "card.json"))
    else:
        _print_page(_page_of(folder))


def _page_of(folder: Path) -> str:
    """The text of `card.md`; made again from `card.json` where it is gone, for it is only for people."""
    from interp.probes import ProbeCard

    page = folder / "card.md"
    return page.read_text(encoding="utf-8") if page.is_file() else ProbeCard.load(folder).to_markdown()


def _print_page(text: str) -> None:
    """Markdown set for a terminal; as it is anywhere else."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        options.say(text)


@app.command("push")
def push(
    probe: Annotated[str, typer.Argument(metavar="NAME", help="A probe of the workspace, or its folder.")],
    to: Annotated[str, typer.Option(help="A folder, or a hub repository: owner/name or hf://owner/name.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Which model's; needed if there are several.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another probe that is there.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    workspace: options.Where = None,
) -> None:
    """Share a fitted probe: directions, card, recipe, a page in the hub's format and a manifest; no pickle.

    Exit status 1 if it did not arrive: where the hub is not reached, the folder is written and can be uploaded later.
    """
    from interp.sharing import find_probe
    from interp.sharing import push as share
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    sent = share(find_probe(where, probe, model), to, workspace=where, force=force, private=private)
    if sent.arrived:
        options.say(f"The probe is at {sent.url}" if sent.url else f"The probe is in {sent.folder}")
        return
    meant = "" if to.startswith("hf://") else f" (If you meant a folder, write ./{to}.)"
    options.say(f"Not uploaded: {sent.unreached}.{meant}")
    options.say(f"What is to be uploaded is in {sent.folder}; later, online:")
    options.say(f"  hf upload {sent.repository} {sent.folder} .")
    raise typer.Exit(1)


@app.command("pull")
def pull(
    source: Annotated[str, typer.Argument(help="A folder, or a hub repository: owner/name or hf://owner/name.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model to use it on; it is refused if it is of another.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Another name for it here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another probe of that name and model.")] = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    model_arg: options.ModelArgs = None,
    workspace: options.Where = None,
) -> None:
    """Take a shared probe into probes/NAME/MODEL/, after every file, hash and number was checked."""
    from transformers.utils import logging

    from interp.sharing import pull as take
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    logging.disable_progress_bar()
    loaded = None if model is None else options.load_model(model, dtype, device, device_map, revision, model_arg)
    got = take(source, where, model=loaded, name=name, force=force)
    options.say(f"The probe is in {got.folder}" + ("" if got.new else " (it was there already)"))
    if got.checked_against:
        options.say(f"It was fitted on {got.checked_against}, the same weights, dtype, tokenizer and chat template.")
    else:
        options.say(f"Its model, {got.card.model.name}, is not at hand: --model checks it now, use checks it later.")
