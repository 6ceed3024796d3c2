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

from autotts_gym.mdp import decisions as d

WEIGHTS: Final = "policy.safetensors"
CARD: Final = "card.yaml"

#: Logit of what cannot be done.
IMPOSSIBLE: Final = -1e9

Network = Literal["equivariant", "mlp"]


class PolicyError(ValueError):
    """A trained policy that cannot be loaded; the message says why."""


def layout() -> dict[str, Any]:
    """What a policy was trained to see and to do: one of another layout must not be played."""
    return {
        "actions": list(d.NAMES),
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
    """

    network: Network = "equivariant"
    max_branches: int = 64
    encoder: int = 32
    hidden: int = 64


class Trunk(nn.Module):
    """What an observation comes to, as ``hidden`` numbers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        e, h = shape.encoder, shape.hidden
        self.network = shape.network
        self.max_branches = shape.max_branches
        inputs = shape.max_branches * d.BRANCH_SIZE
        if shape.network == "equivariant":
            self.branch = nn.Sequential(
                nn.Linear(d.BRANCH_SIZE, e), nn.ReLU(), nn.Linear(e, e), nn.ReLU()
            )
            inputs = 2 * e
        self.decide = nn.Sequential(
            nn.Linear(inputs + d.SIZE, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh()
        )

    def forward(self, branches: Tensor, features: Tensor) -> Tensor:
        """What is seen, float32[..., hidden].

        Args:
            branches: float32[..., n, BRANCH_SIZE]; branches that are not open, which are all
                zeros, can be left out at the end.
            features: float32[..., SIZE].
        """
        if self.network == "mlp":
            padding = (0, 0, 0, self.max_branches - branches.shape[-2])
            read = nn.functional.pad(branches, padding).flatten(-2)
        else:
            opened = (branches[..., :3].sum(-1, keepdim=True) > 0).to(branches.dtype)
            each = self.branch(branches) * opened
            mean = each.sum(-2) / opened.sum(-2).clamp(min=1)
            read = torch.cat([mean, each.amax(-2)], -1)
        found: Tensor = self.decide(torch.cat([read, features], -1))
        return found


class Policy(nn.Module):
    """Logits of decisions, and the value of a state, from trunks of their own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.actor, self.critic = Trunk(shape), Trunk(shape)
        self.logits, self.value = nn.Linear(shape.hidden, d.COUNT), nn.Linear(shape.hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, math.sqrt(2))
                nn.init.zeros_(module.bias)
        nn.init.orthogonal_(self.logits.weight, 0.01)
        nn.init.orthogonal_(self.value.weight, 1.0)

    def act(self, branches: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Logits, float32[..., COUNT]; ``mask`` is bool[..., COUNT]."""
        logits = self.logits(self.actor(branches, features))
        return torch.where(mask, logits, IMPOSSIBLE)

    def judge(self, branches: Tensor, features: Tensor) -> Tensor:
        """Values, float32[...]."""
        found: Tensor = self.value(self.critic(branches, features)).squeeze(-1)
        return found


def save(policy: Policy, folder: Path, card: dict[str, Any]) -> None:
    """Write a policy and its card; each file is replaced at once."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = asdict(policy.shape)
    facts = {"shape": shape, "layout": layout(), **card}
    weights = dumps(policy.state_dict())
    for name, content in ((WEIGHTS, weights), (CARD, _dump(facts).encode())):
        draft = folder / f".{name}.part"
        draft.write_bytes(content)
        draft.replace(folder / name)


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
    for part, names in layout().items():
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
