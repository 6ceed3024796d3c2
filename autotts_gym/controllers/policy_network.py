"""Policies over decisions: networks that do not care in which order branches stand.

A :class:`Policy` reads each branch with the same small network, pools what it reads over branches
(mean and maximum), and decides from that and from the episode's own figures. Permuting branches
permutes nothing else: its logits stay as they are. What a right answer is worth is among the
figures, so one policy serves every β.

A trained policy is a folder: weights as safetensors, which hold numbers and nothing to execute,
and a card, which says what the weights belong to and how they were made.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load as loads
from safetensors.torch import save as dumps
from torch import Tensor, nn

from autotts_gym.mdp import actions as a
from autotts_gym.mdp import macro_actions as d
from autotts_gym.utils.files import write_bytes

WEIGHTS: Final = "policy.safetensors"
CARD: Final = "card.yaml"

#: Logit of what cannot be done.
IMPOSSIBLE: Final = -1e9

_ATOMIC: Final = ("ANSWER", "BRANCH", "CONTINUE(i)", "PROBE(i)", "PRUNE(i)", "ANSWER(i)")
_PER_BRANCH: Final = 4  # blocks of actions, see autotts_gym.mdp.actions
_RARE: Final = -4.0  # logit
#: Logits that differ by less belong to branches that are alike, of which the first is taken: what
#: is between them is rounding, which depends on how many episodes are played at once.
_ALIKE: Final = 1e-4

Network = Literal["equivariant", "mlp"]


class PolicyError(ValueError):
    """A trained policy that cannot be loaded; the message says why."""


def layout(shape: Shape) -> dict[str, Any]:
    """What a policy was trained to see and to do: one of another layout must not be played."""
    return {
        "actions": list(_ATOMIC if shape.atomic else d.NAMES),
        "branch_features": list(d.BRANCH_FEATURES),
        "features": list(d.FEATURES),
    }


@dataclass(frozen=True)
class Shape:
    """Sizes of a policy's networks.

    Attributes:
        network: ``"equivariant"``, or ``"mlp"``, which reads the observation as one long vector.
        max_branches: N; an equivariant network is the same for every N.
        encoder: units of each of the two layers that read a branch.
        hidden: units of each of the two layers that decide.
        atomic: play single actions of ``AutoTTS-v0`` instead of decisions.
    """

    network: Network = "equivariant"
    max_branches: int = 64
    encoder: int = 32
    hidden: int = 64
    atomic: bool = False


class Trunk(nn.Module):
    """What an observation comes to, as ``hidden`` numbers.

    Args:
        shape: of the network.
        more: columns of branches, and entries, that are read beside those of the observation.
    """

    def __init__(self, shape: Shape, more: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        e, h = shape.encoder, shape.hidden
        self.network = shape.network
        self.max_branches = shape.max_branches
        columns, entries = d.BRANCH_SIZE + more[0], d.SIZE + more[1]
        inputs = shape.max_branches * columns
        if shape.network == "equivariant":
            self.branch = nn.Sequential(
                nn.Linear(columns, e), nn.ReLU(), nn.Linear(e, e), nn.ReLU()
            )
            inputs = 2 * e
        self.decide = nn.Sequential(
            nn.Linear(inputs + entries, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh()
        )

    def forward(self, branches: Tensor, features: Tensor) -> Tensor:
        """What is seen, float32[..., hidden].

        Args:
            branches: float32[..., n, BRANCH_SIZE]; branches that are not open, which are all
                zeros, can be left out at the end.
            features: float32[..., SIZE].
        """
        return self.read(branches, features)[0]

    def read(self, branches: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and what was read of each branch, float32[..., n, encoder]; empty for mlp."""
        if self.network == "mlp":
            padding = (0, 0, 0, self.max_branches - branches.shape[-2])
            each = branches[..., :0]
            read = nn.functional.pad(branches, padding).flatten(-2)
        else:
            opened = (branches[..., :3].sum(-1, keepdim=True) > 0).to(branches.dtype)
            each = self.branch(branches) * opened
            mean = each.sum(-2) / opened.sum(-2).clamp(min=1)
            read = torch.cat([mean, each.amax(-2)], -1)
        return self.decide(torch.cat([read, features], -1)), each


