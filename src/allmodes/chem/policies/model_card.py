"""The model card of a trained policy."""

from collections.abc import Mapping, Sequence
from typing import Any

from allmodes.runs.provenance import shown_command

_MOST_ROWS = 20  # of the table of epochs


def model_card(
    results: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> str:
    """The model card of a trained policy, in Markdown.

    results: what `pretrain` returns. epochs: the rows of its metrics.jsonl. facts: its provenance.
    """
    machine, commit = facts["machine"], facts["git_commit"] or "not a git checkout"
    settings_rows = "\n".join(f"| {key} | {value} |" for key, value in settings.items() if value is not None)
    data = f"{results['data']}: {results['molecules']} molecules, {results['rejected_lines']} lines left out"
    start = "" if results["from"] is None else (
        f"| trained from | {results['from']}, SHA-256 {results['from_sha256']} |\n"
    )  # fmt: skip
    return f"""# Model card: SMILES prior

A language model over SMILES, trained by maximum likelihood with `allmodes chem pretrain`.
Weights are stored in half precision, and the figures of the first table were measured with these rounded
weights. They are those of epoch {results["epoch"]:g}, which had the lowest validation NLL.

| figure | value |
| --- | --- |
{start}| data | {data} |
| SHA-256 of the data | {results["data_sha256"]} |
| parameters | {results["parameters"]} |
| vocabulary | {results["vocabulary"]} tokens |
| validation NLL | {results["validation_nll"]:.3f} nats per molecule ({results["held_out"]} held out) |
| samples drawn | {results["samples"]}, seed {settings["seed"]} |
| validity | {results["validity"]:.2%} of the samples |
| uniqueness | {results["uniqueness"]:.2%} of the valid ones |
| novelty | {results["novelty"]:.2%} of the unique ones are in neither the training nor the held-out data |

| epoch | training NLL | validation NLL |
| --- | --- | --- |
{_epoch_rows(epochs)}

| setting | value |
| --- | --- |
{settings_rows}

Command:

```
{shown_command(facts["command"])}
```

Made {facts["date"]} with allmodes {facts["allmodes"]} (commit {commit}), torch {facts["versions"]["torch"]},
{machine["torch_threads"]} threads of {machine["processor"]}.

Use: molecular design with `allmodes run`; nothing here says that a molecule is active, safe or can be made.
"""


def _epoch_rows(epochs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each epoch, or for some of them, the first and the last included."""
    last = len(epochs) - 1
    shown = sorted({round(last * place / (_MOST_ROWS - 1)) for place in range(_MOST_ROWS)})
    rows = [(f"{row['epoch']:g}", _nll(row["training_nll"]), _nll(row["validation_nll"])) for row in epochs]
    return "\n".join(f"| {' | '.join(rows[at])} |" for at in shown)


def _nll(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
