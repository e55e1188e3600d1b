# %% [markdown]
# # The exact optimum of your own outcomes
#
# *This page is docs/notebooks/own_outcomes.py, executed when the page was made: a script in Jupyter's percent
# format. Run it with Python, or open it with Jupytext or an editor that knows cells.*
#
# Eight answers to one question: a reward for each, and the probability that the base model gives to it.
# Four are good, with a reward of at least 0.9.

# %%
import torch

from allmodes.targets import (
    effective_modes,
    flip_beta,
    ips_target,
    mara_beta_bound,
    mara_target,
    reverse_kl_target,
)

names = [
    "usual answer",
    "second way",
    "rare proof",
    "long detour",
    "half answer",
    "near miss",
    "off topic",
    "empty",
]
rewards = torch.tensor([1.0, 1.0, 1.0, 0.9, 0.7, 0.5, 0.1, 0.0], dtype=torch.float64)
reference = torch.tensor([0.08, 0.01, 0.0004, 0.02, 0.30, 0.25, 0.2396, 0.10], dtype=torch.float64).log()
good = rewards >= 0.9

# %% [markdown]
# ## Plain RL
#
# RL with a reverse KL of strength β has the optimum π_ref exp(R/β), normalised. The last row says how many
# of the four good answers are effectively left: exp of the entropy among them.

# %%
betas = [0.01, 0.1, 1.0]
plain = {beta: reverse_kl_target(reference, rewards, beta=beta) for beta in betas}


def good_kept(logprobs: torch.Tensor) -> float:
    """Effective number of good answers."""
    return float(effective_modes(logprobs[good].log_softmax(-1)))


print(f"{'':14}" + "".join(f"β = {beta:<8g}" for beta in betas))
for place, name in enumerate(names):
    print(f"{name:14}" + "".join(f"{float(plain[beta][place].exp()):<12.4f}" for beta in betas))
print(f"{'good kept':14}" + "".join(f"{good_kept(plain[beta]):<12.2f}" for beta in betas))

# %% [markdown]
# At a small β the usual answer takes 0.88, and at a large one the half answer is ahead. The usual answer
# and the rare proof have the same reward, and at every β one is 200 times as likely as the other: that is
# the reference's ratio, and no β changes it.

# %%
for beta in betas:
    print(f"β = {beta:g}: {float((plain[beta][0] - plain[beta][2]).exp()):.0f}")

# %% [markdown]
# Answers of different rewards do change places. The half answer is ahead of the second way as soon as β is
# above

# %%
print(f"{float(flip_beta(rewards[4], rewards[1], reference[4], reference[1])):.3f}")

# %% [markdown]
# ## MARA
#
# MARA gives every answer from τ on the same height. The bound says up to which β all good answers end above
# all others.

# %%
print(f"bound: β < {float(mara_beta_bound(reference, rewards, threshold=0.9)):.3f}")
mara = mara_target(reference, rewards, beta=0.1, threshold=0.9)
for name, probability in zip(names, mara.exp().tolist(), strict=True):
    print(f"{name:14}{probability:.4f}  {'#' * round(100 * probability)}")
print(f"good kept: {good_kept(mara):.2f} of 4")

# %% [markdown]
# ## IPS
#
# IPS divides each reward by the frequency of its outcome. Its optimum is proportional to the rewards,
# whatever the reference says. In small groups the worst outcomes are lost: they are drawn too rarely.

# %%
print(f"{'':14}exact   groups of 4")
for name, exact, small in zip(
    names, ips_target(rewards).exp(), ips_target(rewards, group_size=4).exp(), strict=True
):
    print(f"{name:14}{exact:.4f}  {small:.4f}")

# %% [markdown]
# The same for a file of yours, with a picture: `allmodes target outcomes.csv --beta 0.01 0.1 1 --threshold
# 0.9`, or in a browser: `allmodes explore outcomes.csv`. Which optimum to choose: [Choosing an
# objective](../guide/choosing-an-objective.md).