class Pointers(nn.Module):
    """Logits of single actions: for each branch what can be done with it, all alike.

    Args:
        shape: of the network.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.of_branch = nn.Linear(shape.encoder, shape.encoder)
        self.of_all = nn.Linear(shape.hidden, shape.encoder)
        self.each = nn.Linear(shape.encoder, _PER_BRANCH)
        self.whole = nn.Linear(shape.hidden, 2)  # ANSWER and BRANCH

    def forward(self, seen: Tensor, each: Tensor, max_branches: int) -> Tensor:
        """Logits, float32[..., 2 + 4N], from what a :class:`Trunk` has read."""
        joined = torch.relu(self.of_branch(each) + self.of_all(seen).unsqueeze(-2))
        logits = self.each(joined).transpose(-1, -2)
        padded = nn.functional.pad(logits, (0, max_branches - each.shape[-2]))
        return torch.cat([self.whole(seen), padded.flatten(-2)], -1)


class Policy(nn.Module):
    """Logits of decisions, or of single actions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.actor = Trunk(shape)
        self.logits: nn.Linear | Pointers
        if shape.atomic and shape.network == "equivariant":
            self.logits = Pointers(shape)
            initialize(self, self.logits.each, self.logits.whole, gain=0.01)
            # Otherwise an untrained policy gives up branches, and its answer, before it has read.
            with torch.no_grad():
                self.logits.each.bias[[a.PRUNE, a.ANSWER_BRANCH]] = _RARE
                self.logits.whole.bias[a.ANSWER] = _RARE
        else:
            count = a.count(shape.max_branches) if shape.atomic else d.COUNT
            self.logits = nn.Linear(shape.hidden, count)
            initialize(self, self.logits, gain=0.01)

    def act(self, branches: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Logits, float32[..., COUNT] or [..., 2 + 4N]; ``mask`` is bool of the same shape."""
        seen, each = self.actor.read(branches, features)
        if isinstance(self.logits, Pointers):
            logits = self.logits(seen, each, (mask.shape[-1] - 2) // _PER_BRANCH)
        else:
            logits = self.logits(seen)
        return torch.where(mask, logits, IMPOSSIBLE)

    def choose(self, branches: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """The likeliest choices, int64[...]; arguments as for :meth:`act`.

        Of single actions it is the likeliest kind and, of that, the likeliest branch: where many
        branches are alike, none of them is likely by itself.
        """
        logits = self.act(branches, features, mask)
        if not self.shape.atomic:
            return logits.argmax(-1)
        n = (mask.shape[-1] - 2) // _PER_BRANCH
        whole, each = logits[..., :2], logits[..., 2:].reshape(*logits.shape[:-1], _PER_BRANCH, n)
        kind = torch.cat([whole, each.logsumexp(-1)], -1).argmax(-1)
        block = (kind - 2).clamp(min=0)
        best = each >= each.amax(-1, keepdim=True) - _ALIKE
        chosen = best.byte().argmax(-1).gather(-1, block.unsqueeze(-1)).squeeze(-1)
        return torch.where(kind < 2, kind, 2 + block * n + chosen)


def initialize(network: nn.Module, *last: nn.Linear, gain: float) -> None:
    """Orthogonal weights; those of the last layers as large as ``gain``."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2))
            nn.init.zeros_(module.bias)
    for module in last:
        nn.init.orthogonal_(module.weight, gain)


def save(policy: Policy, folder: Path, card: dict[str, Any]) -> None:
    """Write a policy and its card; each file is replaced at once."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = asdict(policy.shape)
    facts = {"shape": shape, "layout": layout(policy.shape), **card}
    weights = dumps(policy.state_dict())
    for name, content in ((WEIGHTS, weights), (CARD, _dump(facts).encode())):
        write_bytes(folder / name, content)


def _dump(card: dict[str, Any]) -> str:
    return yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100)


def load(folder: Path) -> tuple[Policy, dict[str, Any]]:
    """A trained policy and its card.

    Raises:
        PolicyError: it cannot be read, or is for another layout; the message says which.
    """
    try:
        return parse((folder / WEIGHTS).read_bytes(), (folder / CARD).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{folder} holds no trained policy: {error}") from error
    except PolicyError as error:
        raise PolicyError(f"{folder}: {error}") from error


def parse(weights: bytes, text: str) -> tuple[Policy, dict[str, Any]]:
    """The same from what the two files hold."""
    try:
        card: dict[str, Any] = yaml.safe_load(text)
        shape, theirs = Shape(**card["shape"]), dict(card["layout"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"{CARD} is no card of a policy: {error}") from error
    for part, names in layout(shape).items():
        if theirs.get(part) != names:
            raise PolicyError(
                f"it was trained for other {part.replace('_', ' ')}: {theirs.get(part)}; "
                f"here they are {names}"
            )
    policy = Policy(shape)
    try:
        policy.load_state_dict(loads(weights))
    except (SafetensorError, RuntimeError) as error:
        raise PolicyError(f"{WEIGHTS} does not hold its weights: {error}") from error
    return policy.eval(), card
