"""The command line. Every command imports what it needs when it runs, so `--help` answers at once."""

import sys
from pathlib import Path
from typing import Literal

import tyro

from allmodes.errors import AllmodesError, InputError

app = tyro.extras.SubcommandApp()
chem = tyro.extras.SubcommandApp()
app.command(chem, name="chem", help="Molecules: pretrain a prior.")


@chem.command(name="pretrain")
def chem_pretrain(
    file: tyro.conf.Positional[Path],
    *,
    out: Path,
    cell: Literal["lstm", "gru"] = "lstm",
    hidden_size: int = 512,
    num_layers: int = 3,
    embedding_size: int = 256,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.02,
    max_tokens: int = 128,
    seed: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    checkpoint_every: int = 200,
    num_samples: int = 10000,
) -> None:
    """Train a prior on a file of SMILES (.smi or .smi.gz, one molecule a line).

    The folder of an interrupted run is resumed by the same command.

    Args:
        file: the SMILES file; the first column of each line counts.
        out: run folder; holds prior.safetensors and model_card.md at the end.
        cell: recurrent cell.
        hidden_size: units a layer.
        num_layers: recurrent layers.
        embedding_size: size of a token's embedding.
        epochs: passes over the data.
        batch_size: molecules an update.
        learning_rate: Adam's peak rate, after a warm-up and before a cosine to zero.
        validation_fraction: share of the molecules held out.
        max_tokens: longer molecules are left out.
        seed: seed of the split, the weights, the order and the samples.
        precision: bfloat16 autocast, or float32.
        checkpoint_every: updates between two checkpoints.
        num_samples: molecules drawn for validity, uniqueness and novelty.
    """
    from allmodes.chem.pretrain import PretrainSettings, pretrain

    settings = PretrainSettings(
        cell=cell,
        hidden_size=hidden_size,
        num_layers=num_layers,
        embedding_size=embedding_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation_fraction=validation_fraction,
        max_tokens=max_tokens,
        seed=seed,
        precision=precision,
        checkpoint_every=checkpoint_every,
        num_samples=num_samples,
    )
    results = pretrain(file, out, settings)
    for key in ("validation_nll", "validity", "uniqueness", "novelty"):
        print(f"{key}: {results[key]:.4f}")
    print(f"prior: {out / 'prior.safetensors'}")


def main() -> None:
    """Entry point: exit code 2 for wrong input, 1 for a run that failed."""
    try:
        app.cli(prog="allmodes")
    except InputError as error:
        print(f"allmodes: {error}", file=sys.stderr)
        sys.exit(2)
    except AllmodesError as error:
        print(f"allmodes: {error}", file=sys.stderr)
        sys.exit(1)
