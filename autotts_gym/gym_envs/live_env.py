"""``AutoTTS-Live-v0``: the process of ``AutoTTS-v0`` on a model that is running."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.question_files import read_questions
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv, Observation
from autotts_gym.gym_envs.live_config import LiveEnvConfig
from autotts_gym.inference.answer_extraction import normalize
from autotts_gym.inference.engine import EngineError
from autotts_gym.live.connection import connect
from autotts_gym.live.live_branches import BranchEnd, LiveBranches
from autotts_gym.live.live_model import LiveModel
from autotts_gym.live.live_traces import LiveTraces
from autotts_gym.mdp import actions
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import EpisodeStart

if TYPE_CHECKING:
    from autotts_gym.gym_envs.rendering import Scene


class LiveError(EngineError):
    """The model failed in the midst of an episode.

    Attributes:
        info: what was there by then, as at the end of an episode: ``answer`` is the plurality of
            what active branches had shown; ``votes`` has all of their answers, with how many.
    """

    def __init__(self, message: str, info: dict[str, Any]) -> None:
        super().__init__(message)
        self.info = info


class AutoTTSLiveEnv(AutoTTSEnv):
    """Test-time scaling on a running model: ``AutoTTS-v0``, and every token is real.

    ## Description
    The process is that of :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`, played by the same rules: spaces,
    masks, both costs and the reward are the same, so that whatever plays there plays here
    unchanged. `BRANCH` and `CONTINUE(i)` submit generation and return at once; `PROBE(i)` waits
    for it, and asks for the answer; `PRUNE(i)` and the end of the episode abort what is under way.

    ## Action Space, Observation Space
    As in ``AutoTTS-v0``; probes have confidences. The depth limit is ``max_tokens / interval``.

    ## Rewards
    As in ``AutoTTS-v0``. C is ``max_branches`` times the expected tokens of a branch: those of the
    ``reference`` environment, or ``mean_tokens``, or (where neither is given) ``max_tokens``.
    Without a gold answer the accuracy reward is 0.

    ## Starting State
    ``reset(options={"question": ..., "gold": ...})`` asks a question, by its text, or by row or id
    where ``questions`` were given; without, one of those is drawn. ``gold`` may be left out.
    ``beta`` as in ``AutoTTS-v0``. There is no ``branch_order``: branches are drawn when they open,
    with seeds of their own where ``reset`` has a seed.

    ## Episode End
    As in ``AutoTTS-v0``. Where the model fails for good, ``step`` raises :class:`LiveError`, which
    holds what was known by then; the episode is over.

    ## Information
    As in ``AutoTTS-v0``; ``correct`` and ``gold`` are None where the gold answer is not known. A
    pruned branch is billed as requested. Beside it the last step tells ``generated_tokens`` (what
    branches really generated), ``probe_tokens`` (what probes generated) and ``wall_seconds``.

    ## Arguments
    * ``base_url``: an OpenAI-compatible server of vLLM, as ``http://127.0.0.1:8000/v1``, or several
      of the same model; or ``model``: the folder or name of a model that vLLM runs in this
      process; or ``live``: a :class:`~autotts_gym.live.live_model.LiveModel`, which stays open.
    * ``model``, with a server: its name there; the only one that is served by default.
    * ``protocol``: a name or a file, see :mod:`autotts_gym.inference.protocol`; that of the
      reference, or the one meant for the model, by default.
    * ``reference``: a collected environment. What is not given is taken from its card: protocol,
      ``interval``, ``max_tokens``, ``sampling``, and C. With ``live``, these are the model's own.
    * ``interval``, ``max_tokens``: Δ and the most tokens of a branch.
    * ``sampling``: temperature, top_p and top_k, as a mapping.
    * ``mean_tokens``: expected tokens of a branch.
    * ``questions``: what ``reset`` draws from, a file as for ``autotts collect`` or a list.
    * ``api_key``, ``patience`` (seconds without a sign of life), ``engine`` (further arguments of
      the engine).
    * All others are those of ``AutoTTS-v0``, but ``env``.

    ## Version History
    * v0: first version.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        model: str | None = None,
        *,
        live: LiveModel | None = None,
        protocol: str | None = None,
        reference: str | None = None,
        interval: int | None = None,
        max_tokens: int | None = None,
        sampling: Mapping[str, Any] | None = None,
        mean_tokens: float | None = None,
        questions: str | Path | Sequence[AskedQuestion] = (),
        api_key: str | None = None,
        patience: float = 120.0,
        engine: Mapping[str, Any] | None = None,
        render_mode: Literal["human", "rgb_array", "ansi"] | None = None,
        **setting: Any,
    ) -> None:
        self._owned = live is None
        if live is None:
            live = connect(
                base_url,
                model,
                protocol=protocol,
                reference=reference,
                interval=interval,
                max_tokens=max_tokens,
                sampling=sampling,
                api_key=api_key,
                patience=patience,
                engine=engine or {},
            )
        self.live = live
        self._branches: LiveBranches | None = None
        self._window: Any = None
        try:
            self._questions = (
                read_questions(questions) if isinstance(questions, str | Path) else list(questions)
            )
            live_config = LiveEnvConfig(live, mean_tokens, setting)
            self._set_up(live_config, render_mode)
        except BaseException:
            self.close()
            raise
        self._replay: LiveTraces = live_config.live_replay
        self._draw = EpisodeStart(0, 0.0, np.arange(self.max_branches))
        self._log: list[int] = []
        self._begun = 0.0
        self._row = -1
        self._asked = ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Ask a question; see "Starting State".

        Raises:
            ValueError: an option is unknown or wrong, or there is no question to ask.
            EngineError: the model cannot be reached.
        """
        options = dict(options or {})
        self._stop()
        if seed is not None:
            super(AutoTTSEnv, self).reset(seed=seed)
        question = self._choose(options)
        self._asked = question.text
        self._replay.forget(normalize(question.gold) or None)
        entropy = None if seed is None else int(self.np_random.integers(2**62))
        opening = np.arange(self.max_branches)  # what branch i learns stands in row i
        found = super().reset(options={**options, "branch_order": opening})
        self._draw = EpisodeStart(0, self.beta, opening)
        self._log = []
        self._branches = LiveBranches(self.live, question.text, entropy, self.max_branches)
        self._begun = time.monotonic()
        return found

    def _choose(self, options: dict[str, Any]) -> AskedQuestion:
        """The question that the options name, taken out of them, or one that is drawn."""
        wanted, gold = options.pop("question", None), options.pop("gold", None)
        if "branch_order" in options:
            raise ValueError("options['branch_order']: a live episode has no recorded branches")
        known = self._questions
        self._row = -1
        if isinstance(wanted, bool) or not isinstance(wanted, str | int | np.integer | None):
            raise ValueError(f"options['question'] must be a text, a row or an id, got {wanted!r}")
        if gold is not None and not isinstance(gold, str):
            raise ValueError(f"options['gold'] must be a string, got {gold!r}")
        if isinstance(wanted, str):
            ids = [question.id for question in known]
            if wanted not in ids:
                if not wanted.strip():
                    raise ValueError("options['question'] is empty")
                return AskedQuestion("live", wanted, gold or "")
            wanted = ids.index(wanted)
        if wanted is None:
            if not known:
                raise ValueError(
                    "there is no question: give options={'question': ...}, or questions= when the "
                    "environment is made"
                )
            wanted = int(self.np_random.integers(len(known)))
        if not 0 <= wanted < len(known):
            raise ValueError(f"options['question'] is {wanted}; there are {len(known)} questions")
        self._row = int(wanted)
        chosen = known[self._row]
        return chosen if gold is None else AskedQuestion(chosen.id, chosen.text, gold)

    def _play(self, action: int) -> None:
        """Have the model do what an action asks for, then let the rules play it."""
        assert self._branches is not None
        legal = bool(self._batch.view.mask[0, action])
        ends = action < 1 or action >= 2 + 3 * self.max_branches
        try:
            if legal:
                self._prepare(action)
            if (legal and ends) or len(self._log) + 1 >= self._ledger["step_limit"]:
                self._settle()
        except EngineError as error:
            self._running = False
            info = self._evidence()
            self._stop()
            raise LiveError(
                f"the model failed in the midst of an episode: {error}", info
            ) from error
        self._log.append(action)
        super()._play(action)

    def _prepare(self, action: int) -> None:
        assert self._branches is not None
        name, i = actions.decode(action, self.max_branches)
        if name == "BRANCH":
            i = self.opened
        if i is None:
            return
        depth = int(self._batch.branches["requested"][0, i])
        if name in ("BRANCH", "CONTINUE"):
            self._branches.extend(i)
            if self.auto_probe:
                self._look(i, depth + 1)
        elif name == "PROBE":
            self._look(i, depth)
        elif name == "PRUNE":
            self._branches.abort(i)

    def scene(self) -> Scene:
        return replace(super().scene(), title=self._asked)

    def _look(self, i: int, depth: int) -> None:
        """Learn what branch ``i`` shows at a depth; the rules reveal it."""
        assert self._branches is not None
        seen = self._branches.probe(i)
        if isinstance(seen, BranchEnd):
            self._replay.end(i, seen.length, seen.tokens, seen.final)
            self._batch.rewind(self._draw, self._log)  # bills until now are by its true length
        else:
            self._replay.show(i, depth, seen)

    def _settle(self) -> None:
        """True bills: branches that have ended unseen are billed for what they have."""
        assert self._branches is not None
        unseen = {
            i: end
            for i, end in self._branches.known_ends().items()
            if not self._batch.branches["finished"][0, i]
        }
        for i, (length, tokens) in unseen.items():
            self._replay.end(i, length, tokens, "")
        if unseen:
            self._batch.rewind(self._draw, self._log)

    def _result(self) -> dict[str, Any]:
        assert self._branches is not None
        seconds = time.monotonic() - self._begun
        self._branches.close()
        return self._batch.result(0) | {
            "question": self._row,
            "generated_tokens": self._branches.generated_tokens,
            "probe_tokens": self._branches.probe_tokens,
            "wall_seconds": seconds,
        }

    @property
    def votes(self) -> dict[str, int]:
        """What active branches showed last, and how many of them, the first met first."""
        found: dict[str, int] = {}
        for i in range(self.opened):
            row = self._batch.branches[0, i]
            if row["status"] == s.ACTIVE and row["latest"] >= 0:
                answer = self.answer_text(int(row["latest"]))
                found[answer] = found.get(answer, 0) + 1
        return found

    @property
    def opened(self) -> int:
        """Branches opened so far."""
        return int(self._ledger["opened"])

    @property
    def generated(self) -> int:
        """Tokens that branches have really generated so far."""
        return 0 if self._branches is None else self._branches.generated_tokens

    def _evidence(self) -> dict[str, Any]:
        """What is known of an episode that is broken off: as its result, for what was seen."""
        votes = self.votes
        best = max(votes, key=votes.__getitem__, default="")
        return self._result() | {
            "answer": best,
            "correct": None if self._replay.gold(0) is None else best == self._replay.gold(0),
            "votes": votes,
        }

    def _stop(self) -> None:
        if self._branches is not None:
            self._branches.close()
            self._branches = None

    def close(self) -> None:
        """Abort what is under way, and let go of a model that this environment has started."""
        self._stop()
        if self._owned:
            self.live.close()
        super().close()
