"""`allmodes text`: commands for language models outside of a run."""

from pathlib import Path

import tyro

from allmodes.extras import require

text = tyro.extras.SubcommandApp()


@text.command(name="model")
def text_model(name: tyro.conf.Positional[str], *, out: Path) -> None:
    """Prepare a model for a recipe's `model` without a model hub: a folder with weights and a model card.

    Nothing is installed or downloaded: if a package is missing, the command that installs it is printed.
    SmolLM2 takes about a minute and 1.3 GB of memory to prepare, and 540 MB on disk.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, a language model), "minilm" (all-MiniLM-L6-v2, an embedder),
            or a language model's .gguf file.
        out: a new folder.
    """
    require("language models need", "transformers", extras="text")
    from allmodes.text.packaged_models import prepare_model

    written = prepare_model(name, out)
    print(f"model: {out}" if written else f"model: {out} (already there)")
