"""HypoSpace: three domains whose prompts have known sets of good answers (Chen et al. 2025)."""

from allmodes.tasks.hypospace.boolean import Boolean
from allmodes.tasks.hypospace.causal import Causal
from allmodes.tasks.hypospace.voxels import Voxels

__all__ = ["Boolean", "Causal", "Voxels"]
