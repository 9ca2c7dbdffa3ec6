# %% [markdown]
# # From a prompt to a verdict
#
# Does a refusal direction found in one language act in another? This notebook goes there step by step, on a *model
# organism*: a small model built so that one direction carries refusal in both of its languages, `qaa` and `qab`. It
# needs no download and runs in about half a minute.
#
# The file is a notebook kept as text: Jupyter opens it with jupytext, VS Code and PyCharm open it as it is. For a real
# question, change the three names in the next cell.

# %%
import refusalctl as rc

MODEL, DATA, LANGS = "organism:shared", "organism:shared", ["qaa", "qab"]
# MODEL, DATA, LANGS = "smollm2-refuser", "sample", ["en", "be"]      # the embedded chat model, mild prompts
# MODEL, DATA, LANGS = "Qwen/Qwen2.5-7B-Instruct", "polyrefuse", ["en", "ba"]      # after `refusalctl data fetch`

source, target = LANGS
study = rc.Study(
    model=MODEL, data=DATA, sources=[source], targets=LANGS, n_train=16, n_val=8, n_test=24, n_controls=19,
    control_prompts=4, induce=False,
)  # fmt: skip
study

# %% [markdown]
# ## Prompts
#
# The same prompts are drawn in every language of a study, and they have the same ids: that is what makes rates paired.

# %%
asked = study.prompts(target)
assert asked.ids == study.prompts(source).ids
asked

# %% [markdown]
# ## What the model computes
#
# `resid_pre` of every train prompt, at every layer and end-of-instruction position: an array that is read from disk as
# it is needed.

# %%
harmful, harmless = study.activations(source, "harmful"), study.activations(source, "harmless")
harmful.resid_pre.shape  # prompts, positions, layers, width

# %% [markdown]
# ## Candidate directions, and the one that is chosen
#
# A candidate is the mean of harmful minus the mean of harmless activations at one position and layer. Each is scored on
# validation prompts: *bypass* (what ablating it leaves of refusal), *induce* (what adding it brings) and *KL* (what
# ablating it does to harmless prompts).

# %%
direction = study.selection(source)
direction.scores.to_pandas().sort_values("bypass").head()

# %%
direction.words()

# %% [markdown]
# ## Answers with and without it
#
# `rc.ablate` takes the direction out of the residual stream wherever it is written; nothing of the model is changed for
# good. What was measured while it acted is kept beside the answers.

# %%
before = study.labels(study.completions(target))
ablated = study.completions(target, rc.ablate(direction))
after = study.labels(ablated)
before.summary(), after.summary()

# %%
ablated.checks["max_relative_projection"]  # what was left of the direction, at its largest

# %% [markdown]
# The same intervention holds on any model of transformers: `with rc.intervene(model, rc.ablate(direction.vector)): ...`

# %% [markdown]
# ## The verdict
#
# A lower rate is not a verdict yet. `transfer` adds what one needs: the target's own direction as a positive control,
# control directions that should do nothing, a check that the model tells harmful from harmless prompts at all, and a
# written rule with a margin.

# %%
matrix = study.transfer()
matrix.matrix

# %%
matrix.sentences()

# %%
assert matrix.verdict(source, target) == "transfers", matrix.sentences()

# %% [markdown]
# ## Where every number comes from
#
# Each result knows what it was made from, down to the prompts. `study.report().open()` shows all of this as one page.

# %%
{role: result.kind for role, result in direction.lineage.items()}
