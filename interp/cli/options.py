"""Options that several commands share, and how they say what they do."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

ModelName = Annotated[str, typer.Option("--model", "-m", help="organism (embedded), a folder, or a hub id.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: float32 on a CPU.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: cuda where there is one.")]
DeviceMap = Annotated[str | None, typer.Option(help="'auto' spreads the model over several GPUs.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
ModelArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        "-M",
        help="KEY=VALUE, repeatable: thinking=false, date='26 Jul 2024', merge_system=true, quantize=4bit, "
        "trust_remote_code=true.",
    ),
]
DespiteDoctor = Annotated[bool, typer.Option("--despite-doctor", help="Go on although the model failed a check.")]
Where = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="Folder of probes/, activations/ and runs/; default: INTERP_HOME, else the current folder.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="State the cost and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def say(text: str) -> None:
    """Print a line."""
    typer.echo(text)


def say_whose_benign(model: str, given: object) -> None:
    """Say, on the error stream, that benign text is the embedded world's where another model is read with it."""
    if given is None and model != "organism":
        typer.echo(
            "Benign text is that of the embedded world's inboxes; --benign FILE takes yours, which is what scores of a "
            f"model such as {model} should be measured on.",
            err=True,
        )


def as_json(value: Any) -> None:
    """Print JSON."""
    typer.echo(json.dumps(value, indent=1))


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields the function that moves it to (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def load_model(
    name: str,
    dtype: str | None = None,
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    model_args: list[str] | None = None,
) -> Any:
    """The model, without the loading libraries' own chatter."""
    from transformers.utils import logging

    from interp.models import load, load_settings

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = load_settings(model_args or [])
    return load(name, dtype=dtype, device=device, device_map=device_map, revision=revision, **settings)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar a stage on standard error; yields the function that moves stage to (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield tell
