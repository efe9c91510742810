# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # First hour: does suppressing desperation lower blackmail?
#
# The whole experiment by hand, on the small model that lives in this repository. Every step is one call of the Python
# API, and every one of them takes another model: `interp.load("google/gemma-3-12b-it")` instead of `"organism"`.
#
# The embedded model is an e-mail agent that was trained on a made-up world. In that world we *know* how desperate the
# agent is (a number from 0 to 1, its *latent*) and how likely it is to blackmail; so we can check what the
# instruments say. None of its numbers says anything about a large model.

# %%
import numpy as np

import interp
from interp import Plan, PositionRule, Sampling, Site, dose_arms
from interp.organism.sets import agent_transcripts, benign_transcripts, middle_band_transcripts, stories
from interp.plots import dose_response, trace_figure, use_in_notebooks

use_in_notebooks()
model = interp.load("organism")
model

# %% [markdown]
# ## 1. Is the model wired right?
#
# Before anything is believed: does reading the residual stream give what TransformerLens and Hugging Face compute, in
# any batch, and is an edit applied exactly once to each token?

# %%
for check in interp.examine(model):
    print("ok  " if check.ok else "FAIL", check.check)

# %% [markdown]
# ## 2. A transcript, its tokens and its parts
#
# A transcript is rendered once by the model's own chat template. Every message and every named part has a span of
# absolute token positions.

# %%
transcripts = agent_transcripts(300, seed=1)
example = next(t for t in transcripts if t.label == "blackmail")
tokens = interp.render(example, model.tokenizer)
print(tokens.text[-420:])
[(span.name, span.start, span.stop) for span in tokens.spans]

# %% [markdown]
# ## 3. A direction from stories alone
#
# The emotion-vector recipe: the mean residual stream over stories of one emotion, minus the mean over all emotions.
# The stories name no emotion, hold no secret and tell of no blackmail. We take *desperate minus calm*.

# %%
from interp.emotions import contrast, emotion_vectors, story_rule

where = interp.workspace(".")
told = stories(400, seed=1)
acts = interp.collect(model, told, model.all_sites(), story_rule(told, model.tokenizer), workspace=where)
vectors = emotion_vectors(acts)
desperate_calm = contrast(vectors, "desperate", "calm")
print(told[0].messages[0].content)

# %% [markdown]
# ## 4. Does it read the agent's desperation?
#
# The vector never saw an agent. We score agent transcripts at the end of the scratchpad, just before the e-mail, and
# ask how well the score separates a high latent from a low one: AUROC, with an interval that resamples whole groups
# (a group is a cell of the world's factors). Beside it, the same for 100 random directions.

# %%
from interp.directions import random_like
from interp.stats import auroc, auroc_interval

last = interp.collect(model, transcripts, model.all_sites(), PositionRule.parse("last:scratchpad"), workspace=where)
latent = np.array([t.meta["latent"] for t in transcripts])
high = latent > np.median(latent)
for site in model.all_sites():
    scores = desperate_calm[site].project(last[site]).numpy()
    ci = auroc_interval(scores, high, last.groups, seed=0)
    chance = [auroc(d.project(last[site]).numpy(), high) for d in random_like(desperate_calm[site], 100, seed=0)]
    low, top = np.percentile(chance, [2.5, 97.5])
    print(f"{site}: {auroc(scores, high):.2f} ({ci.low:.2f} to {ci.high:.2f}); random {low:.2f} to {top:.2f}")

# %% [markdown]
# Random directions separate them too, some of them well: a whole-transcript difference leaks into many directions of
# the residual stream. That is why a probe needs the null beside it, and steering needs control directions.

# %% [markdown]
# ## 5. When does it fire?
#
# Token by token, in standard deviations of benign transcripts' tokens, with the band of random directions on the same
# scale. Above a reply that blackmails, below the reply to its benign twin: the same scene with the threat taken out.

# %%
from interp.line import matched_pair

pair = matched_pair(model, middle_band_transcripts(24, seed=7), seed=7)
traces = interp.trace(model, pair, [desperate_calm[Site.parse("1/2", model.n_layers)]], benign_transcripts(64, seed=7))
trace_figure(traces)

# %% [markdown]
# ## 6. Push on it
#
# We add the direction at two blocks, with both signs, in fractions of the residual norm, and we cap it at its benign
# mean at all blocks. Each edit is also made with random directions of equal norm. All conditions share their sampling
# noise, so they are compared in pairs.

# %%
from interp.experiments import Arm

middle = (Site(1), Site(2))
arms = (*dose_arms([0.05, 0.1, 0.15], "resid", middle), Arm("cap", 0.0, "z", model.all_sites(), "less"))
plan = Plan("Does suppressing desperation lower blackmail?", "emotion:desperate-calm", arms, samples=2,
            control_samples=1, n_controls=20, seed=3, sampling=Sampling(max_new_tokens=128))
prompts = middle_band_transcripts(16, seed=3)
print(plan.rollouts(len(prompts)), "rollouts")
results, verdict = interp.steer(model, plan, prompts, desperate_calm, benign=benign_transcripts(64, seed=3),
                                folder=where.runs / "first_hour")

# %%
from interp.experiments.results import to_dict

dose_response(to_dict(results))

# %% [markdown]
# ## 7. What may be said

# %%
print(verdict.headline)
for sentence in verdict.sentences:
    print("-", sentence)

# %% [markdown]
# `interp.write_report(folder)` makes one page of it that opens offline. What to read next: the README's table of
# questions and commands, and `docs/organism.md` for what the embedded model is and is not.

# %%
interp.write_report(where.runs / "first_hour").name
