"""``AutoTTS-Live-v0``: test-time scaling on a running model."""

from __future__ import annotations

import os
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

import numpy as np

from autotts_gym.answers.grading import gold_answer
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.question_files import read_questions
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv, Observation
from autotts_gym.gym_envs.env_config import CommonEnvOptions
from autotts_gym.gym_envs.live_config import LiveEnvConfig, compile_episodes
from autotts_gym.gym_envs.live_questions import choose_question
from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.server_apis import Api
from autotts_gym.live.connection import connect
from autotts_gym.live.live_branch import BranchEnd, BranchText
from autotts_gym.live.live_branches import DeadlinePassedError, LiveBranches
from autotts_gym.live.live_model import LiveModel
from autotts_gym.mdp import actions
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import EpisodeStart
from autotts_gym.utils.keywords import suggest_keywords

if TYPE_CHECKING:
    from autotts_gym.gym_envs.rendering import Scene


#: What ``info`` has besides that of ``AutoTTS-v0``, until an episode ends.
_INITIAL_INFO: Final = {
    "question": np.int64(-1),
    "generated_tokens": np.int64(0),
    "probe_tokens": np.int64(0),
    "wall_seconds": np.float64(0),
}


class LiveError(EngineError):
    """The model failed during an episode.

    Attributes:
        info: the ``info`` of the episode so far, as at its end, with its strings. The answer is the
            plurality of the active branches' latest answers, and ``votes`` has all of these answers
            with their counts.
    """

    def __init__(self, message: str, info: dict[str, Any]) -> None:
        super().__init__(message)
        self.info = info


class DeadlineError(LiveError):
    """An episode has reached its deadline; the model works."""


