"""Speed of sampling 1,000 molecules from the LSTM's and the Mamba's prior, and against re-running the prefix.

What bounds it: the matrix products, 2 FLOP a parameter and token, and for the Mamba its states besides, 8,192
numbers a layer and sequence that are read and written for each token. `re-run` is the same sampling without
cached states, for fewer molecules: each token costs a pass over all tokens before it. When no Mamba prior is
shipped, a fresh one of the same size is sampled; its strings have the length limit of 64 tokens.

Run: python benchmarks/sampling.py [molecules] [molecules of the re-run]
"""

import sys
import time

import torch

from allmodes.chem.policies.policy import Policy, load_policy, make_policy
from allmodes.chem.policies.pretrain import DEFAULT_SIZES
from allmodes.chem.policies.prior import ShippedPrior, shipped_prior
from allmodes.chem.policies.tokenizer import BOS, EOS, PAD, SmilesTokenizer

BATCH = 250
MAX_LENGTH = 128
FRESH_LENGTH = 64
FRESH_VOCABULARY = 65


def prior(cell: ShippedPrior) -> tuple[Policy, SmilesTokenizer | None, int]:
    """The policy, its vocabulary if it is trained, and the length limit."""
    path = shipped_prior(cell)
    if path.is_file():
        return *load_policy(path), MAX_LENGTH
    torch.manual_seed(0)
    return make_policy(FRESH_VOCABULARY, cell=cell, **DEFAULT_SIZES[cell]), None, FRESH_LENGTH


def sample(policy: Policy, count: int, max_length: int) -> tuple[float, float]:
    """Seconds for `count` molecules in batches, and their mean number of tokens."""
    generator = torch.Generator().manual_seed(0)
    tokens = 0
    start = time.perf_counter()
    for done in range(0, count, BATCH):
        samples = policy.sample(min(BATCH, count - done), max_length=max_length, generator=generator)
        tokens += int((samples.tokens != PAD).sum())
    return time.perf_counter() - start, tokens / count


@torch.no_grad()
def rerun(policy: Policy, count: int, max_length: int) -> float:
    """Seconds for the same by a pass over the whole prefix for each token."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    prefixes = torch.full((count, 1), BOS)
    for _ in range(max_length):
        logits = policy._logits(prefixes)[:, -1]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator) + EOS
        prefixes = torch.cat([prefixes, drawn], 1)[drawn.squeeze(1) != EOS]
        if len(prefixes) == 0:
            break
    return time.perf_counter() - start


def main() -> None:
    """Print both priors' speed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    few = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {BATCH}")
    for cell in ("lstm", "mamba"):
        policy, vocabulary, limit = prior(cell)
        sample(policy, 10, limit)
        seconds, length = sample(policy, count, limit)
        cached, _ = sample(policy, few, limit)
        ratio = rerun(policy, few, limit) / cached
        name = cell if vocabulary is not None else f"{cell} (fresh)"
        print(
            f"{name}: {count} molecules of {length:.1f} tokens in {seconds:.1f} s, {count / seconds:.0f} a "
            f"second; re-running the prefix takes {ratio:.1f} times as long ({few} molecules)"
        )


if __name__ == "__main__":
    main()
