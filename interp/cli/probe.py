"""`interp probe`: is the concept there?"""

from pathlib import Path
from typing import Annotated

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
    say,
    stages,
)


def probe(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML), such as probes/desperation/recipe.toml.")],
    model: ModelName = "organism",
    dtype: Dtype = None,
    device: Device = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    workspace: Where = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Fit and measure a probe at every layer: AUROC on unseen groups, its interval, its null.

    Directions and card are written to probes/NAME/MODEL/, whole or not at all.
    """
    from interp.jobs import Recipe, probe_cost, probe_folder
    from interp.jobs import probe as run
    from interp.store import workspace as open_workspace

    asked, where = Recipe.load(recipe), open_workspace(workspace)
    loaded = load_model(model, dtype, device, device_map, revision)
    costs = probe_cost(asked, loaded)
    if dry_run or not json:
        for stage, cost in costs.items():
            say(f"{stage}: {cost.transcripts} texts, {cost.tokens} tokens, {cost.bytes / 1e6:.1f} MB kept")
    if dry_run:
        return
    with stages() as tell:
        card = run(asked, loaded, workspace=where, on_progress=tell)
    folder = probe_folder(where, asked.name, loaded)
    if json:
        as_json(
            {
                "folder": str(folder),
                "measures": [
                    {
                        "name": m.name,
                        "site": str(m.site),
                        "auroc": m.auroc,
                        "low": m.low,
                        "high": m.high,
                        "p_value": m.p_value,
                    }
                    for m in card.measures
                ],
            }
        )
    else:
        say(card.to_markdown())
        say(f"The probe is in {folder}")
