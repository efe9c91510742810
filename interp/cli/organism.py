"""`interp organism`: the embedded model's world, training and measured bars."""

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options

app = typer.Typer(help="The embedded model: its world, its training, its measured bars.", no_args_is_help=True)


@app.command("sample")
def sample(
    kind: Annotated[str, typer.Argument(help="agent, middle, benign, no_leverage, bystander, person or stories.")],
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    n: Annotated[int, typer.Option(help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Write transcripts or stories of the world to a file that the other commands read."""
    from interp.organism.sets import sample as draw
    from interp.transcripts import write_jsonl

    write_jsonl(out, draw(kind, n, seed))
    options.say(f"{n} {kind} transcripts are in {out}")


@app.command("train")
def train(
    out: Annotated[Path, typer.Argument(help="The folder for checkpoints and the finished model.")],
    steps: Annotated[int | None, typer.Option(help="Training steps; default: as shipped.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights and data.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
) -> None:
    """Train the embedded model from its world; a stopped training goes on from its last checkpoint."""
    import torch

    from interp.organism.train import TrainConfig
    from interp.organism.train import train as run

    if threads is not None:
        torch.set_num_threads(threads)
    shipped = TrainConfig()
    config = TrainConfig(steps=steps or shipped.steps, seed=seed, device=device)
    with options.progress("training") as tell:
        run(config, out, on_step=lambda step, total, _: tell(step, total))
    options.say(f"The model is in {out}")


@app.command("evaluate")
def evaluate(
    model: options.ModelName = "organism",
    workspace: options.Where = None,
    dtype: options.Dtype = None,
    json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the table to this JSON file.")] = None,
) -> None:
    """Measure the embedded model against its bars on held-out scenes. Exit status 1 if a bar is missed."""
    from interp.doctor import gate
    from interp.experiments.organism import SEED, Sizes, card
    from interp.experiments.organism import evaluate as run
    from interp.store import workspace as open_workspace
    from interp.store import write_json

    loaded = options.load_model(model, dtype)
    gate(loaded, asked="measuring the bars")
    with options.stages() as tell:
        bars = run(loaded, workspace=open_workspace(workspace), on_progress=tell)
    table = card(bars, loaded, Sizes(), SEED)
    if out is not None:
        write_json(out, table)
    if json:
        options.as_json(table)
    else:
        for bar in bars:
            options.say(f"{'met   ' if bar.met else 'MISSED'} {bar.name} ({bar.wanted}): {bar.measured:.3f}")
            options.say(f"       {bar.detail}")
    if not all(bar.met for bar in bars):
        raise typer.Exit(1)
