"""What a job will cost in memory and time, from a measured rate."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from interp.doctor.check import Check
from interp.doctor.samples import Patient
from interp.generation import BASELINE, Sampling, generate
from interp.models import Model, pad
from interp.transcripts import Message, Transcript

_ROWS, _NEW = 8, 16
_MEMINFO = Path("/proc/meminfo")
"""Where Linux says how much memory is available; elsewhere all there is stands for it."""


@dataclass(frozen=True)
class Job:
    """So many texts of so many tokens to read, and so many replies of so many tokens to write."""

    texts: int
    tokens: int
    rollouts: int = 0
    new_tokens: int = 128
    batch_rows: int = 256


def cost(patient: Patient, name: str, job: Job) -> Check:
    """Memory and time of a job: rates are measured on this machine now, memory is counted."""
    model = patient.model
    weights = sum(p.numel() * p.element_size() for p in model.hf.parameters())
    rows = min(job.batch_rows, job.rollouts)
    cache = rows * _cache_bytes(model, job.tokens + job.new_tokens)
    kept = job.texts * job.tokens * model.d_model * model.n_layers * 4
    seconds = job.texts * job.tokens / _reading_rate(model, job.tokens)
    if job.rollouts:
        seconds += job.rollouts * job.new_tokens / _writing_rate(patient)
    free, need = _free_bytes(model), cache
    detail = (
        f"about {_duration(seconds)} for {job.texts} texts of {job.tokens} tokens and {job.rollouts} replies of "
        f"{job.new_tokens}; weights {_size(weights)} (loaded), key-value cache of {rows} rows {_size(cache)}, "
        f"{_size(free)} free; every token at every layer would be {_size(kept)} on disk in float32"
    )
    data = {"seconds": seconds, "weights": weights, "cache": cache, "free": free, "disk_all_tokens": kept}
    longest = job.tokens + (job.new_tokens if job.rollouts else 0)
    if model.max_tokens is not None and longest > model.max_tokens:
        found = f"texts of {longest} tokens, and the model holds {model.max_tokens}"
        return Check(name, False, found, "shorten the texts, or take another model", data=data)
    ok = need <= free
    do = "" if ok else f"lower the rows that run together (at most {max(1, int(rows * free / max(need, 1)))} fit)"
    return Check(name, ok, detail, do, data=data)


def _cache_bytes(model: Model, length: int) -> int:
    """Bytes of the key-value cache of one row; blocks whose attention slides keep no more than their window."""
    config = model.hf.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=model.hf.config).layers]
    tokens = sum(min(length, window or length) for window in windows)
    return 2 * tokens * heads * width * torch.finfo(getattr(torch, model.dtype)).bits // 8


def _reading_rate(model: Model, tokens: int) -> float:
    """Tokens a second through every block, the second of two passes."""
    n = min(tokens, 512, model.max_tokens or tokens)
    batch = pad([np.arange(n) % model.n_tokens])
    for _ in range(2):
        start = time.perf_counter()
        float(model.run(batch, sites=[model.all_sites()[-1]]).captured[model.all_sites()[-1]].sum())
        spent = time.perf_counter() - start
    return n / spent


def _writing_rate(patient: Patient) -> float:
    """Generated tokens a second, in a small batch: larger ones are faster."""
    prompts = [Transcript(f"doctor:{n}", (Message("user", "Go on."),), "doctor") for n in range(_ROWS)]
    start = time.perf_counter()
    written = generate(patient.model, prompts, [BASELINE], sampling=Sampling(max_new_tokens=_NEW))
    n = sum(len(r.transcript.token_ids or ()) - (r.transcript.prompt_tokens or 0) for r in written)
    return n / (time.perf_counter() - start)


def _free_bytes(model: Model) -> int:
    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[0])
    if _MEMINFO.is_file():
        told = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(told["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _size(n: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
