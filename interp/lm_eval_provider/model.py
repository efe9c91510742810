"""A model under a condition as lm-eval's own kind of model: its tasks then measure what an edit does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows
from torch import Tensor

from interp.edits import place
from interp.errors import EditError, ExperimentError
from interp.generation import BASELINE, Condition, Request, Sampling, answer, rollout_seed, room
from interp.models import Model, pad
from interp.sites import Site
from interp.tokens import TEXT_ROLE, Tokens, render
from interp.tokens.record import token_range
from interp.transcripts import Message, Transcript

LOGITS = 2**28
"""Logits that are held at once, of all rows, tokens and words: 1 GiB in float32."""
_WINDOW, _NEW = 2048, 256
"""Tokens of a model that does not say how many it holds, and of a reply where the task does not say."""


class EditedLM(LM):
    """A model under a condition, for `lm_eval.simple_evaluate(model=EditedLM(...), tasks=[...])`.

    Contexts are plain texts: they get the tokenizer's BOS once, and a chat template only where lm-eval is asked for it
    (`apply_chat_template`). What follows the context counts as generated: edits of the scope `generated` act there,
    and not on the token before it, so that they leave an answer of one token alone.

    Guarantees (tests): log likelihoods are Hugging Face's own, alone and in any batch, and under an addition those with
    a hook of torch that adds it; at strength 0 they are the unedited ones; an edit that no text came under raises.
    """

    def __init__(
        self,
        model: Model,
        condition: Condition = BASELINE,
        *,
        residual_norms: Mapping[Site, float] | None = None,
        batch_rows: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.condition, self.residual_norms = model, condition, residual_norms
        self.batch_rows, self.seed = batch_rows, seed

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval tells cached requests apart by."""
        return self.model.identity.tokenizer

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's own, whichever lm-eval asks for."""
        return self.model.tokenizer.chat_template if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as one text."""
        how = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
        return self.model.tokenizer.apply_chat_template(chat_history, tokenize=False, **how)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log likelihood (nats) of each continuation after its context, and whether all its tokens are the likeliest.

        Raises:
            ExperimentError: a text is longer than the model holds.
            EditError: an edit was never applied.
        """
        return self._scored([self._continued(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log likelihood (nats) of each whole text, in windows of the model's length; all of it counts as generated."""
        windows = [list(self._windows(request.args[0])) for request in requests]
        found = iter(self._scored([window for of_one in windows for window in of_one]))
        return [sum(next(found)[0] for _ in of_one) for of_one in windows]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """A reply to each context, up to the first of the task's stop texts; greedy unless the task samples.

        Raises:
            ExperimentError: a context leaves no room for a reply.
            EditError: an edit was never applied to a reply.
        """
        wanted: dict[Sampling, list[int]] = {}
        for row, request in enumerate(requests):
            wanted.setdefault(self._sampling(*request.args), []).append(row)
        said = [""] * len(requests)
        for sampling, rows in wanted.items():
            for start in range(0, len(rows), self.batch_rows):
                chunk = rows[start : start + self.batch_rows]
                asked = [self._request(row, requests[row].args[0]) for row in chunk]
                told = answer(self.model, asked, sampling=sampling, residual_norms=self.residual_norms)
                for row, rollout in zip(chunk, told, strict=True):
                    said[row] = rollout.reply
        return said

    def _request(self, row: int, context: str) -> Request:
        return Request(_document(context, f"request {row}"), self.condition, 0, rollout_seed(self.seed, context, row))

    def _sampling(self, context: str, asked: Mapping[str, Any]) -> Sampling:
        stop = asked.get("until") or ()
        drawn = {name: asked[name] for name in ("top_p", "top_k") if asked.get(name) is not None}
        warm = asked.get("temperature", 1.0) if asked.get("do_sample") else 0.0
        longest = int(asked.get("max_gen_toks", _NEW))
        left = room(self.model, len(render(_document(context), self.model.tokenizer)))
        longest = longest if left is None or left < 1 else min(longest, left)
        return Sampling(longest, float(warm), stop=(stop,) if isinstance(stop, str) else tuple(stop), **drawn)

    def _continued(self, context: str, continuation: str) -> Tokens:
        """Both as one text; tokens of the continuation, and one that straddles its border, count as generated."""
        tokens = render(_document(context + continuation), self.model.tokenizer)
        first = token_range(tokens.offsets, len(context), len(tokens.text))[0]
        return self._after_prefix(tokens) if first == 0 else replace(tokens, prompt_tokens=first)

    def _after_prefix(self, tokens: Tokens) -> Tokens:
        """The same with a token before it to be predicted from; nothing of it has a span but what is generated."""
        ids = np.concatenate([[self._prefix], tokens.ids])
        return Tokens(ids, (), tokens.text, np.concatenate([[[0, 0]], tokens.offsets]), 1)

    @property
    def _prefix(self) -> int:
        tokenizer = self.model.tokenizer
        found = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if found is None:
            do = "take another task, or a model with one"
            raise ExperimentError("a text without a context", "the tokenizer has neither BOS nor EOS to begin with", do)
        return found

    def _windows(self, text: str) -> Iterator[Tokens]:
        ids = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        longest = self.model.max_tokens or _WINDOW
        for before, predicted in get_rolling_token_windows(ids, self._prefix, longest - 1, 1):
            whole = np.asarray([*before, predicted[-1]])
            yield Tokens(whole, (), text, np.zeros((len(whole), 2), np.int64), len(whole) - len(predicted))

    def _scored(self, texts: Sequence[Tokens]) -> list[tuple[float, bool]]:
        """Of each text's generated tokens: their log likelihood, and whether all are the likeliest."""
        self._refuse_long(texts)
        found: list[tuple[float, bool]] = [(0.0, True)] * len(texts)
        applied = 0
        for chunk in self._chunks(texts):
            logits, in_scope = self._logits([texts[row] for row in chunk])
            applied += in_scope
            for row, told in zip(chunk, logits, strict=True):
                start = texts[row].prompt_tokens
                found[row] = _told(told[start - 1 : len(texts[row]) - 1], texts[row].ids[start:])
        if texts and not applied and any(edit.certain for edit in self.condition.edits):
            raise EditError(
                f"condition {self.condition.name}",
                f"its edits were never applied to any of {len(texts)} texts",
                "check their scope and their sites",
            )
        return found

    def _refuse_long(self, texts: Sequence[Tokens]) -> None:
        longest, window = max(map(len, texts), default=0), self.model.max_tokens
        if window is not None and longest > window:
            found = f"a text of {longest} tokens, and {self.model.name} holds {window}"
            raise ExperimentError(
                "reading a task's texts", found, "ask for fewer examples (num_fewshot), or another task"
            )

    def _chunks(self, texts: Sequence[Tokens]) -> Iterator[list[int]]:
        """Rows of like lengths, the longest first, so that what does not fit shows at once."""
        rows = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        while rows:
            fit = LOGITS // (max(1, len(texts[rows[0]])) * self.model.hf.config.get_text_config().vocab_size)
            size = max(1, min(self.batch_rows, fit))
            yield rows[:size]
            rows = rows[size:]

    @torch.inference_mode()
    def _logits(self, texts: Sequence[Tokens]) -> tuple[Float[Tensor, "batch pos vocab"], int]:
        """Of every token, under the condition; and how often its edits were applied."""
        scale = {"d_model": self.model.d_model, "device": self.model.device, "residual_norms": self.residual_norms}
        edits = [self.condition.edits] * len(texts)
        placed = place(edits, **scale, texts=texts, tokenizer=self.model.tokenizer, room=max(map(len, texts)))
        batch = pad([text.ids for text in texts], prompt_tokens=[text.prompt_tokens for text in texts])
        run = self.model.run(batch, edits=placed, logits="all")
        assert run.logits is not None
        return run.logits, int(run.in_scope.sum())


def _told(logits: Float[Tensor, "pos vocab"], ids: Int[np.ndarray, " pos"]) -> tuple[float, bool]:
    follows = torch.from_numpy(ids.copy()).to(logits.device)
    logs = torch.log_softmax(logits.float(), -1).gather(-1, follows[:, None])
    return float(logs.double().sum()), bool((logits.argmax(-1) == follows).all())


def _document(text: str, name: str = "request") -> Transcript:
    return Transcript(name, (Message(TEXT_ROLE, text),), name)