class AutoTTSLiveEnv(AutoTTSEnv):
    """Test-time scaling on a running model: ``AutoTTS-v0`` with real generation.

    ## Description
    The rules are those of :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`: spaces, masks,
    costs and the reward are the same, so controllers play unchanged. `BRANCH` and `CONTINUE(i)`
    request generation and return immediately; `PROBE(i)` waits for it and for the answer;
    `PRUNE(i)` and the end of the episode abort generation.

    ## Action Space, Observation Space
    As in ``AutoTTS-v0``; probes have confidences. The depth limit is ``max_tokens / interval``.

    ## Rewards
    As in ``AutoTTS-v0``. C is ``max_branches`` times the expected tokens of a branch: those of the
    ``reference`` environment, or ``mean_tokens``, or ``max_tokens`` if neither is given. L is that
    of the ``reference`` environment, or ``max_tokens``. Without a gold answer, the accuracy reward
    is 0.

    ## Starting State
    ``reset(options={"question": ..., "gold": ...})`` asks a question, given as text, as an
    ``AskedQuestion`` (which may have the messages before it), or as row or id of one of
    ``questions``; without it, one of those is drawn. ``gold`` is optional. ``beta``
    and ``latency_weight`` as in ``AutoTTS-v0``. There is no ``branch_order``: branches are sampled
    when they are opened, with their own seeds if ``reset`` gets a seed.

    ## Episode End
    As in ``AutoTTS-v0``. If the model fails permanently, ``step`` raises :class:`LiveError`, whose
    ``info`` has the results so far, and the episode is over.

    ## Information
    As in ``AutoTTS-v0``; ``question`` is −1 for a question that is not one of ``questions``. A
    pruned branch is billed as requested. There are three more keys, 0 until the episode ends:
    ``generated_tokens`` (tokens that branches actually generated), ``probe_tokens`` (tokens that
    probes generated) and ``wall_seconds``.

    ## Arguments
    * ``base_url``: address of an OpenAI-compatible vLLM server, such as
      ``http://127.0.0.1:8000/v1``, or of several servers of the same model; or ``model``: folder or
      name of a model that vLLM runs in this process; or ``live``: a
      :class:`~autotts_gym.live.live_model.LiveModel`, which the environment does not close.
    * ``model``, with ``base_url``: the model's name on the server; by default the only one that it
      serves.
    * ``protocol``: a name or a file, see :mod:`autotts_gym.inference.protocol`; by default that of
      the reference, or the one that matches the model's name.
    * ``reference``: a collected environment. Its card provides what is not given: protocol,
      ``interval``, ``max_tokens``, ``sampling``, and C. With ``live``, the model has these already.
    * ``interval``, ``max_tokens``: Δ and the maximum length of a branch, tokens.
    * ``sampling``: a mapping with ``temperature``, ``top_p`` and ``top_k``.
    * ``mean_tokens``: expected tokens of a branch.
    * ``questions``: questions that ``reset`` draws from: a file as for ``autotts collect``, or a
      list of :class:`~autotts_gym.collection.asked_question.AskedQuestion`.
    * ``api``: ``"tokens"`` for vLLM's server; ``"completions"``, ``"chat"`` or ``"whole-chat"`` for
      other servers, see :func:`autotts_gym.live.connection.connect`.
    * ``api_key``, ``headers`` (of every request), ``patience`` (seconds without a sign of life
      after which a request fails), ``engine`` (further arguments of the engine).
    * ``generation_confidence``: ask the model for the log-probabilities of its likeliest tokens.
    * ``deadline``: seconds after ``reset`` at which ``step`` raises :class:`DeadlineError`, unless
      the action answers.
    * All other arguments are those of ``AutoTTS-v0``, except ``env``.

    ## Version History
    * v0: first version.
    """

    @suggest_keywords(CommonEnvOptions)
    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        model: str | os.PathLike[str] | None = None,
        *,
        live: LiveModel | None = None,
        protocol: str | os.PathLike[str] | None = None,
        reference: str | os.PathLike[str] | None = None,
        interval: int | None = None,
        max_tokens: int | None = None,
        sampling: Mapping[str, Any] | None = None,
        mean_tokens: float | None = None,
        questions: str | os.PathLike[str] | Sequence[AskedQuestion] = (),
        api: Api = "tokens",
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 120.0,
        engine: Mapping[str, Any] | None = None,
        generation_confidence: bool = True,
        deadline: float | None = None,
        render_mode: Literal["human", "rgb_array", "ansi"] | None = None,
        **options: Unpack[CommonEnvOptions],
    ) -> None:
        if deadline is not None and not deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, got {deadline!r}")
        self._deadline = deadline
        self._owns_model = live is None
        if live is None:
            live = connect(
                base_url,
                model,
                protocol=protocol,
                reference=reference,
                interval=interval,
                max_tokens=max_tokens,
                sampling=sampling,
                api=api,
                api_key=api_key,
                headers=headers,
                patience=patience,
                engine=engine,
                generation_confidence=generation_confidence,
            )
        self.live = live
        self._branches: LiveBranches | None = None
        self._window: Any = None
        try:
            if isinstance(questions, str | os.PathLike):
                questions = read_questions(questions)
            self._questions = list(questions)
            config = LiveEnvConfig(live, mean_tokens, **options)
            self._set_up(config, render_mode)
            compile_episodes()
        except BaseException:
            self.close()
            raise
        self._traces = config.live_traces
        self._episode_start = EpisodeStart(0, 0.0, np.arange(self.max_branches))
        self._played = array("q")  # actions of this episode
        self._start_time = 0.0
        self._question_row = -1
        self._question_text = ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see "Starting State".

        Raises:
            ValueError: an option is unknown or invalid, or there is no question to ask.
            EngineError: the model cannot be reached, or the question is too long for it.
            DeadlinePassedError: the deadline passes before the model has the question.
        """
        options = dict(options or {})
        self._close_branches()
        self._start_time = time.monotonic()
        if seed is not None:
            super(AutoTTSEnv, self).reset(seed=seed)
        if "branch_order" in options:
            raise ValueError("options['branch_order']: a live episode has no recorded branches")
        self._question_row, question = choose_question(
            self._questions,
            options.pop("question", None),
            options.pop("gold", None),
            self.np_random,
        )
        self._question_text = question.text
        self._traces.start_question(gold_answer(question.gold) or None, question.equality)
        branch_seed = None if seed is None else int(self.np_random.integers(2**62))
        order = np.arange(self.max_branches)  # branch i is recorded in row i
        result = super().reset(options={**options, "branch_order": order})
        self._episode_start = EpisodeStart(0, self.beta, order, self.latency_weight)
        self._played = array("q")
        end = None if self._deadline is None else self._start_time + self._deadline
        self._branches = LiveBranches(self.live, question, branch_seed, self.max_branches, end)
        return result

    def _play(self, action: int) -> None:
        """Request or await what the action needs from the model, then apply the rules."""
        legal = bool(self._batch.view.mask[0, action])
        answers = action < 1 or action >= 2 + 3 * self.max_branches
        assert self._branches is not None
        try:
            if not answers:
                self._branches.check_deadline()
            if legal:
                self._run_on_model(action)
            if (legal and answers) or len(self._played) + 1 >= self._ledger["step_limit"]:
                self._record_unrevealed_ends()
        except DeadlinePassedError as error:
            raise DeadlineError(f"the deadline of {self._deadline:g} s", self.stop()) from error
        except EngineError as error:
            message = f"the model failed during an episode: {error}"
            raise LiveError(message, self.stop()) from error
        self._played.append(action)
        super()._play(action)

    def _run_on_model(self, action: int) -> None:
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
                self._probe(i, depth + 1)
        elif name == "PROBE":
            self._probe(i, depth)
        elif name == "PRUNE":
            self._branches.abort(i)

    def _probe(self, i: int, depth: int) -> None:
        """Probe branch ``i`` on the model and record the result, which the rules then reveal."""
        assert self._branches is not None
        result = self._branches.probe(i)
        if (confidence := self._branches.generation_confidence(i)) is not None:
            self._traces.record_confidences(i, *confidence)
        if isinstance(result, BranchEnd):
            self._traces.record_end(i, result.length, result.tokens, result.final, result.null)
            # Costs so far depend on the true length of the branch.
            self._batch.rewind(self._episode_start, self._played)
        else:
            self._traces.record_probe(i, depth, result)

    def _record_unrevealed_ends(self) -> None:
        """Record branches that ended without a probe, so that they are billed for their length."""
        assert self._branches is not None
        unrevealed = {
            i: end
            for i, end in self._branches.known_ends().items()
            if not self._batch.branches["finished"][0, i]
        }
        for i, (length, tokens) in unrevealed.items():
            self._traces.record_end(i, length, tokens, "", null=True)
        if unrevealed:
            self._batch.rewind(self._episode_start, self._played)

    def _episode_info(self) -> dict[str, Any]:
        if not self._ledger["ended"]:
            return super()._episode_info() | _INITIAL_INFO
        assert self._branches is not None
        seconds = time.monotonic() - self._start_time
        self._branches.close()
        return super()._episode_info() | {
            "question": np.int64(self._question_row),
            "generated_tokens": np.int64(self._branches.generated_tokens),
            "probe_tokens": np.int64(self._branches.probe_tokens),
            "wall_seconds": np.float64(seconds),
        }

    def stop(self) -> dict[str, Any]:
        """End the running episode and abort all generation.

        Returns:
            The ``info`` of the episode so far, as that of :class:`LiveError`.
        """
        self._running = False
        return self._partial_result()  # closes the branches

    def cancel(self) -> None:
        """Abort all generation, without waiting; the next action raises :class:`LiveError`.

        It may be called from any thread.
        """
        if (branches := self._branches) is not None:
            branches.cancel()

    @property
    def is_running(self) -> bool:
        """Whether an episode is running."""
        return self._branches is not None and self._running

    def _partial_result(self) -> dict[str, Any]:
        """Final ``info`` of an episode that ends without an answer: the plurality is taken."""
        votes = self._class_votes()
        self._ledger["answer"] = max(votes, key=votes.__getitem__, default=-1)
        self._ledger["ended"] = 1
        self._batch.conclude([0])
        return self._episode_info() | self._batch.texts(0) | {"votes": self.votes}

    @property
    def votes(self) -> dict[str, int]:
        """Latest answers of active branches with their counts, by first appearance."""
        votes: dict[str, int] = {}
        # Classes can have the same text: a null answer, and a real one that is called ``No``.
        for answer, count in self._class_votes().items():
            text = self.answer_text(answer)
            votes[text] = votes.get(text, 0) + count
        return votes

    def _class_votes(self) -> dict[int, int]:
        """Votes by class of answer, by first appearance."""
        opened = self._batch.branches[0, : self.opened]
        voting = opened[(opened["status"] == s.ACTIVE) & (opened["latest"] >= 0)]
        return dict(Counter(voting["latest"].tolist()))

    @property
    def answering_branch(self) -> int | None:
        """The branch that the answer comes from; None if there is no branch.

        Of several with the same answer, one that has ended, and the first of these. Without an
        answer, the branches of the episode are compared in the same way.
        """
        if self._played:
            name, i = actions.decode(self._played[-1], self.max_branches)
            if name == "ANSWER" and i is not None:
                return i
        opened = self._batch.branches[0, : self.opened]
        gives = (opened["status"] == s.ACTIVE) & (opened["latest"] == self._ledger["answer"])
        fitting = np.flatnonzero(gives if gives.any() else opened["status"] >= 0)
        return min(fitting.tolist(), key=lambda i: not opened["finished"][i], default=None)

    def branch_text(self, i: int) -> BranchText:
        """Text of branch ``i`` of the last episode up to its last probe."""
        assert self._branches is not None
        return self._branches.text(i)

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt."""
        return 0 if self._branches is None else self._branches.prompt_tokens

    @property
    def opened(self) -> int:
        """Number of branches opened so far."""
        return int(self._ledger["opened"])

    @property
    def generated(self) -> int:
        """Tokens that branches actually generated so far."""
        return 0 if self._branches is None else self._branches.generated_tokens

    def scene(self) -> Scene:
        return replace(super().scene(), title=self._question_text)

    def close(self) -> None:
        """Abort all generation, and close the model if this environment connected to it."""
        self._close_branches()
        if self._owns_model:
            self.live.close()
        super().close()

    def _close_branches(self) -> None:
        if self._branches is not None:
            self._branches.close()
            self._branches = None
