"""`interp probe`: is the concept there?"""

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def probe(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML), such as probes/desperation/recipe.toml.")],
    model: options.ModelName = "organism",
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    workspace: options.Where = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Fit and measure a probe at every layer: AUROC on unseen groups, its interval, its null.

    Directions and card are written to probes/NAME/MODEL/, whole or not at all.
    """
    from interp.jobs import Recipe, probe_cost, probe_folder
    from interp.jobs import probe as run
    from interp.store import workspace as open_workspace

    asked, where = Recipe.load(recipe), open_workspace(workspace)
    loaded = options.load_model(model, dtype, device, device_map, revision)
    costs = probe_cost(asked, loaded)
    if dry_run or not json:
        for stage, cost in costs.items():
            options.say(f"{stage}: {cost.transcripts} texts, {cost.tokens} tokens, {cost.bytes / 1e6:.1f} MB kept")
    if dry_run:
        return
    with options.stages() as tell:
        card = run(asked, loaded, workspace=where, on_progress=tell)
    folder = probe_folder(where, asked.name, loaded)
    if json:
        options.as_json(
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
        options.say(card.to_markdown())
        options.say(f"The probe is in {folder}")
