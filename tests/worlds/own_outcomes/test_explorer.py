"""The explorer in a real browser: its numbers are those of `allmodes target`, and nothing breaks it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from allmodes.cli.samples import SAMPLES
from allmodes.methods import METHODS
from allmodes.targets import mara_beta_bound
from allmodes.worlds.own_outcomes.explorer.page import explorer_page
from allmodes.worlds.own_outcomes.optima import (
    explain_optimum,
    explain_reference,
    flip_betas,
    ranked,
)
from allmodes.worlds.own_outcomes.table import OutcomeTable, read_outcomes

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

SAMPLE = read_outcomes(SAMPLES / "outcomes.csv")
KLS: tuple[Literal["reverse", "forward"], ...] = ("reverse", "forward")
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
CALL = """([table, choice]) => {
  const numbers = (list) => Float64Array.from(list, (value) => value ?? -Infinity);
  const made = { rewards: numbers(table.rewards), logRef: numbers(table.logRef) };
  made.order = ranked(made);
  const plain = (list) => list && Array.from(list, (value) => (Number.isFinite(value) ? value : null));
  const solved = solveAll(made, data.methods, choice);
  const simple = (found) => ({ ...found, logs: plain(found.logs), ends: plain(found.ends) });
  return { order: [...made.order], reference: simple(solved.reference), optima: solved.optima.map(simple),
    flips: solved.flips, bound: Number.isFinite(solved.bound) ? solved.bound : String(solved.bound) };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests here."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sample."""
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    choice = {"beta": 0.05, "tau": 0.8, "kl": "reverse"}
    path.write_text(
        explorer_page(SAMPLE, name="outcomes.csv", normalise=False, choice=choice), encoding="utf-8"
    )
    return path


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """A new page."""
    yield from opened(browser, file)


@pytest.fixture(scope="module")
def reader(browser: Any, file: Path) -> Iterator[Any]:
    """One page that reads file after file, and is given other outcomes."""
    yield from opened(browser, file)


def opened(browser: Any, file: Path) -> Iterator[Any]:
    """The page as it is after its first picture; an error of its programs or a request fails the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-shown]")
    yield page
    assert page.title() == "allmodes explorer"
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "blob:"))] == []
    page.close()


def shows(page: Any, **wanted: object) -> dict[str, Any]:
    """The choice that is shown, once it has these values."""
    for _ in range(400):
        shown = json.loads(page.evaluate("document.body.dataset.shown"))
        if all(shown[key] == value for key, value in wanted.items()):
            return shown
        page.wait_for_timeout(25)
    raise AssertionError(f"the page never showed {wanted}, but {shown}")


def dropped(page: Any, content: bytes | Path) -> str:
    """Gives the page a file, mine.csv or that of a path; what it says of it."""
    page.evaluate("document.getElementById('file').textContent = ''; fail('')")
    mine = {"name": "mine.csv", "mimeType": "text/csv", "buffer": content}
    page.set_input_files("#input", content if isinstance(content, Path) else mine)
    for _ in range(400):
        said = page.inner_text("#file") or page.inner_text("#error")
        if said:
            return said
        page.wait_for_timeout(25)
    raise AssertionError("the page said nothing of the file")


def kinds(page: Any) -> list[str]:
    return page.eval_on_selector_all("#warnings li", "items => items.map((item) => item.dataset.kind)")


# Numbers


def tables() -> dict[str, OutcomeTable]:
    generator = torch.Generator().manual_seed(7)

    def made(rewards: torch.Tensor, logits: torch.Tensor) -> OutcomeTable:
        logprobs = torch.log_softmax(logits.double(), -1)
        names = tuple(str(i) for i in range(len(rewards)))
        return OutcomeTable(names=names, rewards=rewards.double(), ref_logprobs=logprobs)

    def normal(number: int) -> torch.Tensor:
        return torch.randn(number, generator=generator)

    holes = normal(12).masked_fill(torch.arange(12) % 4 == 0, -torch.inf)
    return {
        "sample": SAMPLE,
        "one": made(torch.tensor([0.5]), torch.zeros(1)),
        "right or wrong": made((normal(30) > 0.5).float(), 3 * normal(30)),
        "outside the support": made((normal(12) * 5).round() / 5 + 2, holes),
        "far apart": made(  # where our own method's limit and its guard both act
            torch.tensor([1, 1, 0.9, 0.8, 0, 0.2]), torch.tensor([0, -5, -6, -7, 1, 2])
        ),
        "negative": made(normal(40), 4 * normal(40)),
    }


@pytest.mark.parametrize("name", tables())
def test_all_numbers_are_those_of_the_command(name: str, reader: Any) -> None:
    """Each optimum of each method to 1e-9, and all that is said of it."""
    table = tables()[name]
    reached = table.rewards[~table.ref_logprobs.isneginf()]
    logs = [value if value > -torch.inf else None for value in table.ref_logprobs.tolist()]
    given = {"rewards": table.rewards.tolist(), "logRef": logs}
    best, middle = float(reached.max()), float(reached.median())
    cases = [(2e-3, best, 0), (2e-3, middle, 1), (0.05, best, 0), (2.0, middle, 0), (2.0, middle, 1)]
    for beta, tau, kl in [(beta, tau, KLS[which]) for beta, tau, which in cases]:
        arguments: Any = {"betas": [beta], "kl": kl, "threshold": tau, "methods": ["all"]}
        found = reader.evaluate(CALL, [given, {"beta": beta, "tau": tau, "kl": kl}])
        wanted = {
            "vanilla" if o.source.is_plain else o.objective: o for o in explain_optimum(table, **arguments)
        }
        known = {optimum["name"]: optimum for optimum in found["optima"] if optimum.get("logs")}
        assert set(known) == set(wanted)
        assert {o["name"] for o in found["optima"]} == {*METHODS} | (
            {"corrected"} if kl == "forward" else set()
        )
        wanted["reference"] = explain_reference(table, threshold=tau, tolerance=0.1)
        known["reference"] = found["reference"]
        for method, optimum in wanted.items():
            got = known[method]
            shares = torch.tensor([0.0 if v is None else v for v in got["logs"]], dtype=torch.float64).exp()
            shares[torch.tensor([v is None for v in got["logs"]])] = 0
            torch.testing.assert_close(
                shares, optimum.logprobs.exp(), rtol=0, atol=1e-9, msg=f"{method} {kl} {beta}"
            )
            assert got["goodModes"] == pytest.approx(optimum.good_modes, abs=1e-7)
            assert got["goodMass"] == pytest.approx(optimum.good_mass, abs=1e-9)
            assert got["topShare"] == pytest.approx(optimum.top_share, abs=1e-9)
            assert got["isMultimodal"] == optimum.is_multimodal
            assert got["ends"][-1] == pytest.approx(1, abs=1e-9)
        assert found["order"] == ranked(table)
        flips = [(flip["better"], flip["likelier"], flip["beta"]) for flip in found["flips"]]
        assert flips == [
            (flip.better, flip.likelier, pytest.approx(flip.beta))
            for flip in flip_betas(table, threshold=tau)
        ]
        bound = float(mara_beta_bound(table.ref_logprobs, table.rewards, threshold=tau))
        assert float(str(found["bound"]).replace("Infinity", "inf")) == pytest.approx(bound)


def test_a_method_without_a_formula_here_is_named(browser: Any, toy_method: type, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    choice = {"beta": 0.05, "tau": 0.8, "kl": "reverse"}
    path.write_text(explorer_page(SAMPLE, name="a.csv", normalise=False, choice=choice), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-shown]")
    label = toy_method.label  # type: ignore[attr-defined]
    assert f"{label}: this page does not know the method; allmodes target does" in page.inner_text("#missing")
    page.close()


# What is shown


def test_the_first_picture_says_what_training_keeps(page: Any) -> None:
    assert page.inner_text("h1") == "Plain RL keeps 1.6 of 4 good answers. MARA keeps all."
    rows = page.locator("label.method:visible")
    known = explain_optimum(SAMPLE, betas=[0.05], kl="reverse", threshold=0.8, methods=["all"])
    assert rows.count() == len(known)
    for optimum in known:
        row = page.locator(f"label.method:has(input[value={optimum.source.method.name}])")
        kept, mass = row.locator(".number").all_inner_texts()
        assert kept == f"{optimum.good_modes:.1f} of 4"
        assert mass == f"{100 * optimum.good_mass:.1f}%"
    missing = page.inner_text("#missing")
    assert all(
        m.label in missing for m in METHODS.values() if m.name not in {o.source.method.name for o in known}
    )
    cells = page.locator("#outcomes tbody tr").nth(2).locator("th, td").all_inner_texts()
    assert cells == ["rare proof", "1", "0.04%", "0.4%", "24.9%"]
    color = "getComputedStyle(document.querySelectorAll('#outcomes i')[2]).backgroundColor"
    red, green, blue = (int(METHODS["mara"].color[at : at + 2], 16) for at in (1, 3, 5))
    assert page.evaluate(color) == f"rgb({red}, {green}, {blue})"


def test_keys_change_beta_tau_kl_and_method_and_the_address_keeps_them(page: Any, browser: Any) -> None:
    page.focus("#beta")
    page.keyboard.press("ArrowLeft")
    beta = shows(page, kl="reverse")["beta"]
    for _ in range(400):
        if beta < 0.05:
            break
        beta = shows(page)["beta"]
    assert 0.04 < beta < 0.05
    page.focus("#tau-number")
    page.fill("#tau-number", "1")
    page.focus("[name=kl]:checked")
    page.keyboard.press("ArrowDown")
    shows(page, kl="forward")  # which methods can be chosen depends on it
    page.focus("[name=method]:checked")
    page.keyboard.press("ArrowDown")
    shows(page, tau=1, kl="forward", method="corrected")
    page.fill("#group", "4")
    assert page.inner_text("#command") == (
        f"allmodes target outcomes.csv --beta {beta} --kl forward --threshold 1 --method vanilla mara"
    )
    page.check("[name=method][value=ips]")
    page.check("[name=kl][value=reverse]")
    shows(page, method="ips", kl="reverse")
    assert "transform=IPS()" in page.inner_text("#trl")
    assert "outcome_key=answer" in page.inner_text("#trl")
    assert "num_generations=4" in page.inner_text("#trl")
    assert f"kl_coef={beta}" in page.inner_text("#verl")
    address = page.evaluate("location.href")
    again = browser.new_page()
    again.goto(address)
    again.wait_for_selector("body[data-shown]")
    assert shows(again) == {"beta": beta, "tau": 1, "kl": "reverse", "method": "ips", "group": 4}
    again.close()


def test_an_address_with_nonsense_changes_nothing(page: Any) -> None:
    before = shows(page)
    page.evaluate("location.hash = 'beta=-1&tau=abc&kl=%3Cb%3E&method=__proto__&group=1e9&x=1'")
    page.wait_for_timeout(100)
    assert shows(page) == before


def test_a_row_reads_out_what_its_bar_shows(page: Any) -> None:
    bar = page.locator("label.method:has(input[value=mara]) canvas")
    assert bar.get_attribute("role") == "img"
    assert "usual answer 24.9%" in bar.get_attribute("aria-label")
    radio = page.get_by_role("radio", name="MARA 4.0 of 4 99.8%", exact=False)
    assert radio.is_checked()
    assert page.get_by_role("slider", name="β, strength of the KL").count() == 1
    assert page.locator("#beta").get_attribute("aria-valuetext") == "0.05"
    bar.hover(position={"x": 20, "y": 8})
    assert page.inner_text("#tip").splitlines() == [
        "usual answer",
        "reward 1",
        "reference 8.0%",
        "MARA 24.9%",
    ]


def test_a_copied_command_is_the_one_that_is_shown(page: Any) -> None:
    page.evaluate("navigator.clipboard.writeText = async (text) => { document.body.dataset.copied = text; }")
    page.click("[data-copies=trl]")
    page.wait_for_selector("body[data-copied]")
    assert page.evaluate("document.body.dataset.copied") == page.inner_text("#trl")


@pytest.mark.parametrize(
    ("changes", "present", "absent"),
    [
        ({}, "collapse rare flip group", "tau bound mass forward lost"),
        ({"tau": 1.01}, "tau", "collapse rare flip bound mass forward group lost"),
        ({"tau": -1}, "tau", "bound"),
        ({"beta": 2}, "bound mass flip", "collapse"),
        ({"beta": 1e-3}, "collapse", "bound flip mass"),
        ({"kl": "forward"}, "forward", "bound flip"),
        ({"method": "vanilla", "tau": 0.95}, "collapse rare", "tau forward bound"),
    ],
)
def test_warnings_follow_the_choice(changes: dict[str, Any], present: str, absent: str, page: Any) -> None:
    page.evaluate("(changes) => choose(changes)", changes)
    shows(page, **changes)
    found = set(kinds(page))
    assert set(present.split()) <= found
    assert not set(absent.split()) & found


def test_small_groups_are_warned_of_in_the_words_of_the_method(page: Any) -> None:
    page.evaluate("choose({ group: 2, method: 'ips' })")
    shows(page, group=2)
    assert METHODS["ips"]().group_warning(2) in page.inner_text("#warnings")
    page.evaluate("choose({ group: 1, method: 'ucpo' })")
    shows(page, group=1)
    assert "UCPO needs at least 2 samples of a prompt." in page.inner_text("#warnings")
    # 11.04% of the reference is good: (1 − 0.1104)¹ of groups of one hold nothing good
    assert "89.0% of groups of 1 samples of the reference contain no good answer" in page.inner_text(
        "#warnings"
    )


def test_an_answer_that_the_reference_never_gives_is_named(page: Any) -> None:
    assert dropped(page, b"outcome,reward,probability\nseen,1,0.5\nwrong,0,0.5\nunseen,2,0\n") == "mine.csv"
    page.locator("#warnings li[data-kind=lost]", has_text="unseen").wait_for()
    assert page.evaluate("choice.tau") == 1


# Files


GOOD = {
    "names in quotes, other columns": b'outcome,reward,probability,x\n"a ""b"", c\nd",1,0.5,\n"",0.5,0.5,1\n',
    "semicolons, a mark, Windows": "\ufeffreward;logprob;outcome\r\n1;-0.5;é\r\n-1e-3; -inf;b\r\n".encode(),
    "tabs, blank lines, no last line end": b"\n\nreward\tref_prob\n1\t0.25\n\n   \n2.5e1\t.75",
    "UTF-16": "outcome,reward,probability\nü,1,1\n".encode("utf-16"),
    "Latin-1": "outcome,reward,probability\nü,1,1\n".encode("latin-1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_is_read_as_the_command_reads_it(kind: str, reader: Any, tmp_path: Path) -> None:
    page = reader
    path = tmp_path / "mine.csv"
    path.write_bytes(GOOD[kind])
    table = read_outcomes(path, normalise=True)
    assert dropped(page, GOOD[kind]) == "mine.csv"
    names, rewards, logs = page.evaluate(
        "[view.table.names, [...view.table.rewards], Array.from(view.table.logRef, Math.exp)]"
    )
    assert (tuple(names), rewards) == (table.names, table.rewards.tolist())
    assert logs == pytest.approx(table.ref_logprobs.exp().tolist(), abs=1e-12)
    is_whole = kind != "semicolons, a mark, Windows"
    shows(page, tau=page.evaluate("choice.tau"))
    assert ("rescaled" in page.inner_text("#size")) is not is_whole


def test_a_file_that_is_dropped_anywhere_is_opened(page: Any) -> None:
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["reward,probability\\n1,0.5\\n0,0.5\\n"], "dropped.csv"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    page.locator("#file", has_text="dropped.csv").wait_for()
    assert page.inner_text("#size") == "2 outcomes"


BAD = {
    "empty": (b"", "got an empty file"),
    "no rows": (b"reward,probability\n", "expected at least one outcome; got none"),
    "no reward": (b"rewards,probability\n1,1\n", 'expected a column reward; got "rewards, probability"'),
    "two references": (b"reward,probability,logprob\n1,1,0\n", "exactly one column of probability"),
    "a column twice": (b"reward,reward,probability\n1,1,1\n", "expected one column reward; got several"),
    "open quote": (b'outcome,reward,probability\na,1,0.5\n"b,1,0.5\n', "line 3: a quoted field is"),
    "text behind a quote": (b'outcome,reward,probability\n"a"b,1,1\n', "line 2: expected"),
    "NaN": (b"reward,probability\nNaN,1\n", 'line 2, column reward: expected a finite number; got "NaN"'),
    "infinite reward": (b"reward,probability\ninf,1\n", "expected a finite number"),
    "no number": (b"reward,probability\n0x10,1\n", "expected a finite number"),
    "missing field": (b"reward,probability\n1\n", "line 2: expected 2 fields; got 1"),
    "negative probability": (b"reward,probability\n1,-0.5\n", "expected a finite number, 0 or above"),
    "log-probability above 0": (b"reward,logprob\n1,0.5\n", "a log-probability of at most 0, or -inf"),
    "all zero": (b"reward,probability\n1,0\n", "at least one outcome with probability above 0"),
    "a name twice": (b"outcome,reward,probability\na,1,1\na,1,1\n", 'outcome: "a" is on line 2'),
    "a million rows": (b"reward,probability\n" + b"1,1\n" * 10**6, "expected at most 100,000 outcomes"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0", "expected a text file (CSV); got a binary one"),
    "hostile": (f'outcome,reward,"{HOSTILE}"\na,1,1\n'.replace('""', '"').encode(), ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_message_and_the_old_outcomes_stay(kind: str, reader: Any, tmp_path: Path) -> None:
    page, (content, words) = reader, BAD[kind]
    before, names = shows(page), page.evaluate("view.table.names")
    path = tmp_path / f"{HOSTILE}.csv"
    path.write_bytes(content)
    said = dropped(page, path)
    assert words in said
    assert "The outcomes from before are still shown." in said
    assert page.evaluate("view.table.names") == names
    assert shows(page) == before
    assert page.locator("#error img").count() == 0
    if kind not in ("a million rows", "a picture"):
        with pytest.raises(Exception, match="expected"):
            read_outcomes(path)


def test_hostile_names_are_text_and_nothing_else_runs(page: Any) -> None:
    quoted = HOSTILE.replace('"', '""')
    content = f'outcome,reward,probability\n"{quoted}",1,0.9\n"</script><b>x",1,0.1\n'.encode()
    assert dropped(page, content) == "mine.csv"
    page.locator("#outcomes tbody th", has_text="onerror").wait_for()
    assert page.locator("main img, main b").count() == 0
    assert HOSTILE[:20] in page.inner_text("#outcomes")
    program = "Object.assign(document.createElement('script'), { text: 'document.title = 1' })"
    page.evaluate(f"document.body.append({program})")  # even a program in the page would not run
    blocked = "() => fetch('https://example.org/').then(() => 'sent', () => 'blocked')"
    assert page.evaluate(blocked) == "blocked"


def test_ten_thousand_outcomes_are_shown_and_turned(page: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(10_000, generator=generator, dtype=torch.float64)
    rows = [f"answer {i},{reward!r},1e-4" for i, reward in enumerate(rewards.tolist())]
    assert dropped(page, "\n".join(["outcome,reward,probability", *rows]).encode()) == "mine.csv"
    best = int(rewards.argmax())
    page.locator("#outcomes tbody th", has_text=f"answer {best}").wait_for(timeout=30_000)
    assert page.inner_text("#page") == "1 to 20 of 10,000, best first"
    page.click("#next")
    assert page.inner_text("#page") == "21 to 40 of 10,000, best first"
    assert page.evaluate("[view.solved.optima.length, view.solved.reference.logs.length]")[1] == 10_000
    kept = page.locator("label.method:has(input[value=mara]) .number").first.inner_text()
    assert kept == "500 of 500"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_narrow_dark_screen_shows_all_of_it(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-shown]")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 23, 26)"
    bar = page.locator("label.method:has(input[value=mara]) canvas").bounding_box()
    assert bar["width"] > 330
    page.close()


def test_without_a_worker_the_page_computes_by_itself(browser: Any, file: Path) -> None:
    page = browser.new_page()
    page.add_init_script("window.Worker = class { constructor() { throw new Error('none'); } };")
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-shown]")
    assert page.inner_text("h1") == "Plain RL keeps 1.6 of 4 good answers. MARA keeps all."
    page.close()
