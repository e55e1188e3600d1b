"""A policy with its tokenizer in the format of model hubs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from allmodes.chem.policies.policy import Precision, load_policy, make_policy, save_policy
from allmodes.chem.policies.prior import WEIGHTS_FILE, prior_path
from allmodes.chem.policies.smiles_logprobs import smiles_logprobs
from allmodes.chem.policies.tokenizer import SmilesTokenizer
from allmodes.errors import ConfigError
from allmodes.extras import is_installed, pip_install

if not is_installed("huggingface_hub"):
    raise ConfigError(
        f"SmilesModel needs `{pip_install('huggingface_hub')}`; huggingface_hub is not installed"
    )
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download

_CARD = """---
{{ card_data }}
---

# {{ model_id | default("A policy over SMILES", true) }}

{{ details }}

```python
from allmodes.chem.policies.smiles_model import SmilesModel

model = SmilesModel.from_pretrained("{{ model_id | default("FOLDER", true) }}")
model.sample(10)
```

Or as the prior of a recipe of allmodes: download it to a folder, and set `prior = "FOLDER"`.
"""
_LONGEST = 128  # tokens


@final
class SmilesModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="allmodes",
    tags=["chemistry", "smiles", "molecular-design"],
    model_card_template=_CARD,
):
    """A prior or an agent that samples and scores SMILES.

    `save_pretrained(folder)`, `from_pretrained(folder_or_name)` and `push_to_hub(name)` are those of
    `huggingface_hub`. The folder holds model.safetensors, a file that is also a `prior` of a recipe,
    config.json, and a model card, README.md. Weights are safetensors alone; nothing is unpickled.

    >>> model = SmilesModel.load("lstm")  # the prior that comes with allmodes; or a run's agent.safetensors
    >>> len(model.sample(3, seed=1))
    3
    """

    def __init__(
        self, *, tokens: Sequence[str], architecture: dict[str, Any], precision: Precision = "float32"
    ) -> None:
        """A policy with fresh weights from torch's global generator.

        tokens: the vocabulary, as `SmilesTokenizer` takes it. architecture: `cell`, and sizes of its class.
        """
        super().__init__()
        self.tokenizer = SmilesTokenizer(tokens)
        self.policy = make_policy(len(self.tokenizer), precision=precision, **architecture)
        self.details = "A policy over SMILES, trained with allmodes."

    @classmethod
    def load(cls, path: str | Path, *, precision: Precision = "float32") -> Self:
        """The policy of a file, such as prior.safetensors or agent.safetensors, or a shipped one by name.

        A model_card.md beside the file becomes part of the model card. Raises `ConfigError` if there is no
        such file, and `RunError` or `InputError` for one that holds no policy.
        """
        found = prior_path(Path(path), key="`path`")
        policy, tokenizer = load_policy(found, precision=precision)
        model = cls(tokens=tokenizer.tokens, architecture=policy.architecture(), precision=precision)
        model.policy = policy
        card = next(
            (name for name in (found.with_suffix(".md"), found.with_name("model_card.md")) if name.is_file()),
            None,
        )
        if card is not None:
            model.details = card.read_text(encoding="utf-8")
        return model

    def sample(self, count: int, *, seed: int = 0, max_tokens: int = _LONGEST) -> list[str]:
        """SMILES as the policy writes them, valid or not; one that is not finished in time is cut off."""
        generator = torch.Generator(device=self.policy.device).manual_seed(seed)
        samples = self.policy.sample(count, max_length=max_tokens, generator=generator)
        return [self.tokenizer.decode(ids) for ids in samples.tokens.tolist()]

    def logprobs(self, smiles: Sequence[str]) -> Tensor:
        """Log π of each SMILES string, including its end, in nats, (N,).

        NaN for one with a token that the policy does not know, or without any. Only this spelling of the
        molecule counts.
        """
        found = smiles_logprobs(self.policy, self.tokenizer, smiles, is_whole=[True] * len(smiles))
        return torch.tensor([torch.nan if one is None else one[0] for one in found])

    def _save_pretrained(self, save_directory: Path) -> None:
        save_policy(save_directory / WEIGHTS_FILE, self.policy, self.tokenizer)

    def push_to_hub(self, repo_id: str, **settings: Any) -> str:
        """Upload model, configuration and card with settings of `huggingface_hub`; returns the address."""
        card = {"model_id": repo_id, **(settings.pop("model_card_kwargs", None) or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **settings)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card of `huggingface_hub`, with what is known of the policy."""
        return super().generate_model_card(*args, **{"details": self.details, **kwargs})

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = False,
        precision: Precision = "float32",
        **rest: Any,
    ) -> Self:
        """From a folder, or from the hub's model of this name. strict: ignored, all weights must be there."""
        if Path(model_id).is_dir():
            path = Path(model_id)
        else:
            names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            options = {name: rest[name] for name in names if name in rest}
            path = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS_FILE, **options))
        return cls.load(path, precision=precision).to(map_location)
