# %% [markdown]
# # MARA and IPS in a small world
#
# *This page is docs/notebooks/small_world.py, executed when the page was made: a script in Jupyter's percent
# format. Run it with Python, or open it with Jupytext or an editor that knows cells.*
#
# Theory says where a training ends. Here is one that is small enough to see it arrive: a policy over six
# outcomes, trained from samples like a language model, and its exact optimum beside it.

# %%
import torch

from allmodes.objectives import ips_rewards, kl_in_rewards, leave_one_out_advantages, mara_rewards
from allmodes.targets import ips_target, mara_target, reverse_kl_target

reference = torch.tensor([0.45, 0.25, 0.15, 0.10, 0.04, 0.01]).log()
rewards = torch.tensor([0.2, 0.6, 0.9, 1.0, 0.9, 1.0])  # the last four are good
BETA, TAU, SAMPLES, STEPS = 0.25, 0.9, 256, 800


def train(step_rewards, start: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Policy gradient on what `step_rewards` makes of a batch; the mean of the last 300 policies."""
    torch.manual_seed(0)
    logits = start.clone().requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.02)
    mean = torch.zeros(len(start))
    for step in range(STEPS):
        policy = logits.log_softmax(-1)
        drawn = policy.detach().exp().multinomial(SAMPLES, replacement=True)
        logprobs, ref_logprobs = policy[drawn], reference[drawn]
        new = step_rewards(rewards[drawn], ref_logprobs, drawn)
        advantages = leave_one_out_advantages(kl_in_rewards(new, logprobs, ref_logprobs, beta=beta), None)
        adam.zero_grad()
        (-advantages * logprobs).mean().backward()
        adam.step()
        if step >= STEPS - 300:
            mean += policy.detach().exp() / 300
    return mean


def show(trained: torch.Tensor, optimum: torch.Tensor) -> None:
    """Both side by side, and how far they are from each other."""
    print("reward   reference  trained  optimum")
    for reward, before, after, wanted in zip(rewards, reference.exp(), trained, optimum, strict=True):
        print(f"{reward:.1f}      {before:.3f}      {after:.3f}    {wanted:.3f}")
    print(f"total variation: {float((trained - optimum).abs().sum() / 2):.3f}")


# %% [markdown]
# ## Plain RL
#
# The KL to the reference is inside the rewards. Two of the four good outcomes, those that the reference
# likes, end with two thirds of the probability. The two outcomes with a reward of 1 keep the reference's
# ratio of 10.

# %%
plain = train(lambda rewards, ref, drawn: rewards, reference, beta=BETA)
show(plain, reverse_kl_target(reference, rewards, beta=BETA).exp())

# %% [markdown]
# ## MARA
#
# One line changes the rewards. All four good outcomes become equally likely.

# %%
mara = train(
    lambda rewards, ref, drawn: mara_rewards(rewards, ref, beta=BETA, threshold=TAU).rewards,
    reference,
    beta=BETA,
)
show(mara, mara_target(reference, rewards, beta=BETA, threshold=TAU).exp())

# %% [markdown]
# ## IPS
#
# Rewards are divided by how often their outcome came up in the batch. There is no KL, and the reference
# plays no part in the optimum: it is proportional to the rewards.

# %%
ips = train(lambda rewards, ref, drawn: ips_rewards(rewards, drawn).rewards, reference, beta=0.0)
show(ips, ips_target(rewards).exp())

# %% [markdown]
# Which of these optima is the right one depends on the task: [Choosing an
# objective](../guide/choosing-an-objective.md). The same with a small network over words:
# [plain_loop.py](../../examples/plain_loop.py). In TRL it is one argument: [tutorial](../tutorials/trl.md).
