"""``autotts new``: the templates run as is, compiled where possible."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.cli import main
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.scaffold import Template, source, write
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry

ROOT = Path(__file__).parents[2]
(STORE,) = registry.open_stores("tinylm/medium/chain").values()


def play(
    path: Path,
    beta: float,
    count: int,
    *,
    interpret: bool = False,
    terms: EpisodeConfig | None = None,
) -> tuple[str, EpisodeResults]:
    """Play the first questions of the bundled environment; also return how they were run."""
    terms = terms or EpisodeConfig()
    rollout = Rollout(load(str(path)), STORE, terms, interpret=interpret)
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(128)[: terms.max_branches] for _ in range(count)])
    return rollout.path, rollout.play(np.arange(count), orders, beta)


@pytest.mark.parametrize("template", list(Template))
def test_plays_well_and_spends_more_with_beta(template: Template, tmp_path: Path) -> None:
    path = write(str(tmp_path / "mine"), template)
    betas = [0.0] if template is Template.without_beta else [0.0, 0.5, 1.0]
    tokens = []
    for beta in betas:
        ran, played = play(path, beta, 60)
        assert ran == ("python" if template is Template.published else "compiled")
        assert played.failures == {}
        assert played.correct.mean() > 0.75  # a single branch: 0.65
        tokens.append(played.tokens.mean())
    assert sorted(set(tokens)) == tokens
    assert load(str(path)).takes_beta == (len(betas) > 1)


@pytest.mark.parametrize("budget", [None, 3, 1_920])
@pytest.mark.parametrize("template", [Template.with_beta, Template.without_beta])
def test_plays_the_same_as_plain_python(
    template: Template, budget: int | None, tmp_path: Path
) -> None:
    path = write(str(tmp_path / "mine"), template)
    terms = EpisodeConfig(budget=budget)
    _, compiled = play(path, 0.5, 5, terms=terms)
    ran, plain = play(path, 0.5, 5, terms=terms, interpret=True)
    assert ran == "python"
    assert compiled.failures == plain.failures == {}
    assert compiled.answers == plain.answers
    for column in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
        assert np.array_equal(getattr(compiled, column), getattr(plain, column))


def test_published_survives_a_budget_and_few_branches(tmp_path: Path) -> None:
    path = write(str(tmp_path / "mine"), Template.published)
    _, played = play(path, 1.0, 5, terms=EpisodeConfig(max_branches=2))
    assert played.failures == {}
    assert (played.tokens > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("template", list(Template))
def test_templates_pass_ruff(template: Template, tmp_path: Path) -> None:
    path = write(str(tmp_path / "mine"), template)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("template", list(Template))
def test_templates_contain_the_name_of_the_controller(template: Template) -> None:
    text = source(template, "mine")
    assert text.startswith('"""mine: ')
    assert "autotts play mine.py" in text
    assert "my_controller" not in text


def test_templates_list_the_methods_of_the_episode() -> None:
    """The docstrings name all methods of the episode, and no others."""
    public = {name for name in vars(Episode) if not name.startswith("_")} | {"max_branches"}
    for template in (Template.with_beta, Template.without_beta):
        comment = source(template, "mine").split('"""')[1]
        named = set(re.findall(r"\b(\w+)\(", comment)) | set(re.findall(r"episode\.(\w+)", comment))
        assert named - public == {"solve"}
        listed = {name for name in public if re.search(rf"\b{name}\b", comment)}
        assert public - listed == {"note"}  # shown in the code below


# --- the command ---------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0, *capsys.readouterr()


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    code, out, _ = run(capsys, "new", "first")
    assert code == 0
    assert (
        out == "wrote first.py; to try it:\n  autotts play first.py\n  autotts benchmark first.py\n"
    )
    assert (tmp_path / "first.py").read_text("utf-8") == source(Template.with_beta, "first")
    assert run(capsys, "new", "mine/second.py", "--without-beta")[0] == 0
    text = (tmp_path / "mine" / "second.py").read_text("utf-8")
    assert text == source(Template.without_beta, "second")
    assert run(capsys, "new", tmp_path / "mine" / "third", "--published")[0] == 0
    text = (tmp_path / "mine" / "third.py").read_text("utf-8")
    assert text == source(Template.published, "third")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["taken"], "taken.py: exists already, and is not overwritten"),
        (["my-agent"], "invalid controller name 'my-agent': use letters"),
        (["1st"], "invalid controller name '1st'"),
        (["class"], "invalid controller name 'class'"),
        ([""], "invalid controller name ''"),
        ([".py"], "invalid controller name ''"),
        (["a.b.py"], "invalid controller name 'a.b'"),
        (["nowhere/mine"], "nowhere: there is no such folder"),
        (["taken.py/mine"], "taken.py: there is no such folder"),
        (["mine", "--published", "--without-beta"], "give --without-beta or --published, not both"),
    ],
)
def test_errors(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.py").write_text("mine", "utf-8")
    code, out, err = run(capsys, "new", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"autotts: {message}")
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken.py"]
    assert (tmp_path / "taken.py").read_text("utf-8") == "mine"
