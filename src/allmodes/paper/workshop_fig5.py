"""MARA's workshop version, Figure 5: Figure 8 with 1000 steps."""

from allmodes.paper.didactic import WORKSHOP_STEPS
from allmodes.paper.mara_fig2 import METHODS
from allmodes.paper.mara_fig4 import equal_rewards
from allmodes.paper.reproduction import Progress, Reproduction, Scale


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with both KLs at six β."""
    return equal_rewards(
        scale, progress, methods=METHODS, betas=(0.01, 0.05, 0.1, 0.2, 0.5, 1.0), steps=WORKSHOP_STEPS
    )
