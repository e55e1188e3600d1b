"""A small model and data for the 1-2 task, for one_two.sh: python one_two_data.py FOLDER [STEPS]."""

import sys
from pathlib import Path

import pandas as pd

from allmodes.tasks import OneTwo
from allmodes.text.stand_ins.stand_in import make_stand_in


def main(out: Path, steps: int | None) -> None:
    """Write FOLDER/model, train.parquet and val.parquet; steps: fewer make a rough model sooner."""
    print(make_stand_in(out / "model", steps=steps))
    message = {"role": "user", "content": OneTwo.prompts[0]}
    rows = [
        {
            "data_source": "one-two",
            "prompt": [message],
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": index},
        }
        for index in range(8)
    ]
    pd.DataFrame(rows).to_parquet(out / "train.parquet")
    pd.DataFrame(rows[:2]).to_parquet(out / "val.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
