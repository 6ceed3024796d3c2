"""Policy networks over macro-actions, and the folders that trained policies are saved in.

A :class:`Policy` encodes each branch with the same small network, pools the encodings over branches
(mean and maximum), and computes logits from these and from the global features. The logits of
macro-actions do not depend on the order of branches. β is among the global features, so that one
policy serves every β.

A trained policy is a folder with the weights as safetensors, a format that cannot contain code, and
a card that describes layout and training.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor, nn

from autotts_gym.controllers.branch_pooling import mean_and_maximum
from autotts_gym.mdp import actions, macro_actions, macro_features
from autotts_gym.mdp.macro_features import (
    NUM_ALL_GLOBAL_FEATURES,
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
    STATUS_FEATURES,
    Feature,
)
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_files import read_bytes, read_text
from autotts_gym.utils.files import write_bytes, write_text

WEIGHTS: Final = "policy.safetensors"
CARD: Final = "card.yaml"

BLOCKS: Final = 4  # blocks of actions on branches, see autotts_gym.mdp.actions

#: Logit of an illegal action.
ILLEGAL_LOGIT: Final = -1e9

_SINGLE_ACTIONS: Final = ("ANSWER", "BRANCH", "CONTINUE(i)", "PROBE(i)", "PRUNE(i)", "ANSWER(i)")
_RARE: Final = -4.0  # logit
#: Branches whose logits differ by less are alike, and the first of them is chosen: the difference
#: is rounding, which depends on how many episodes are played at once.
TIE: Final = 1e-4

#: Size of a weights file, bytes, and units of a layer, in a policy that is loaded.
_MAX_WEIGHTS: Final = 1 << 26
_MAX_UNITS: Final = 4096

Network = Literal["equivariant", "mlp"]


class PolicyError(ValueError):
    """A trained policy that cannot be loaded; the message names the reason."""


def _former_names(features: tuple[Feature, ...]) -> list[str]:
    return [feature.former_name for feature in features]


#: Names of the same features in policy files of version 0.1.
_FORMER_LAYOUT: Final = {
    "branch_features": _former_names(macro_features.BRANCH_FEATURES),
    "features": _former_names(macro_features.GLOBAL_FEATURES),
}


def _linear(inputs: int, outputs: int) -> int:
    """Weights and biases of a linear layer."""
    return (inputs + 1) * outputs


@dataclass(frozen=True)
class Shape:
    """Sizes of a policy's networks.

    Attributes:
        network: ``"equivariant"``, or ``"mlp"``, which reads the observation as one long vector.
        max_branches: N. An equivariant network has the same weights for every N.
        encoder: units of each of the two layers that encode a branch.
        hidden: units of each of the two layers behind the pooling.
        atomic: choose single actions of ``AutoTTS-v0`` instead of macro-actions.
        latency: read w and clock / L beside the other global features.
    """

    network: Network = "equivariant"
    max_branches: int = 64
    encoder: int = 32
    hidden: int = 64
    atomic: bool = False
    latency: bool = False

    @property
    def num_global_features(self) -> int:
        """Global features that a policy of this shape reads."""
        return NUM_ALL_GLOBAL_FEATURES if self.latency else NUM_GLOBAL_FEATURES

    @property
    def num_parameters(self) -> int:
        """Weights of a :class:`Policy` of this shape."""
        units, hidden = self.encoder, self.hidden
        if self.network == "equivariant":
            encoder, pooled = _linear(NUM_BRANCH_FEATURES, units) + _linear(units, units), 2 * units
        else:
            encoder, pooled = 0, self.max_branches * NUM_BRANCH_FEATURES
        inputs = pooled + self.num_global_features
        trunk = encoder + _linear(inputs, hidden) + _linear(hidden, hidden)
        if self.atomic and self.network == "equivariant":
            return (
                trunk
                + _linear(units, units)
                + _linear(hidden, units)
                + _linear(units, BLOCKS)
                + _linear(hidden, 2)
            )
        return trunk + _linear(hidden, self.num_actions)

    @property
    def num_actions(self) -> int:
        """Macro-actions, or single actions of N branches."""
        if self.atomic:
            return actions.count(self.max_branches)
        return macro_actions.NUM_MACRO_ACTIONS

    def as_dict(self) -> dict[str, Any]:
        """The sizes by name, for cards and checkpoints, without ``latency`` where it is not set.

        Policies that do not read latency are then stored as they were before it existed.
        """
        sizes = asdict(self)
        if not self.latency:
            del sizes["latency"]
        return sizes


def layout(shape: Shape) -> dict[str, list[str]]:
    """Names of a policy's actions and features; a policy with another layout cannot be played."""
    latency = macro_features.LATENCY_FEATURES if shape.latency else ()
    return {
        "actions": list(_SINGLE_ACTIONS if shape.atomic else macro_actions.NAMES),
        "branch_features": list(macro_features.BRANCH_FEATURE_NAMES),
        "features": [x.name for x in macro_features.GLOBAL_FEATURES + latency],
    }


