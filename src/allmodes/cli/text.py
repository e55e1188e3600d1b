"""`allmodes text`: language models outside of a run."""

from pathlib import Path

import tyro

from allmodes.extras import require

text = tyro.extras.SubcommandApp()


@text.command(name="model")
def text_model(name: tyro.conf.Positional[str], *, out: Path) -> None:
    """Prepare a model for `model =` on a machine without a model hub: a folder with weights and a card.

    Nothing is installed or downloaded: where a package is missing, the command that brings it is printed.
    SmolLM2 takes about a minute and 1.3 GB of memory once, and 540 MB on disk.

    Args:
        name: "smollm2" (SmolLM2-135M-Instruct, a language model), "minilm" (all-MiniLM-L6-v2, an embedder),
            or a language model's .gguf file.
        out: a new folder.
    """
    require("language models need", "transformers", extras="text")
    from allmodes.text.packaged_models import prepare_model

    written = prepare_model(name, out)
    print(f"model: {out}" if written else f"model: {out} (it is there already)")
