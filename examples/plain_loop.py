"""MARA in a plain PyTorch loop, without TRL: how probable each good word is before and after training."""

import copy

import torch
from torch import Tensor, nn

from allmodes.methods import MARA, Batch, Method
from allmodes.objectives import kl_in_rewards, leave_one_out_advantages

START, BETA, STEPS, BATCH = 4, 0.1, 400, 256
GOOD = torch.tensor([[START, 0, 1, 2], [START, 1, 2, 3], [START, 2, 3, 0], [START, 3, 0, 1]])
REWARDS = torch.tensor([1.0, 0.9, 0.8, 0.8])  # of the good words; all others have 0
PROMPT, LENGTHS = torch.zeros(BATCH, dtype=torch.long), torch.full((BATCH,), 3)  # of every sample


class Policy(nn.Module):
    """A GRU over three letters; any module that samples and gives log π(y) would do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(5, 32), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def next_letter(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of what follows each token, (N, T, 4)."""
        return (4 * self.head(self.gru(self.embedding(tokens))[0])).log_softmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """The log-probability of whole words, (N,)."""
        return self.next_letter(tokens[:, :-1]).gather(2, tokens[:, 1:, None]).squeeze(2).sum(1)


def train(base: Policy, method: Method | None) -> Tensor:
    """Policy gradient with the KL in the rewards; returns the probability of each good word."""
    policy = copy.deepcopy(base)  # the base stays as it is: it is the reference
    adam = torch.optim.Adam(policy.parameters(), lr=5e-3)
    for _ in range(STEPS):
        tokens = torch.full((BATCH, 1), START)
        with torch.no_grad():
            for _ in range(3):
                tokens = torch.cat([tokens, policy.next_letter(tokens)[:, -1].exp().multinomial(1)], 1)
            ref = base(tokens)
        logprobs, rewards = policy(tokens), (tokens.unsqueeze(1) == GOOD).all(2).float() @ REWARDS
        if method is not None:  # all that is new
            batch = Batch(rewards=rewards, group_ids=PROMPT, lengths=LENGTHS, ref_logprobs=ref)
            rewards = method(batch, beta=BETA).rewards
        advantages = leave_one_out_advantages(kl_in_rewards(rewards, logprobs, ref, beta=BETA), PROMPT)
        adam.zero_grad()
        (-advantages * logprobs).mean().backward()
        adam.step()
    return policy(GOOD).exp()


torch.manual_seed(0)
base = Policy()
print("before ", *(f"{p:.3f}" for p in base(GOOD).exp().tolist()))
print("vanilla", *(f"{p:.3f}" for p in train(base, None).tolist()))
print("MARA   ", *(f"{p:.3f}" for p in train(base, MARA(threshold=0.5)).tolist()))
