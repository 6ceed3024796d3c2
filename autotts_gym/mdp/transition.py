"""A step of an episode: the transition, its reward, its costs and its outcome.

The return of an episode is ``β · correct − (1 − β) · ((1 − w) · tokens / C + w · sequential tokens
/ L)``, minus the penalties for illegal actions.
"""

from __future__ import annotations

from typing import Final

from autotts_gym.mdp import observation, rules
from autotts_gym.mdp.jit import inlined
from autotts_gym.mdp.observation import GenerationView, View
from autotts_gym.mdp.state import EpisodeState

# Bits of an outcome.
TERMINATED: Final = 1
TRUNCATED: Final = 2
ILLEGAL: Final = 4

# Rows of the costs of a step: what it is charged, and the two parts of it.
COST: Final = 0
TOKENS: Final = 1
LATENCY: Final = 2


@inlined
def play_unobserved(episode: EpisodeState, action: int):
    """Play one action; the caller updates the observation.

    Returns:
        What :func:`play_action` returns, and what ``rules.act`` does.
    """
    ledger = episode.ledger
    spent_before, clock_before = ledger.spent, ledger.clock
    touched = rules.act(episode, action)
    outcome = 0
    reward = 0.0
    if touched == -2:
        outcome = ILLEGAL
        reward -= ledger.invalid_penalty
    spent, clock = ledger.spent, ledger.clock
    if ledger.ended:
        outcome |= TERMINATED
        if rules.is_correct(episode):
            reward += ledger.beta
    elif ledger.steps >= ledger.step_limit:
        ledger.ended = 1
        outcome |= TRUNCATED
    if ledger.ended:
        spent, clock = ledger.true_spent, ledger.true_clock
    tokens = (spent - spent_before) / ledger.full_cost
    latency = (clock - clock_before) / ledger.full_latency
    cost = (1 - ledger.latency_weight) * tokens + ledger.latency_weight * latency
    return reward - (1 - ledger.beta) * cost, cost, tokens, latency, outcome, touched


@inlined
def observe_branch(episode: EpisodeState, view: View, generation: GenerationView, i: int) -> None:
    """Update the observation of branch ``i``, which actions have changed."""
    observation.update_generation(generation, view, episode, i)
    observation.update_branch(view, episode, i)


@inlined
def affordability(episode: EpisodeState):
    """What the budget covers, which decides about actions on all branches."""
    return rules.affords_interval(episode), rules.affords_probe(episode)


@inlined
def observe_masks(view: View, episode: EpisodeState) -> None:
    """Update the legality of the actions on all open branches."""
    for i in range(episode.ledger.opened):
        observation.update_branch_mask(view, episode, i)


@inlined
def play_action(episode: EpisodeState, view: View, generation: GenerationView, action: int):
    """Play one action.

    Returns:
        Its reward, its cost (the mixture of the two parts that follow), the change of tokens as a
        share of C, the change of the clock as a share of L, and the outcome.
    """
    before = affordability(episode)
    reward, cost, tokens, latency, outcome, touched = play_unobserved(episode, action)
    if touched >= 0:
        observe_branch(episode, view, generation, touched)
        if before != affordability(episode):
            observe_masks(view, episode)
        observation.update_globals(view, episode)
    return reward, cost, tokens, latency, outcome
