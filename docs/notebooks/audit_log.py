# %% [markdown]
# # An audit in Python
#
# *This page is docs/notebooks/audit_log.py, executed when the page was made: a script in Jupyter's percent
# format. Run it with Python, or open it with Jupytext or an editor that knows cells.*
#
# allmodes comes with the log of a training that collapses: 256 answers to four questions, in five steps.
# Each question has several right answers. A row is one sample.

# %%
import json
import textwrap
from importlib.resources import files

from allmodes.audit import AuditConfig, run

text = (files("allmodes") / "samples" / "samples.jsonl").read_text(encoding="utf-8")
samples = [json.loads(line) for line in text.splitlines()]
print(json.dumps(samples[0], indent=2))

# %% [markdown]
# The log does not say how the training was set up, so we do: a KL of strength 0.05, inside the reward. Will
# such an objective collapse?

# %%
audit = run(samples, AuditConfig(beta=0.05, kl="k1-in-reward"))
print(audit.summary().split("\n\n")[0])

# %% [markdown]
# The answer comes from the samples of the first step alone, which are the base model's. The check behind it
# is [AM010](../checks/AM010.md):

# %%
finding = audit.of("AM010")
print(finding.state)
for name, figure in finding.numbers.items():
    value, error = getattr(figure, "value", figure), getattr(figure, "error", None)
    print(f"{name:24}{value:.3g}" + (f" ± {error:.2g}" if error is not None else ""))

# %% [markdown]
# So 1.63 of 3.25 good answers of a question are left at the optimum, and one of them has 78 % of their mass.
# What to change:

# %%
print(textwrap.fill(finding.remedy, 90))

# %% [markdown]
# The same samples with MARA in the settings: what would its optimum be?

# %%
with_mara = run(
    samples, AuditConfig(beta=0.05, kl="k1-in-reward", transform="mara", threshold=1.0, scale_rewards="none")
)
print(textwrap.fill(with_mara.of("AM010").summary, 90))

# %% [markdown]
# What happened over training, in the later steps of the log:

# %%
for code in ("AM050", "AM053"):
    print(textwrap.fill(f"{code} {audit.of(code).summary}", 90), end="\n\n")

# %% [markdown]
# The command is `allmodes audit samples.jsonl --beta 0.05 --kl k1-in-reward`; it also writes a page with
# pictures. All checks: [Checks](../checks/README.md). Logs of your trainer: [the guide](../guide/audit.md).
