"""SMILES to token ids and back."""

import re
from collections.abc import Iterable, Sequence
from typing import final

from allmodes.errors import InputError, UnknownTokenError

PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")

# A bracket atom, a two-letter halogen or a two-digit ring closure is one token; the rest are characters.
_TOKEN = re.compile(r"\[[^\[\]]*\]|Br|Cl|%\d{2}|.", re.DOTALL)


def split_smiles(smiles: str) -> list[str]:
    """Split a SMILES into tokens; joining them gives the SMILES back."""
    return _TOKEN.findall(smiles)


@final
class SmilesTokenizer:
    """A fixed vocabulary. Ids 0, 1 and 2 are padding, begin and end of sequence."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """`tokens`: the whole vocabulary in id order, the three special tokens first."""
        if tuple(tokens[:3]) != SPECIAL_TOKENS:
            raise InputError(f"a vocabulary must begin with {SPECIAL_TOKENS}; got {tuple(tokens[:3])}")
        if len(set(tokens)) != len(tokens):
            raise InputError("a vocabulary must hold each token once")
        self.tokens = tuple(tokens)
        self._ids = {token: index for index, token in enumerate(self.tokens)}

    @classmethod
    def from_smiles(cls, smiles: Iterable[str]) -> "SmilesTokenizer":
        """The smallest vocabulary that holds every given SMILES, in sorted order."""
        found = {token for line in smiles for token in split_smiles(line)}
        return cls((*SPECIAL_TOKENS, *sorted(found)))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, smiles: str) -> list[int]:
        """Token ids of a SMILES, EOS included. Raises `UnknownTokenError` that names the token."""
        ids = []
        for token in split_smiles(smiles):
            if token not in self._ids:
                raise UnknownTokenError(
                    f"unknown token {token!r} in SMILES {smiles!r}: expected one of the "
                    f"{len(self) - 3} tokens that the policy was trained on"
                )
            ids.append(self._ids[token])
        return [*ids, EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The SMILES up to the first EOS; padding and BOS are skipped."""
        tokens = []
        for index in ids:
            if index == EOS:
                break
            if index not in (PAD, BOS):
                tokens.append(self.tokens[index])
        return "".join(tokens)
