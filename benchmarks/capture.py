"""Capture of every layer's residual stream beside the bare Hugging Face body and TransformerLens's run_with_cache.

    python benchmarks/capture.py [--lengths 256,1024,2048] [--rounds 5]

CPU time of this process on one thread on a random Llama of 4 blocks of width 256, all methods interleaved in one run,
the median over rounds; ratios to the bare body, which has no hooks and no unembedding.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from interp.edits import Edit, place
from interp.models import Model, pad
from interp.testing import random_direction, tiny_tokenizer

warnings.simplefilter("ignore")


def methods(model: Model, length: int) -> dict[str, Callable[[], object]]:
    ids = np.random.default_rng(0).integers(10, 300, size=length)
    tensor, batch = torch.from_numpy(ids)[None], pad([ids])
    sites, names = model.all_sites(), [site.hook_name for site in model.all_sites()]
    edits = place([[Edit.of("add", random_direction(model, 2), 1.0)]], d_model=model.d_model)

    @torch.no_grad()
    def body() -> object:
        return model.hf.model(tensor, use_cache=False)

    @torch.no_grad()
    def lens() -> object:
        return model.bridge.run_with_cache(tensor, names_filter=names)

    return {
        "Hugging Face body, no hooks": body,
        "interp, all layers kept": lambda: model.run(batch, sites=sites),
        "interp, all layers kept, one edited": lambda: model.run(batch, sites=sites, edits=edits),
        "interp, block 1 of 4 kept": lambda: model.run(batch, sites=sites[1:2]),
        "run_with_cache, the same names": lens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="256,1024,2048")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
    )
    model = Model(LlamaForCausalLM(config), tiny_tokenizer("llama"), name="random")
    table = Table("method", *args.lengths.split(","), title="CPU time, ratio to the bare body")
    columns: dict[str, list[str]] = {}
    for length in map(int, args.lengths.split(",")):
        calls = methods(model, length)
        spent: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(args.rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                call()
                spent[name].append(time.process_time() - start)
        floor = statistics.median(spent["Hugging Face body, no hooks"][1:])
        for name, seconds in spent.items():
            columns.setdefault(name, []).append(f"{statistics.median(seconds[1:]) / floor:.2f}")
    for name, ratios in columns.items():
        table.add_row(name, *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
