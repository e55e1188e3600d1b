"""Settings of the papers' tables of molecular design: their tasks and numbers, and a small copy.

Another prior, fewer seeds, one task: `dataclasses.replace(PAPER, tasks=("SYNTH",), seeds=(0, 1), ...)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from allmodes.chem import arms
from allmodes.chem.config import MoleculesConfig
from allmodes.errors import ConfigError
from allmodes.runs.config import build_config

Components = tuple[Mapping[str, Any], ...]  # tables [[oracle.components]], as in a recipe


@final
@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm of a study, by its name in tables.

    algorithm: its name in recipes. settings: of its method, where they are not the recipes' defaults. sigmas:
    the only ones that it is run at, if any.
    """

    name: str
    algorithm: str
    settings: tuple[tuple[str, float], ...] = ()
    sigmas: tuple[float, ...] | None = None

    @property
    def trained(self) -> arms.Arm:
        """Its loss and its method."""
        return arms.parse_arm(self.algorithm)


REINVENT = Arm(name="REINVENT", algorithm="reinvent")
MARA_80 = Arm(name="MARA (τ = 0.80)", algorithm="mara", settings=(("threshold", 0.80),))
MARA_85 = Arm(name="MARA (τ = 0.85)", algorithm="mara", settings=(("threshold", 0.85),), sigmas=(128.0,))
GRPO = Arm(name="GRPO", algorithm="grpo")
IPS_GRPO = Arm(name="IPS-GRPO", algorithm="ips-grpo")
MARA_ARMS, IPS_ARMS = (REINVENT, MARA_80, MARA_85), (REINVENT, GRPO, IPS_GRPO)


def _task(*reactions: str) -> Components:
    """The reward's components as in the recipes, with a regression instead of docking."""
    return (
        {
            "name": "docking",
            "kind": "surrogate",
            "shaping": {"kind": "reverse_sigmoid", "low": -16.0, "high": 0.0, "k": 0.15},
        },
        {"name": "QED", "kind": "qed"},
        {"name": "donors", "kind": "hbd", "shaping": {"kind": "step", "high": 3}},
        {"name": "synthesis", "kind": "retrosynthesis", "reactions": list(reactions)},
    )


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """One study: tasks × arms × sigmas × seeds.

    tasks: names of `components`, which holds each task's reward. arms: the first is the one that the others
    are compared with. screens: thresholds of the reward for a hit; each run is measured at all of them.
    prior: a policy's file, "lstm" or "mamba"; None for the shipped LSTM. workers: runs at a time, each on one
    thread.
    """

    tasks: tuple[str, ...] = ("SYNTH", "ALL-AMIDE")
    arms: tuple[Arm, ...] = MARA_ARMS
    sigmas: tuple[float, ...]
    seeds: tuple[int, ...]
    screens: tuple[float, ...] = (0.80, 0.85)
    components: Mapping[str, Components] = field(
        default_factory=lambda: {"SYNTH": _task(), "ALL-AMIDE": _task("amide coupling")}
    )
    budget: int
    batch_size: int
    learning_rate: float = 1e-4
    augmentation_rounds: int = 2
    filter_from: float = 0.80  # rewards that the scaffold filter counts
    prior: Path | None = None
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoint_every: int = 20
    workers: int = 2

    @property
    def docking(self) -> str | None:
        """The kind of the component "docking": "surrogate" stands in for Vina, "docking" is Vina."""
        entries = self.components[self.tasks[0]]
        return next((entry["kind"] for entry in entries if entry["name"] == "docking"), None)


PAPER = Settings(sigmas=(128.0, 256.0, 512.0), seeds=(0, 1, 2, 3, 4), budget=10_000, batch_size=64)
QUICK = replace(PAPER, sigmas=(128.0,), seeds=(0, 1), budget=32, batch_size=16)


def with_receptor(settings: Settings, folder: Path) -> Settings:
    """The same study with AutoDock Vina, at exhaustiveness 1, instead of the regression.

    folder: what `allmodes chem receptor` wrote. Raises ConfigError if a file is missing in it.
    """
    receptor, ligand = folder / "receptor.pdbqt", folder / "reference_ligand.pdb"
    for file in (receptor, ligand):
        if not file.is_file():
            raise ConfigError(
                f"receptor: expected a folder made by `allmodes chem receptor`; "
                f"got {folder} without {file.name}"
            )
    vina = {
        "kind": "docking",
        "receptor": str(receptor),
        "box": {"reference_ligand": str(ligand), "size": 20.0},
        "exhaustiveness": 1,
    }
    components = {
        task: tuple({**entry, **vina} if entry["name"] == "docking" else entry for entry in entries)
        for task, entries in settings.components.items()
    }
    return replace(settings, components=components)


def run_config(
    settings: Settings, *, task: str, arm: Arm, sigma: float, seed: int, store: str | None
) -> MoleculesConfig:
    """The configuration of one run. Raises ConfigError for settings that do not fit each other."""
    values = {
        "kind": "molecules",
        "algorithm": arm.algorithm,
        "seeds": seed,
        "budget": settings.budget,
        "hit_threshold": min(settings.screens),
        "oracle": {"components": settings.components[task], "store": store},
        "prior": settings.prior,
        "precision": settings.precision,
        "batch_size": settings.batch_size,
        "sigma": sigma,
        "learning_rate": settings.learning_rate,
        "replay": {"augmentation_rounds": settings.augmentation_rounds},
        "scaffold_filter": {"min_reward": settings.filter_from},
        "checkpoint_every": settings.checkpoint_every,
        "threads": 1,
        "methods": {arm.trained.method: dict(arm.settings)} if arm.settings else {},
    }
    return build_config(MoleculesConfig, values, source=f"study, {task}, {arm.name}")
