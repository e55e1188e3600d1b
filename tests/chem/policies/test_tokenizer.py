import pytest

from allmodes.chem.policies.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, SmilesTokenizer, split_smiles
from allmodes.errors import InputError, UnknownTokenError

HARD = [
    "Clc1ccc(Br)cc1",
    "C[C@@H](N)C(=O)[O-]",
    "[Na+].[Cl-]",
    "[13CH4]",
    "F/C=C/F",
    "C%12CCCCC%12",
    "[nH]1cccc1",
    "c1ccc2c(c1)c1ccccc1[se]2",
    "BC#N",
    "CC$CC",
]


@pytest.mark.parametrize(
    ("smiles", "tokens"),
    [
        ("ClCCBr", ["Cl", "C", "C", "Br"]),
        ("[nH]1cc%12", ["[nH]", "1", "c", "c", "%12"]),
        ("C[C@@H](F)N", ["C", "[C@@H]", "(", "F", ")", "N"]),
        ("B", ["B"]),
        ("CBr", ["C", "Br"]),
        ("CB", ["C", "B"]),
        ("C%1", ["C", "%", "1"]),
        ("[C", ["[", "C"]),
        ("", []),
    ],
)
def test_split(smiles: str, tokens: list[str]) -> None:
    assert split_smiles(smiles) == tokens


def test_round_trip_of_real_molecules(molecules: list[str]) -> None:
    lines = [*HARD, *molecules]
    tokenizer = SmilesTokenizer.from_smiles(lines)
    for smiles in lines:
        ids = tokenizer.encode(smiles)
        assert len(ids) == len(split_smiles(smiles)) + 1
        assert ids[-1] == EOS
        assert not set(ids[:-1]) & {PAD, BOS, EOS}
        assert tokenizer.decode(ids) == smiles


def test_split_loses_nothing_even_of_nonsense() -> None:
    for text in ("][", "[]", "[[C]]", "Clr B\nr", "%%12%", "<eos>", "ℵ"):
        assert "".join(split_smiles(text)) == text


def test_decode_stops_at_the_first_eos_and_skips_padding() -> None:
    tokenizer = SmilesTokenizer((*SPECIAL_TOKENS, "C", "O"))
    assert tokenizer.decode([BOS, 3, PAD, 4, EOS, 3, 3]) == "CO"
    assert tokenizer.decode([3, 4]) == "CO"
    assert tokenizer.decode([EOS, 3]) == ""


def test_vocabulary_is_sorted_so_that_the_order_of_the_data_does_not_matter() -> None:
    one = SmilesTokenizer.from_smiles(["CO", "NBr"])
    two = SmilesTokenizer.from_smiles(["BrN", "OC", "C"])
    assert one.tokens == two.tokens == (*SPECIAL_TOKENS, "Br", "C", "N", "O")
    assert len(one) == 7


def test_unknown_token_is_named_with_its_smiles() -> None:
    tokenizer = SmilesTokenizer.from_smiles(["CCO"])
    with pytest.raises(UnknownTokenError) as caught:
        tokenizer.encode("CC[Pt]O")
    assert "'[Pt]'" in str(caught.value)
    assert "'CC[Pt]O'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_text_cannot_name_special_tokens(special: str) -> None:
    every_character = SmilesTokenizer.from_smiles(["CO<>abdeoprs"])
    ids = every_character.encode(f"C{special}O")
    assert len(ids) == len(special) + 3
    assert not set(ids[:-1]) & {PAD, BOS, EOS}
    with pytest.raises(UnknownTokenError, match="'<'"):
        SmilesTokenizer((*SPECIAL_TOKENS, "C", "O")).encode(f"C{special}O")


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        (("C", "N", "O"), "must begin with"),
        (("<bos>", "<pad>", "<eos>", "C"), "must begin with"),
        ((), "must begin with"),
        ((*SPECIAL_TOKENS, "C", "C"), "each token once"),
        ((*SPECIAL_TOKENS, "<eos>"), "each token once"),
    ],
)
def test_malformed_vocabulary(tokens: tuple[str, ...], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SmilesTokenizer(tokens)