class Trunk(nn.Module):
    """Embeds an observation in ``shape.hidden`` numbers.

    Args:
        shape: sizes of the network.
        extra_inputs: numbers of branch features and of global features that are read beside those
            of the observation.

    Attributes:
        branch: encoder of a branch; equivariant networks only.
        decide: layers behind the pooling. Names of modules are names of tensors in policy files.
    """

    def __init__(self, shape: Shape, extra_inputs: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        units, hidden = shape.encoder, shape.hidden
        self.network = shape.network
        self.max_branches = shape.max_branches
        branch_inputs = NUM_BRANCH_FEATURES + extra_inputs[0]
        global_inputs = shape.num_global_features + extra_inputs[1]
        if shape.network == "equivariant":
            self.branch = nn.Sequential(
                nn.Linear(branch_inputs, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU()
            )
            pooled = 2 * units
        else:
            pooled = shape.max_branches * branch_inputs
        self.decide = nn.Sequential(
            nn.Linear(pooled + global_inputs, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
        )

    def forward(self, branches: Tensor, features: Tensor, opened: Tensor | None = None) -> Tensor:
        """Embed observations.

        Args:
            branches: float32[..., n, NUM_BRANCH_FEATURES]. Trailing branches that are not open, all
                zeros, may be left out.
            features: float32[..., G], G as of ``shape.num_global_features``.
            opened: int64[...], number of open branches, which are the first ones; faster than
                without it, in float32 only.

        Returns:
            float32[..., hidden].
        """
        if self.network == "mlp" or opened is None:
            return self.encode(branches, features)[0]
        pooled = mean_and_maximum(self._encoder(branches), opened)
        embedding: Tensor = self.decide(torch.cat([pooled, features], -1))
        return embedding

    def _encoder(self, branches: Tensor) -> Tensor:
        """The encodings of the branches before the last ReLU, float32[..., n, encoder]."""
        first, _, second, _ = self.branch
        encodings: Tensor = second(first(branches).relu_())
        return encodings

    def encode(self, branches: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embed observations and branches; arguments as for :meth:`forward`.

        Returns:
            The embedding, float32[..., hidden], and the encodings of the branches,
            float32[..., n, encoder]; float32[..., n, 0] for an mlp.
        """
        if self.network == "mlp":
            padding = (0, 0, 0, self.max_branches - branches.shape[-2])
            encoded = branches[..., :0]
            pooled = nn.functional.pad(branches, padding).flatten(-2)
        else:
            is_open = (branches[..., STATUS_FEATURES].sum(-1, keepdim=True) > 0).to(branches.dtype)
            encoded = self._encoder(branches).relu() * is_open
            mean = encoded.sum(-2) / is_open.sum(-2).clamp(min=1)
            # The gradient of max is cheaper than that of amax, which equal branches share.
            pooled = torch.cat([mean, encoded.max(-2).values], -1)
        return self.decide(torch.cat([pooled, features], -1)), encoded


class Pointers(nn.Module):
    """Logits of single actions; those of a branch are computed from its encoding.

    Args:
        shape: sizes of the network.
    """

    #: Former names of the layers in policy files, with the current ones.
    _FORMER_NAMES: Final = {
        "of_branch.": "branch_projection.",
        "of_all.": "global_projection.",
        "each.": "branch_logits.",
        "whole.": "global_logits.",
    }

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.branch_projection = nn.Linear(shape.encoder, shape.encoder)
        self.global_projection = nn.Linear(shape.hidden, shape.encoder)
        self.branch_logits = nn.Linear(shape.encoder, BLOCKS)
        self.global_logits = nn.Linear(shape.hidden, 2)  # ANSWER and BRANCH

    def forward(self, embedding: Tensor, encoded: Tensor, max_branches: int) -> Tensor:
        """Logits, float32[..., 2 + 4 · max_branches], from what :meth:`Trunk.encode` returns."""
        projected = self.branch_projection(encoded)
        joined = torch.relu(projected + self.global_projection(embedding).unsqueeze(-2))
        logits = self.branch_logits(joined).transpose(-1, -2)
        padded = nn.functional.pad(logits, (0, max_branches - encoded.shape[-2]))
        return torch.cat([self.global_logits(embedding), padded.flatten(-2)], -1)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        for key in list(state_dict):
            for former, current in self._FORMER_NAMES.items():
                if key.startswith(prefix + former):
                    suffix = key.removeprefix(prefix + former)
                    state_dict[prefix + current + suffix] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class Policy(nn.Module):
    """Logits of macro-actions, or of single actions.

    Args:
        shape: sizes of the networks.

    Attributes:
        actor: the trunk.
        logits: the last layer. Names of modules are names of tensors in policy files.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.actor = Trunk(shape)
        self.logits: nn.Linear | Pointers
        if shape.atomic and shape.network == "equivariant":
            self.logits = Pointers(shape)
            initialize(self, self.logits.branch_logits, self.logits.global_logits, gain=0.01)
            # An untrained policy would otherwise prune and answer before it has probed anything.
            with torch.no_grad():
                self.logits.branch_logits.bias[[actions.PRUNE, actions.ANSWER_BRANCH]] = _RARE
                self.logits.global_logits.bias[actions.ANSWER] = _RARE
        else:
            self.logits = nn.Linear(shape.hidden, shape.num_actions)
            initialize(self, self.logits, gain=0.01)

    def act(
        self, branches: Tensor, features: Tensor, mask: Tensor, opened: Tensor | None = None
    ) -> Tensor:
        """Logits of the actions.

        Args:
            branches, features: as for :meth:`Trunk.forward`.
            mask: bool[..., A], whether an action is legal; A is NUM_MACRO_ACTIONS, or 2 + 4N.
            opened: as for :meth:`Trunk.forward`.

        Returns:
            float32[..., A], ``ILLEGAL_LOGIT`` for illegal actions.
        """
        if isinstance(self.logits, Pointers):
            embedding, encoded = self.actor.encode(branches, features)
            logits = self.logits(embedding, encoded, (mask.shape[-1] - 2) // BLOCKS)
        else:
            logits = self.logits(self.actor(branches, features, opened))
        return torch.where(mask, logits, ILLEGAL_LOGIT)

    def choose(self, branches: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """The most likely actions, int64[...]; arguments as for :meth:`act`.

        Of single actions, it is the most likely branch of the most likely kind of action: where
        many branches are alike, none of them is likely by itself.
        """
        logits = self.act(branches, features, mask)
        if not self.shape.atomic:
            return logits.argmax(-1)
        n = (mask.shape[-1] - 2) // BLOCKS
        global_logits = logits[..., :2]
        branch_logits = logits[..., 2:].reshape(*logits.shape[:-1], BLOCKS, n)
        kind = torch.cat([global_logits, branch_logits.logsumexp(-1)], -1).argmax(-1)
        block = (kind - 2).clamp(min=0)
        best = branch_logits >= branch_logits.amax(-1, keepdim=True) - TIE
        branch = best.byte().argmax(-1).gather(-1, block.unsqueeze(-1)).squeeze(-1)
        return torch.where(kind < 2, kind, 2 + block * n + branch)


def initialize(network: nn.Module, *last: nn.Linear, gain: float) -> None:
    """Initialize with orthogonal weights, scaled by ``gain`` in the ``last`` layers."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2))
            nn.init.zeros_(module.bias)
    for module in last:
        nn.init.orthogonal_(module.weight, gain)


def save(policy: Policy, folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write a policy and its card; each file is replaced atomically.

    Args:
        policy: the networks.
        folder: where.
        card: entries of the card, beside ``shape`` and ``layout``; ``prices`` is required to play.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"shape": policy.shape.as_dict(), "layout": layout(policy.shape), **card}
    write_bytes(folder / WEIGHTS, dump_tensors(policy.state_dict()))
    write_text(folder / CARD, bounded_yaml.dump(content, width=100))


def read_files(folder: Path) -> tuple[bytes, str]:
    """The contents of the weights file and of the card file.

    Raises:
        OSError, UnicodeDecodeError: a file is missing, too large, or not a text.
    """
    return read_bytes(folder / WEIGHTS, _MAX_WEIGHTS), read_text(folder / CARD)


def load(folder: str | os.PathLike[str]) -> tuple[Policy, dict[str, Any]]:
    """A trained policy and its card.

    Raises:
        PolicyError: a file is missing or damaged, or the policy has another layout.
    """
    folder = Path(folder)
    try:
        return parse(*read_files(folder))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{folder} holds no trained policy: {error}") from error
    except PolicyError as error:
        raise PolicyError(f"{folder}: {error}") from error


def parse(weights: bytes, text: str) -> tuple[Policy, dict[str, Any]]:
    """A trained policy and its card, from the contents of their files.

    Raises:
        PolicyError: as for :func:`load`.
    """
    try:
        card: dict[str, Any] = bounded_yaml.load(text)
        shape, stored = Shape(**card["shape"]), dict(card["layout"])
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyError(f"{CARD} is not the card of a policy: {error}") from error
    _check_shape(shape, len(weights))
    for part, names in layout(shape).items():
        stored_names = stored.get(part)
        if stored_names != names and stored_names != _FORMER_LAYOUT.get(part):
            raise PolicyError(
                f"the policy was trained with other {part.replace('_', ' ')}: "
                f"{stored_names!s:.500}; this version has {names}"
            )
    policy = Policy(shape)
    try:
        policy.load_state_dict(load_tensors(weights))
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise PolicyError(f"{WEIGHTS} does not hold the weights of this policy: {error}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in policy.state_dict().values()):
        raise PolicyError(f"{WEIGHTS} holds weights that are not finite numbers")
    return policy.eval(), card


def _check_shape(shape: Shape, size: int) -> None:
    """Check a shape from a card before networks of that shape are created.

    Args:
        shape: the shape.
        size: of the weights file, bytes.
    """
    if shape.network not in get_args(Network):
        raise PolicyError(f"{CARD}: network must be equivariant or mlp, got {shape.network!r:.80}")
    value: Any
    for name in ("atomic", "latency"):
        value = getattr(shape, name)
        if not isinstance(value, bool):
            raise PolicyError(f"{CARD}: {name} must be true or false, got {value!r:.80}")
    for name in ("max_branches", "encoder", "hidden"):
        value = getattr(shape, name)
        if type(value) is not int or not 1 <= value <= _MAX_UNITS:
            raise PolicyError(
                f"{CARD}: {name} must be an integer from 1 to {_MAX_UNITS}, got {value!r:.80}"
            )
    if shape.num_parameters > size:
        raise PolicyError(
            f"{WEIGHTS} does not hold the weights of this policy: it has {size:,} bytes, and a "
            f"network of the card's shape {shape.num_parameters:,} weights"
        )
