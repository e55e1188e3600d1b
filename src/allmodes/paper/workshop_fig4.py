"""MARA's workshop version, Figure 4: Figure 3 with both KLs and 1000 steps."""

from allmodes.paper.didactic import WORKSHOP_STEPS
from allmodes.paper.mara_fig3 import bump_reproduction, train_bumps
from allmodes.paper.reproduction import Progress, Reproduction, Scale
from allmodes.worlds.training import FORWARD_KL, REVERSE_KL


def reproduce(scale: Scale, progress: Progress) -> Reproduction:
    """Train with both KLs, uniform reference, three reward bumps."""
    methods = (REVERSE_KL, FORWARD_KL)
    world, sweep = train_bumps(scale, progress, methods=methods, steps=WORKSHOP_STEPS)
    return bump_reproduction(world, sweep, methods)
