"""Small policies with known behaviour, and a private PostgreSQL server."""

import math
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from allmodes.chem.policies.policy import Cell, Precision, RecurrentPolicy, save_policy
from allmodes.chem.policies.tokenizer import SPECIAL_TOKENS, SmilesTokenizer

MakePolicy = Callable[..., RecurrentPolicy]

# Any chain of these is a molecule.
CHAIN_TOKENS = ("C", "N", "O", "S")
# Chance of an end after each token; so a sequence has (1 - p) / p = 6 tokens on average before EOS.
END_PROBABILITY = 1 / 7


@pytest.fixture
def make_policy() -> MakePolicy:
    """A policy with seeded weights, `scale` times as large as torch makes them."""

    def make(
        vocabulary_size: int,
        *,
        cell: Cell,
        seed: int,
        num_layers: int = 2,
        hidden_size: int = 8,
        scale: float = 1.0,
        precision: Precision = "float32",
    ) -> RecurrentPolicy:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = RecurrentPolicy(
                vocabulary_size,
                cell=cell,
                hidden_size=hidden_size,
                num_layers=num_layers,
                embedding_size=5,
                precision=precision,
            )
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(scale)
        return policy

    return make


def _chain_prior(path: Path, policy: RecurrentPolicy) -> Path:
    with torch.no_grad():
        policy.head.bias.zero_()
        odds = END_PROBABILITY / (1 - END_PROBABILITY)
        policy.head.bias[0] = math.log(len(CHAIN_TOKENS) * odds)  # the head's first output is EOS
    save_policy(path, policy, SmilesTokenizer((*SPECIAL_TOKENS, *CHAIN_TOKENS)))
    return path


@pytest.fixture
def tiny_prior(tmp_path: Path, make_policy: MakePolicy) -> Path:
    """A GRU over chains of C, N, O and S, about 6 tokens long."""
    policy = make_policy(3 + len(CHAIN_TOKENS), cell="gru", seed=0, num_layers=1, hidden_size=16)
    return _chain_prior(tmp_path / "tiny_gru.safetensors", policy)


@pytest.fixture
def tiny_lstm_prior(tmp_path: Path, make_policy: MakePolicy) -> Path:
    """An LSTM over chains of C, N, O and S, about 6 tokens long."""
    policy = make_policy(3 + len(CHAIN_TOKENS), cell="lstm", seed=0, num_layers=2, hidden_size=16)
    return _chain_prior(tmp_path / "tiny_lstm.safetensors", policy)


# Ends the server and its folder also when the tests are killed: its input ends with them.
_SERVER = """
set -e
folder=$PWD
end() {
    test "$1" = 0 || cat log || true
    "$binaries/pg_ctl" -D data -m immediate -w stop > /dev/null 2>&1 || true
    cd /
    rm -rf "$folder"
}
binaries=$1
trap '' PIPE
trap 'end $?' EXIT
login="-U allmodes -A scram-sha-256 --pwfile=password"
"$binaries/initdb" -D data -E UTF8 --locale=C --no-sync $login > log 2>&1
options="-k $folder -c listen_addresses= -c fsync=off -c shared_buffers=16MB -c max_connections=40"
"$binaries/pg_ctl" -D data -o "$options" -l log -w start >> log 2>&1
echo ready
read -r _ || true
"""


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a private server that ends with the tests; it wants the password that is in the URL.

    It listens at a socket in a new folder, and not to the network.
    """
    binaries = _postgresql_binaries()
    user = _server_user()
    # Not pytest's own folder: that is closed to the server's user, and too deep for the path of a socket.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    (folder / "password").write_text("geheim\n")
    if user is not None:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    with subprocess.Popen(
        ["sh", "-c", _SERVER, "sh", binaries],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        user=user,
        start_new_session=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        first = server.stdout.readline()
        assert first == "ready\n", first + server.stdout.read()
        yield f"postgresql+psycopg://allmodes:geheim@/postgres?host={folder}"
        server.stdin.close()
    assert server.returncode == 0


def _postgresql_binaries() -> Path:
    """The folder of the newest server that is installed; Debian keeps them off the search path."""
    folders = list(Path("/usr/lib/postgresql").glob("*/bin"))
    folders.sort(key=lambda folder: [int(number) for number in re.findall(r"\d+", folder.parent.name)])
    on_path = shutil.which("initdb")
    folders += [] if on_path is None else [Path(on_path).parent]
    servers = [f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()]
    if not servers:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (Debian's package postgresql)")
    return servers[-1]


def _server_user() -> str | None:
    """Whom the server runs as: None for oneself, somebody else for root, whom PostgreSQL refuses."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in known), None)
    if user is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
    return user
