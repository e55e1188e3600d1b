"""Every way to write a list behind a flag, in one table that commands and recipes are both held to."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator

from allmodes.errors import ConfigError
from allmodes.runs.config import Config, Number, Seeds, apply_flags, build_config, one_or_several
from allmodes.runs.flag_lists import FORMS, split_list

NUMBERS = [
    ["0", "1", "2"],
    ["0,1,2"],
    ["[0,1,2]"],
    ["[0, 1, 2]"],
    ["[0,", "1,", "2]"],
    ["[", "0", "1", "2", "]"],
    ["[0 1 2]"],
    ["0, 1, 2"],
    ["0,", "1,", "2"],
    ["0", ",", "1", ",", "2"],
    ["0 1 2"],
    ["0,1", "2"],
    [" 0,1,2 "],
    ["0,1,2,"],
    ['"0","1","2"'],
]
TEXTS = [
    (["a b"], ["a b"]),
    (["a b", "c"], ["a b", "c"]),
    (["a,b"], ["a", "b"]),
    (["a,", "b"], ["a", "b"]),
    (["[a,b]"], ["a", "b"]),
    (["[a,", "b]"], ["a", "b"]),
    (['["a,b", "c"]'], ["a,b", "c"]),
    (["'a,b'"], ["a,b"]),
    (["[nH]1cccc1"], ["[nH]1cccc1"]),
    (["[#6][NX3]C(=O)[NX3][#6]"], ["[#6][NX3]C(=O)[NX3][#6]"]),
    (["[C,N]c,[O,S]c"], ["[C,N]c", "[O,S]c"]),
    (["cS(=O)(=O)[NX3;!$(NC=O),$(N)]", "c1cnnn1"], ["cS(=O)(=O)[NX3;!$(NC=O),$(N)]", "c1cnnn1"]),
    (["5'-phosphate,3'-end"], ["5'-phosphate", "3'-end"]),
    ([""], []),
    (["[]"], []),
]


@pytest.mark.parametrize("tokens", [*NUMBERS, ['["0", "1", "2"]']])
def test_numbers(tokens: list[str]) -> None:
    assert split_list(tokens, of_texts=False) == ["0", "1", "2"]


@pytest.mark.parametrize(("tokens", "expected"), TEXTS)
def test_texts(tokens: list[str], expected: list[str]) -> None:
    assert split_list(tokens, of_texts=True) == expected


def test_a_path_that_exists_is_one_entry_whatever_it_holds() -> None:
    there = {"a,b.csv", "[c]", "d e"}.__contains__
    assert split_list(["a,b.csv", "[c]"], of_texts=True, is_whole=there) == ["a,b.csv", "[c]"]
    assert split_list(["[c]"], of_texts=True, is_whole=there) == ["[c]"]
    assert split_list(["a,b"], of_texts=True, is_whole=there) == ["a", "b"]


def test_as_many_texts_as_are_asked_for_stand_as_they_are() -> None:
    assert split_list(["a,b", "c"], of_texts=True, count=2) == ["a,b", "c"]
    assert split_list(["a,", "c"], of_texts=True, count=2) == ["a", "c"]
    assert split_list(["[a,", "c]"], of_texts=True, count=2) == ["a", "c"]
    assert split_list(["a,c"], of_texts=True, count=2) == ["a", "c"]


@given(st.lists(st.text(st.characters(blacklist_characters='"', blacklist_categories=("Cs",)), min_size=1)))
def test_what_is_quoted_comes_back(texts: list[str]) -> None:
    quoted = ", ".join(f'"{text}"' for text in texts)
    assert split_list([f"[{quoted}]"], of_texts=True) == texts


class Inner(Config):
    numbers: tuple[Number, ...] = ()
    center: tuple[Number, Number, Number] | None = None


class Lists(Config):
    seeds: Seeds = (0,)
    texts: tuple[str, ...] = ()
    size: Number | tuple[Number, Number, Number] = 1.0
    inner: Inner = Inner()
    free: dict[str, Any] = Field(default_factory=dict)
    text: str = ""
    path: Path | None = None
    count: int = 0

    _one_or_several = field_validator("seeds", mode="before")(one_or_several)


def read(*flags: str) -> Lists:
    return build_config(Lists, apply_flags({}, flags), source="flags")


@pytest.mark.parametrize("tokens", NUMBERS)
def test_keys_of_a_recipe_take_all_forms(tokens: list[str]) -> None:
    assert read("--seeds", *tokens, "--count", "3") == Lists(seeds=(0, 1, 2), count=3)
    assert read("--inner.numbers", *tokens).inner.numbers == (0, 1, 2)
    assert read("--inner.center", *tokens).inner.center == (0, 1, 2)
    assert read("--size", *tokens).size == (0, 1, 2)
    assert read(f"--seeds={tokens[0]}", *tokens[1:]).seeds == (0, 1, 2)


@pytest.mark.parametrize(("tokens", "expected"), TEXTS)
def test_texts_of_a_recipe(tokens: list[str], expected: list[str]) -> None:
    texts = read("--texts", *tokens).texts
    assert texts == tuple(expected)
    assert all(type(text) is str for text in texts)


def test_numbers_below_zero() -> None:
    assert read("--inner.center", "-1", "-2.5", "3").inner.center == (-1, -2.5, 3)
    assert read("--inner.center", "-1,-2.5,3").inner.center == (-1, -2.5, 3)


def test_what_takes_no_list_keeps_its_commas() -> None:
    config = read("--text", "a,b", "--path", "c,d/[e].csv")
    assert (config.text, config.path) == ("a,b", Path("c,d/[e].csv"))
    assert type(config.text) is str
    assert read("--size", "3").size == 3.0


def test_a_table_that_may_hold_anything() -> None:
    assert read("--free.report-to", "a", "b").free == {"report_to": ["a", "b"]}
    assert read("--free.report-to", "[a,b]").free == {"report_to": ["a", "b"]}
    assert read("--free.name", "a,b").free == {"name": "a,b"}
    assert read("--free.sizes", "1", "2").free == {"sizes": [1, 2]}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--count", "1", "2"], ["`count`", "[1, 2]"]),
        (["--text", "a", "b"], ["`text`", "['a', 'b']"]),
        (["--path", "a", "b"], ["`path`", "['a', 'b']"]),
        (["--seeds", "0", "x"], ["`seeds.1`", "'x'", FORMS]),
        (["--seeds", "0;1"], ["`seeds.0`", "'0;1'", FORMS]),
        (["--seeds", "0.5,1"], ["`seeds.0`", "0.5"]),
    ],
)
def test_wrong_lists_are_one_line(flags: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*flags)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
