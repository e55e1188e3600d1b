"""MARA, Figure 8: Figure 4 with both KLs and more β."""

from allmodes.paper.didactic import STEPS
from allmodes.paper.mara_fig2 import BETAS, METHODS
from allmodes.paper.mara_fig4 import equal_rewards
from allmodes.paper.reproduction import Progress, Reproduction, Scale


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with both KLs at eight β."""
    return equal_rewards(scale, progress, methods=METHODS, betas=BETAS, steps=STEPS)
