"""`allmodes chem`: commands for molecules outside of a run."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from allmodes.cli.program import same_command, say_how_to_continue
from allmodes.cli.recipes import find_recipe
from allmodes.extras import require

chem = tyro.extras.SubcommandApp()

_FROM_NOTHING = {"epochs": 5.0, "batch_size": 128, "learning_rate": 1e-3, "validation_fraction": 0.02}
_FURTHER = {"epochs": 20.0, "batch_size": 32, "learning_rate": 1e-4, "validation_fraction": 0.1}


@chem.command(name="pretrain")
def chem_pretrain(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    cell: Literal["lstm", "gru", "mamba"] | None = None,
    hidden_size: int | None = None,
    num_layers: int | None = None,
    embedding_size: int | None = None,
    state_size: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    validation_fraction: float | None = None,
    max_tokens: int = 128,
    seed: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    checkpoint_every: int = 200,
    num_samples: int = 10000,
) -> None:
    """Train a prior on a file of SMILES (.smi or .smi.gz, one molecule per line), or train one further.

    The folder of an interrupted run is resumed by the same command.

    Args:
        file: one SMILES per line, a table with a column of SMILES (.csv, .tsv), or an SDF; may be compressed.
        out: run folder; holds prior.safetensors, model_card.md and the curve nll.png at the end.
        start: transfer learning: a policy to train further, a file, a folder or zinc250k-lstm. Its kind and
            sizes are kept, and molecules with tokens unknown to it are left out.
        cell: kind of policy, lstm by default; mamba needs transformers.
        hidden_size: units per layer; 512, and 256 for mamba.
        num_layers: layers; 3, and 12 for mamba.
        embedding_size: size of a token's embedding; 256. mamba uses hidden_size.
        state_size: state size of each channel of mamba; 16. Only for mamba.
        epochs: passes over the data, may be a fraction; 5, and 20 with --from.
        batch_size: molecules per update; 128, and 32 with --from.
        learning_rate: Adam's peak rate, after a warm-up and before a cosine to zero; 0.001, and 0.0001 with
            --from.
        validation_fraction: share of the molecules held out; 0.02, and 0.1 with --from. The policy of the
            epoch with the lowest validation NLL is kept.
        max_tokens: maximum length in tokens; longer molecules are left out.
        seed: seed of the split, the weights, the order and the samples.
        precision: bfloat16 autocast, or float32.
        checkpoint_every: updates between two checkpoints.
        num_samples: molecules drawn for validity, uniqueness and novelty.
    """
    require("molecules need", "rdkit", extras="chem,report")
    if cell == "mamba":
        require("Mamba policies need", "transformers", extras="chem,report,text")
    from allmodes.chem.policies.nll_curve import draw_nll_curve
    from allmodes.chem.policies.policy import load_policy
    from allmodes.chem.policies.pretrain import DEFAULT_SIZES, PretrainSettings, pretrain
    from allmodes.chem.policies.prior import prior_path
    from allmodes.errors import ConfigError
    from allmodes.runs.folder import RunFolder

    given = {"hidden_size": hidden_size, "num_layers": num_layers, "embedding_size": embedding_size,
             "state_size": state_size}  # fmt: skip
    sizes = {name: size for name, size in given.items() if size is not None}
    if start is None:
        shape = {"cell": cell or "lstm", **DEFAULT_SIZES[cell or "lstm"], **sizes}
    else:
        own = next((name for name, value in {"cell": cell, **sizes}.items() if value is not None), None)
        if own is not None:
            flag = own.replace("_", "-")
            raise ConfigError(
                f"`--{flag}`: expected none with --from, since that policy determines it; got one"
            )
        start = prior_path(start, key="`--from`")
        shape = load_policy(start)[0].architecture()
    defaults = _FROM_NOTHING if start is None else _FURTHER
    chosen = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
              "validation_fraction": validation_fraction}  # fmt: skip
    settings = PretrainSettings(
        **shape,
        **{**defaults, **{name: value for name, value in chosen.items() if value is not None}},
        max_tokens=max_tokens,
        seed=seed,
        precision=precision,
        checkpoint_every=checkpoint_every,
        num_samples=num_samples,
    )
    with say_how_to_continue(same_command):
        results = pretrain(file, out, settings, start=start)
    rows = RunFolder(out).read_metrics()
    draw_nll_curve(rows, out / "nll")
    if start is not None:
        print(f"validation_nll of {start.name}: {rows[0]['validation_nll']:.4f}")
    for key in ("epoch", "validation_nll", "validity", "uniqueness", "novelty"):
        print(f"{key}: {results[key]:.4f}" if key != "epoch" else f"epoch kept: {results[key]:g}")
    print(f"curve: {out / 'nll.png'}")
    print(f"prior: {out / 'prior.safetensors'}")


@chem.command(name="receptor")
def chem_receptor(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    ligand: str | None = None,
    chains: tuple[str, ...] = (),
    ph: float = 7.4,
) -> None:
    """Prepare a receptor for docking from a PDB or mmCIF file as downloaded.

    Args:
        file: the file, may be compressed.
        out: folder for receptor.pdbqt, reference_ligand.pdb and docking.toml, the component for a recipe.
        ligand: residue name of the co-crystallised ligand, or chain of a peptide, at the centre of the box;
            "none" for no ligand.
        chains: chains to keep, '' for a blank name; all by default. Ions and the ligand are kept by distance.
        ph: pH for adding hydrogens, unless the name of a residue gives its state (HID, ASH).
    """
    require("receptors need", "rdkit", "gemmi", "meeko", "scipy", "openmm", "pdbfixer", extras="docking")
    from allmodes.chem.docking.receptor import prepare_receptor
    from allmodes.runs.claims import claimed_folder

    files = ("receptor.pdbqt", "reference_ligand.pdb", "docking.toml")
    with claimed_folder(out, out, command="receptor", inputs=(file,), files=files):
        prepared = prepare_receptor(file, out, ligand=ligand, chains=chains, ph=ph)
    for line in prepared.lines():
        print(line)


@chem.command(name="score")
def chem_score(
    file: tyro.conf.Positional[Path],
    *,
    oracle: Path,
    out: Path,
    hit_threshold: Annotated[float | None, tyro.conf.arg(aliases=["--screen"])] = None,
    scale: str | None = None,
) -> None:
    """Score the molecules of a file with the oracle of a recipe; the same command resumes after a stop.

    Args:
        file: one SMILES per line (a name may follow), a table with a column of SMILES (.csv, .tsv), or an
            SDF.
        oracle: a recipe, by name or file, or any file with its [oracle] table.
        out: folder for scores.csv, scores.sdf with poses, and report.html.
        hit_threshold: smallest reward of a hit; that of the recipe by default.
        scale: for a recipe with several scales: "quick" by default.
    """
    require("molecules need", "rdkit", extras="chem,report")
    from allmodes.chem.score import score_file
    from allmodes.chem.scoring_config import ScoringConfig
    from allmodes.runs.config import apply_scale, build_config, read_config_file

    oracle = find_recipe(oracle)
    values = ScoringConfig.renamed(apply_scale(read_config_file(oracle), scale))
    known = {key: values[key] for key in ("oracle", "hit_threshold") if key in values}
    if hit_threshold is not None:
        known["hit_threshold"] = hit_threshold
    config = build_config(ScoringConfig, known, source=str(oracle), recipe_folder=oracle.parent)
    with say_how_to_continue(same_command):
        report = score_file(file, config.oracle, hit_threshold=config.hit_threshold, out=out)
    from rich.console import Console

    from allmodes.chem.reporting.summary import print_scores

    print_scores(out, Console())
    print(f"report: {report}")


@chem.command(name="surrogate")
def chem_surrogate(
    file: tyro.conf.Positional[Path], *, out: Path, column: str = "docking raw", target: str | None = None
) -> None:
    """Fit a regression to scores, as a substitute for a slow scorer, and print its held-out error.

    Args:
        file: a table with columns of SMILES and scores, such as scores.csv of `allmodes chem score`.
        out: the surrogate's file, for a component of kind "surrogate".
        column: the score's column.
        target: description of the score it replaces; by default the names of the column and the file.
    """
    require("molecules need", "rdkit", extras="chem,report")
    from allmodes.chem.surrogate import fit_surrogate

    card = fit_surrogate(file, out, column=column, target=target or f"{column} of {file.name}")
    print(f"{card.molecules} molecules; standard deviation of the scores: {card.spread:.3f}")
    print(
        f"held-out error: RMSE {card.rmse:.3f}, mean {card.mean_error:.3f}; R² {card.r2:.3f}, "
        f"rank correlation {card.rank_correlation:.3f} (five folds)"
    )
    print(f"surrogate: {out}")
