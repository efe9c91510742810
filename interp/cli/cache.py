"""`interp cache`: activations on disk."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from interp.cli.options import (
    AsJson,
    Device,
    DeviceMap,
    DryRun,
    Dtype,
    ModelName,
    Revision,
    Where,
    as_json,
    load_model,
    progress,
    say,
)


def cache(
    transcripts: Annotated[Path, typer.Argument(help="Transcripts (JSONL).")],
    model: ModelName = "organism",
    sites: Annotated[str, typer.Option(help="all, or a list such as L2.resid_post,-1,2/3.")] = "all",
    position: Annotated[
        str, typer.Option(help="last, assistant, mean:assistant, scratchpad, email:2, from:50, ...")
    ] = "last",
    storage: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Dtype on disk.")] = "float32",
    dtype: Dtype = None,
    device: Device = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    workspace: Where = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Keep the residual stream of transcripts at some sites and positions.

    The folder in activations/ is named by its content: asked again, nothing is run. A stopped command goes on.
    """
    from interp.activations import collect, estimate
    from interp.sites import parse_sites
    from interp.store import workspace as open_workspace
    from interp.tokens import PositionRule
    from interp.transcripts import read_jsonl

    given = read_jsonl(transcripts)
    loaded = load_model(model, dtype, device, device_map, revision)
    where, at, rule = open_workspace(workspace), parse_sites(sites, loaded.n_layers), PositionRule.parse(position)
    cost = estimate(loaded, given, at, rule, dtype=storage)
    if dry_run or not json:
        say(
            f"{cost.transcripts} transcripts, {cost.tokens} tokens to read, {cost.rows} rows at {len(at)} sites, "
            f"{cost.bytes / 1e6:.1f} MB."
        )
    if dry_run:
        return
    with progress("tokens") as tell:
        found = collect(loaded, given, at, rule, workspace=where, dtype=storage, on_progress=tell)
    if json:
        as_json({"folder": str(found.folder), "rows": len(found.rows), "sites": [str(site) for site in found.sites]})
    else:
        say(f"The activations are in {found.folder}")
