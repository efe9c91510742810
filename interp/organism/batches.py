"""Documents of the world as token batches: bucketed by length, weighted by role, fixed by the seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from interp.organism.tokenizer import BOS, END
from interp.organism.world import Document, documents

POOL = 2048
WEIGHTS = {"story": 0.5, "prose": 1.0, "system": 0.1, "user": 0.2, "assistant": 1.0}
"""Weight of a token in the loss: what others write in a chat is mostly chance, and counts less."""


@dataclass(frozen=True)
class Batch:
    """Right-padded ids and the weight of predicting each of them (0 for padding and the first token)."""

    ids: Int[Tensor, "row pos"]
    weights: Float[Tensor, "row pos"]


def encode_document(document: Document, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Ids and weights of one document, exactly as the chat template, or plain text with BOS, renders it."""
    if not document.messages:
        ids = tokenizer.encode(document.text + END)
        return ids, [0.0] + [WEIGHTS[document.kind]] * (len(ids) - 1)
    ids, weights = tokenizer.encode(BOS, add_special_tokens=False), [0.0]
    for message in document.messages:
        text = f"<|{message.role}|>{message.content}{END}"
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        weights += [0.0] + [WEIGHTS[message.role]] * (len(piece) - 1)
    return ids, weights


def pool_batches(
    seed: int, pool: int, tokens: int, tokenizer: PreTrainedTokenizerFast, size: int = POOL
) -> list[Batch]:
    """The batches of one pool of documents, each of about `tokens` tokens with padding, in shuffled order."""
    encoded = [encode_document(d, tokenizer) for d in documents(f"train/{seed}/{pool}", size)]
    encoded.sort(key=lambda pair: len(pair[0]))
    groups: list[list[tuple[list[int], list[float]]]] = [[]]
    for pair in encoded:
        if groups[-1] and len(pair[0]) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(pair)
    Random(f"order/{seed}/{pool}").shuffle(groups)
    return [_pad(group) for group in groups]


def batches(
    seed: int, tokens: int, tokenizer: PreTrainedTokenizerFast, start: int = 0, size: int = POOL
) -> Iterator[Batch]:
    """Batches without end, from batch number `start` on; a later start continues the very same sequence.

    Documents come in pools of `size`, and only those of one pool are sorted by length together.
    """
    passed, pool = 0, 0
    while True:
        made = pool_batches(seed, pool, tokens, tokenizer, size)
        yield from made[max(0, start - passed) :]
        passed, pool = passed + len(made), pool + 1


def _pad(group: list[tuple[list[int], list[float]]]) -> Batch:
    width = max(len(ids) for ids, _ in group)
    ids = np.zeros((len(group), width), dtype=np.int64)
    weights = np.zeros((len(group), width), dtype=np.float32)
    for row, (tokens, marks) in enumerate(group):
        ids[row, : len(tokens)] = tokens
        weights[row, : len(marks)] = marks
    return Batch(torch.from_numpy(ids), torch.from_numpy(weights))
