"""Collecting activations needs the memory of one batch, however many transcripts there are."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from interp.testing import tiny_folder

CODE = """
import gc, json, sys
from pathlib import Path

import numpy as np
import torch

from interp.activations import collect
from interp.models import load, pad
from interp.store import Workspace
from interp.tokens import PositionRule, render
from interp.transcripts import Message, Transcript

torch.set_num_threads(1)
folder, n = Path(sys.argv[1]), int(sys.argv[2])
model = load(folder / "model")
sites = model.all_sites()


def texts(n, name):
    words = [f"the deadline of {name} {i} was near " + "and nobody would hear the appeal " * 6 for i in range(n)]
    return [Transcript(f"{name}:{i}", (Message("text", text),), "g") for i, text in enumerate(words)]


def collected(given):
    where = Workspace(folder / str(n))
    return collect(model, given, sites, PositionRule.parse("all"), workspace=where, batch_tokens=2048)


def naive(given):
    ids = [render(text, model.tokenizer).ids for text in given]
    return [model.run(pad([text]), sites=sites).captured for text in ids]


def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def peak(call, given):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    base = resident("VmRSS")
    held = call(given)
    return resident("VmHWM") - base


warm, given = texts(20, "warm"), texts(n, "given")
collected(warm), naive(warm)
tokens = sum(len(render(text, model.tokenizer)) for text in given)
found = {"collect": peak(collected, given), "naive": peak(naive, given), "tokens": tokens}
print(json.dumps(found | {"wide": len(sites) * model.d_model * 4}))
"""
LIMIT = 7e6
"""Bytes: ids, positions and the table of rows are 30 bytes a token, the activations 1,536, a ninth of which this is;
two runs of one size differ by up to 3.3 MB."""


def peaks(folder: Path, n: int) -> dict[str, Any]:
    """Bytes over base at the worst moment, of `collect` and of a collector that keeps all, in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", CODE, str(folder), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's high-water mark of memory")
def test_six_times_the_transcripts_need_little_more_memory(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "model", "llama", hidden_size=128, intermediate_size=256)
    with ThreadPoolExecutor(2) as pool:
        few, many = pool.map(lambda n: peaks(tmp_path, n), (100, 600))
    activations = (many["tokens"] - few["tokens"]) * many["wide"]
    assert activations > 8 * LIMIT, "the activations themselves would show"
    assert many["collect"] - few["collect"] < LIMIT
    assert many["naive"] - few["naive"] > 0.8 * activations, "control: a collector that keeps them all does grow"
