"""MARA, Figure 5: flat above the threshold, close to the reference below it; and the limits of both."""

import math

import torch

from allmodes.methods import MARA, Plain
from allmodes.objectives import mara_rewards
from allmodes.paper.didactic import (
    LEFT,
    NO_SHAPES,
    RIGHT,
    STEPS,
    half_reference,
    mass,
    optimum,
    plateaus,
    policies,
    policy_grid,
    spread,
    table,
    train_figure,
)
from allmodes.paper.reproduction import Progress, Reproduction, Scale, Verdict, verdict
from allmodes.targets import forward_kl_target, is_reward_multimodal, mara_beta_bound, mara_target
from allmodes.worlds.categorical import Categorical
from allmodes.worlds.sweep import Sweep
from allmodes.worlds.training import FORWARD_KL, REVERSE_KL, Training

THRESHOLD = 0.5
BETAS = (0.05, 0.1, 0.2, 0.5, 1.0)
MARA_REVERSE = Training(name="MARA, reverse KL", method=MARA(threshold=THRESHOLD))
MARA_FORWARD = Training(name="MARA, forward KL", kl="forward", method=MARA(threshold=THRESHOLD))
# A world where MARA's good outcomes are the likeliest only below a bound on β: others lie just below τ =
# 0.95.
LIKELY = torch.tensor([0.6, 0.3, 0.09, 0.01], dtype=torch.float64).log()
BEYOND = torch.tensor([0.9, 0.8, 1.0, 1.0], dtype=torch.float64)
METHODS = (REVERSE_KL, MARA_REVERSE, FORWARD_KL, MARA_FORWARD)
ROWS = (
    (REVERSE_KL, "reverse KL"),
    (MARA_REVERSE, "reverse KL\nMARA"),
    (FORWARD_KL, "forward KL"),
    (MARA_FORWARD, "forward KL\nMARA"),
)


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train plain RL and MARA with both KLs, two equally good modes."""
    world = Categorical(half_reference(), plateaus(1.0, 1.0))
    sweep = train_figure(world, METHODS, BETAS, steps=STEPS, scale=scale, progress=progress)
    return Reproduction(
        figure=policy_grid(world, sweep, ROWS, BETAS, threshold=THRESHOLD),
        numbers={"settings": table(world, sweep, METHODS, BETAS), "counter_examples": counter_examples()},
        verdicts=[*mara_verdicts(world, sweep, BETAS), _below(world, sweep), *_counter_verdicts()],
        notes=[NO_SHAPES, f"Threshold τ = {THRESHOLD}; anchors are the paper's, of batches of 32."],
    )


def mara_verdicts(world: Categorical, sweep: Sweep, betas: tuple[float, ...]) -> list[Verdict]:
    """Plain RL against MARA: right to left mass, trained (all β and seeds) and exact."""
    said: list[Verdict] = []
    for method in METHODS:
        ratios = torch.stack([_ratio(policies(sweep, method, beta)) for beta in betas])
        exact = torch.stack([_ratio(optimum(world, method, beta)) for beta in betas])
        measured = (
            f"right : left, trained {float(ratios.min()):.3f} to {float(ratios.max()):.3f} over all β and "
            f"seeds, exact {float(exact.min()):.3f} to {float(exact.max()):.3f}"
        )
        if method.method == Plain():
            said.append(
                verdict(
                    f"Plain RL heavily favours the left mode at every β ({method.name})",
                    paper="regardless of β and KL",
                    measured=measured,
                    holds=bool((ratios < 0.5).all()) or ("partly" if (exact < 0.5).all() else "no"),
                )
            )
        else:
            flat = bool(((ratios.mean(-1) - 1).abs() < 0.1).all())
            said.append(
                verdict(
                    f"MARA puts equal mass on both modes ({method.name})",
                    paper="equal, for both KLs",
                    measured=measured,
                    holds=flat and bool(((exact - 1).abs() < 1e-9).all()),
                )
            )
    return said


def _ratio(probabilities: torch.Tensor) -> torch.Tensor:
    return mass(probabilities, RIGHT) / mass(probabilities, LEFT)


def _below(world: Categorical, sweep: Sweep) -> Verdict:
    """Below τ the reference's ratio between the halves should be kept."""
    below = world.rewards < THRESHOLD
    first = torch.arange(len(world.rewards)) < 50
    log_ratios = {
        beta: (lambda p: (p[:, below & first].sum(-1) / p[:, below & ~first].sum(-1)).log())(
            policies(sweep, MARA_REVERSE, beta)
        )
        for beta in (0.5, 1.0)
    }
    expected = float(world.ref_outcome_logprobs[0] - world.ref_outcome_logprobs[-1])
    off = max(float((values.mean() - expected).abs()) for values in log_ratios.values())
    return verdict(
        "MARA stays close to the reference in low-reward regions (reverse KL)",
        paper="stays close",
        measured="log ratio of the halves below τ "
        + ", ".join(f"{spread(values)} at β = {beta:g}" for beta, values in log_ratios.items())
        + f"; reference {expected:.3g}",
        holds=off < 0.1,
    )


def counter_examples() -> dict[str, list[float]]:
    """Optima of two small worlds where MARA is not flat, or its good outcomes are not the likeliest."""
    q = torch.tensor([0.02, 0.01, 0.97], dtype=torch.float64).log()
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    augmented = mara_rewards(rewards, q, beta=1e-3, threshold=0.5).rewards
    return {
        "forward_plain": forward_kl_target(q, rewards, beta=1e-3).logprobs.exp().tolist(),
        "forward_mara": forward_kl_target(q, augmented, beta=1e-3).logprobs.exp().tolist(),
        "beyond_bound": mara_target(LIKELY, BEYOND, beta=0.2, threshold=0.95).exp().tolist(),
        "bound": [float(mara_beta_bound(LIKELY, BEYOND, threshold=0.95))],
    }


def _counter_verdicts() -> list[Verdict]:
    numbers = counter_examples()
    bound = numbers["bound"][0]
    inside, outside = (
        bool(
            is_reward_multimodal(
                mara_target(LIKELY, BEYOND, beta=beta, threshold=0.95),
                BEYOND,
                threshold=0.95,
                tolerance=1e-9,
            )
        )
        for beta in (0.99 * bound, 1.01 * bound)
    )
    top, good = numbers["beyond_bound"][0], numbers["beyond_bound"][2]
    masses = ", ".join(f"{p:.3f}" for p in numbers["forward_mara"])
    plain = ", ".join(f"{p:.3f}" for p in numbers["forward_plain"])
    return [
        verdict(
            "MARA's optimum is reward-multimodal, its good samples the likeliest of all",
            paper="for z = argmax π_ref above τ (Remark B.3)",
            measured=f"R = (0.9, 0.8, 1, 1), q = (0.6, 0.3, 0.09, 0.01), τ = 0.95: only below β = "
            f"{bound:.4f} (just inside: {inside}, just outside: {outside}); at β = 0.2 the 0.9 outcome has "
            f"{top / good:.1f} times a good one's mass",
            holds="partly" if inside and not outside else "no",
        ),
        verdict(
            "The same rewards are flat under a forward KL",
            paper="works with either KL",
            measured=f"q = (0.02, 0.01, 0.97), R = (1, 1, 0), β = 0.001: optimum ({masses}), plain "
            f"({plain}); as β → 0 the least likely good outcome takes nearly all",
            holds=math.isclose(numbers["forward_mara"][0], numbers["forward_mara"][1], rel_tol=0.05),
        ),
    ]
