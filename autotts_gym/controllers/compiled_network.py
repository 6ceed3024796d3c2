"""The forward pass of a policy network in compiled code, beside the rules.

A network of a few thousand weights takes less time than the call that starts it, so bulk rollouts
compute it where they play: :mod:`autotts_gym.controllers.compiled_policy`. Logits equal those of
:class:`~autotts_gym.controllers.policy_network.Policy` within 1e-5 of the largest.

Weights are float32 with the inputs along the first axis, so that the innermost loops run along the
outputs and are vectorised. The encoding of a branch depends on its features only, and is computed
anew only if these changed.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.policy_network import BLOCKS, ILLEGAL_LOGIT, TIE, Pointers, Policy
from autotts_gym.mdp.jit import WITHOUT_RUNTIME, compiled, entry_point
from autotts_gym.mdp.macro_features import NUM_BRANCH_FEATURES
from autotts_gym.mdp.packed_arrays import Axes, pack

#: Largest number of weights of a network that is played compiled. Matrix products of whole batches,
#: as in torch, are faster for larger networks.
MAX_WEIGHTS: Final = 100_000

Vector = Annotated[NDArray[np.float32], Axes(np.float32, 1)]
Matrix = Annotated[NDArray[np.float32], Axes(np.float32, 2)]


class NetworkArrays(NamedTuple):
    """Weights and working memory of a network; U units encode a branch, H decide, A actions.

    Weights are float32[inputs + 1, outputs], with the biases in the last row. Layers that a network
    does not have are of size 0.

    Attributes:
        encoder_in: [NUM_BRANCH_FEATURES + 1, U]; U is 0 for an mlp.
        encoder_out: [U + 1, U].
        decide_in: [2 · U + G + 1, H], G the number of global features that the network reads; of
            an mlp, the features of all branches take the place of the 2 · U.
        decide_out: [H + 1, H].
        last: [H + 1, A], or [H + 1, 2] of a network of pointers: ANSWER and BRANCH.
        branch_projection: [U + 1, U], of pointers.
        global_projection: [H + 1, U], of pointers.
        branch_logits: [U + 1, 4], of pointers.
        known: [N, NUM_BRANCH_FEATURES], the features that ``encoded`` was computed from.
        encoded: [N, U].
        projected: [N, U], of pointers.
        pooled: [2 · U].
        units: [U], several uses.
        hidden_in, hidden_out: [H].
        blocks: [4], logits of one branch.
        logits: [A].
    """

    encoder_in: Matrix
    encoder_out: Matrix
    decide_in: Matrix
    decide_out: Matrix
    last: Matrix
    branch_projection: Matrix
    global_projection: Matrix
    branch_logits: Matrix
    known: Matrix
    encoded: Matrix
    projected: Matrix
    pooled: Vector
    units: Vector
    hidden_in: Vector
    hidden_out: Vector
    blocks: Vector
    logits: Vector


# --- compiled code -------------------------------------------------------------------------------

#: The approximation of tanh of the library Eigen (``ptanh_float``): coefficients of the powers of
#: x² from the highest, and the range outside of which tanh is ±1 in float32.
_TANH_ODD: Final = tuple(
    np.float32(coefficient)
    for coefficient in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
_TANH_EVEN: Final = tuple(
    np.float32(coefficient)
    for coefficient in (
        1.19825839466702e-06,
        1.18534705686654e-04,
        2.26843463243900e-03,
        4.89352518554385e-03,
    )
)
_TANH_RANGE: Final = np.float32(7.90531110763549805)

#: Products and sums may be fused: the result is at least as exact.
_fused = numba.njit(**{**WITHOUT_RUNTIME, "fastmath": {"contract"}})


@_fused
def _add_products(weights: Any, first: int, inputs: Any, outputs: Any) -> None:
    """Add ``inputs @ weights[first : first + len(inputs)]`` to ``outputs``."""
    count = inputs.shape[0]
    fours = count - count % 4
    for k in range(0, fours, 4):  # four at once: fewer loads and stores of the outputs
        a, b, c, d = inputs[k], inputs[k + 1], inputs[k + 2], inputs[k + 3]
        row_a, row_b = weights[first + k], weights[first + k + 1]
        row_c, row_d = weights[first + k + 2], weights[first + k + 3]
        for j in range(outputs.shape[0]):
            outputs[j] += (a * row_a[j] + b * row_b[j]) + (c * row_c[j] + d * row_d[j])
    for k in range(fours, count):
        a, row_a = inputs[k], weights[first + k]
        for j in range(outputs.shape[0]):
            outputs[j] += a * row_a[j]


@compiled
def _set_biases(weights: Any, outputs: Any) -> None:
    biases = weights[weights.shape[0] - 1]
    for j in range(outputs.shape[0]):
        outputs[j] = biases[j]


@compiled
def _dense(weights: Any, inputs: Any, outputs: Any) -> None:
    """A linear layer."""
    _set_biases(weights, outputs)
    _add_products(weights, 0, inputs, outputs)


@compiled
def _relu(values: Any) -> None:
    for j in range(values.shape[0]):
        values[j] = max(values[j], np.float32(0))


@_fused
def _tanh(values: Any) -> None:
    """Tanh within 5e-7, as a quotient of two polynomials: vectorised, unlike ``math.tanh``."""
    odd, even = _TANH_ODD, _TANH_EVEN
    for j in range(values.shape[0]):
        x = min(max(values[j], -_TANH_RANGE), _TANH_RANGE)
        square = x * x
        numerator, denominator = odd[0], even[0]
        for k in range(1, 7):
            numerator = numerator * square + odd[k]
        for k in range(1, 4):
            denominator = denominator * square + even[k]
        values[j] = x * numerator / denominator


@compiled
def _replace(known: Any, features: Any) -> bool:
    """Copy ``features`` to ``known``; whether any differs."""
    changed = False
    for k in range(features.shape[0]):
        changed = changed or known[k] != features[k]
        known[k] = features[k]
    return changed


@compiled
def _encode(net: NetworkArrays, branches: Any, opened: int) -> None:
    """Encode the branches whose features have changed, and pool all."""
    size = net.units.shape[0]
    mean, largest = net.pooled[:size], net.pooled[size:]
    net.pooled[:] = 0  # encodings are not negative
    for i in range(opened):
        encoded = net.encoded[i]
        if _replace(net.known[i], branches[i]):
            _dense(net.encoder_in, branches[i], net.units)
            _relu(net.units)
            _dense(net.encoder_out, net.units, encoded)
            _relu(encoded)
            if net.projected.shape[0] > 0:
                _dense(net.branch_projection, encoded, net.projected[i])
        for j in range(size):
            mean[j] += encoded[j]
            largest[j] = max(largest[j], encoded[j])
    for j in range(size):
        mean[j] /= np.float32(max(opened, 1))


@compiled
def _point(net: NetworkArrays, opened: int) -> None:
    """Logits of the actions on opened branches."""
    n = net.projected.shape[0]
    joined = net.units
    from_all = net.pooled[: net.units.shape[0]]  # the pooled encodings are no longer needed
    _dense(net.global_projection, net.hidden_out, from_all)
    for i in range(opened):
        for j in range(joined.shape[0]):
            joined[j] = max(net.projected[i, j] + from_all[j], np.float32(0))
        _dense(net.branch_logits, joined, net.blocks)
        for block in range(BLOCKS):
            net.logits[2 + block * n + i] = net.blocks[block]


@compiled
def update_logits(net: NetworkArrays, branches: Any, features: Any, opened: int) -> None:
    """Write the logits of one episode, those of branches that are not opened excepted.

    Args:
        net: the network.
        branches: float32[N, NUM_BRANCH_FEATURES].
        features: float32[>= G], of which the network reads the first G.
        opened: number of opened branches.
    """
    _set_biases(net.decide_in, net.hidden_in)
    if net.units.shape[0] > 0:
        _encode(net, branches, opened)
        _add_products(net.decide_in, 0, net.pooled, net.hidden_in)
        first = net.pooled.shape[0]
    else:
        for i in range(opened):
            _add_products(net.decide_in, i * NUM_BRANCH_FEATURES, branches[i], net.hidden_in)
        first = net.known.shape[0] * NUM_BRANCH_FEATURES
    count = net.decide_in.shape[0] - 1 - first
    _add_products(net.decide_in, first, features[:count], net.hidden_in)
    _tanh(net.hidden_in)
    _dense(net.decide_out, net.hidden_in, net.hidden_out)
    _tanh(net.hidden_out)
    _dense(net.last, net.hidden_out, net.logits[: net.last.shape[1]])
    if net.projected.shape[0] > 0:
        _point(net, opened)


@compiled
def most_likely(logits: Any, mask: Any) -> int:
    """The legal action with the largest logit, the first among equals."""
    best = -1
    for action in range(mask.shape[0]):
        if mask[action] != 0 and (best < 0 or logits[action] > logits[best]):
            best = action
    return best


@compiled
def _best_of_block(logits: Any, mask: Any, first: int, opened: int):
    """Logit of a kind of action on branches, and its first branch that is as likely as any."""
    largest = -np.inf
    for i in range(opened):
        if mask[first + i] != 0:
            largest = max(largest, logits[first + i])
    if largest == -np.inf:
        return ILLEGAL_LOGIT, 0
    total, branch = 0.0, -1
    for i in range(opened):
        if mask[first + i] != 0:
            total += math.exp(logits[first + i] - largest)
            if branch < 0 and logits[first + i] >= largest - TIE:
                branch = i
    return largest + math.log(total), branch


@compiled
def most_likely_single(logits: Any, mask: Any, opened: int) -> int:
    """The most likely branch of the most likely kind of action, see ``Policy.choose``."""
    n = (mask.shape[0] - 2) // BLOCKS
    best, action = -np.inf, 0
    for single in range(2):
        if mask[single] != 0 and logits[single] > best:
            best, action = float(logits[single]), single
    for block in range(BLOCKS):
        first = 2 + block * n
        logit, branch = _best_of_block(logits, mask, first, opened)
        if logit > best:
            best, action = logit, first + branch
    return action


@entry_point(packed=NetworkArrays)
def _compute(net, branches, features, opened):
    update_logits(net, branches, features, opened)


@entry_point(packed=NetworkArrays)
def _compute_all(net, branches, features, opened, logits):
    for e in range(len(opened)):
        update_logits(net, branches[e], features[e], opened[e])
        for action in range(logits.shape[1]):
            logits[e, action] = net.logits[action]


# --- interface -----------------------------------------------------------------------------------


class CompiledNetwork:
    """A policy's network for compiled code.

    Args:
        policy: the network.
        max_branches: N.

    Attributes:
        arrays: its weights and working memory.
    """

    def __init__(self, policy: Policy, max_branches: int) -> None:
        shape = policy.shape
        units = shape.encoder if shape.network == "equivariant" else 0
        pointing = isinstance(policy.logits, Pointers)
        self._policy = policy
        self._layers = _layers(policy)
        weights = {name: _empty_weights(layer) for name, layer in self._layers.items()}
        n, pointers = max_branches, max_branches if pointing else 0
        actions = 2 + BLOCKS * n if pointing else shape.num_actions
        self.arrays = NetworkArrays(
            **{name: _empty(0, 0) for name in NetworkArrays._fields[:8]} | weights,
            known=_empty(n, NUM_BRANCH_FEATURES),
            encoded=_empty(n, units),
            projected=_empty(pointers, units),
            pooled=_empty(2 * units),
            units=_empty(units),
            hidden_in=_empty(shape.hidden),
            hidden_out=_empty(shape.hidden),
            blocks=_empty(BLOCKS),
            logits=_empty(actions),
        )
        self._packed = pack(self.arrays)
        self.refresh()

    def refresh(self) -> None:
        """Copy the weights of the policy, which may have been trained further."""
        for name, layer in self._layers.items():
            weights = getattr(self.arrays, name)
            weights[:-1] = layer.weight.detach().numpy().T
            weights[-1] = layer.bias.detach().numpy()
        self.arrays.known[:] = np.nan  # unlike all features

    def logits(
        self, branches: NDArray[np.float32], features: NDArray[np.float32], opened: int
    ) -> NDArray[np.float32]:
        """Logits of all actions, legal or not, float32[A]; overwritten by the next call.

        Args:
            branches: float32[N, NUM_BRANCH_FEATURES].
            features: float32[>= G], G as of ``Shape.num_global_features``.
            opened: number of opened branches; single actions on others keep an earlier logit.
        """
        _compute(self._packed, branches, features, opened)
        return self.arrays.logits

    def batch_logits(
        self,
        branches: NDArray[np.float32],
        features: NDArray[np.float32],
        opened: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Logits of all actions in E episodes, legal or not, float32[E, A].

        Args:
            branches: float32[E, N, NUM_BRANCH_FEATURES].
            features: float32[E, >= G].
            opened: int64[E], numbers of opened branches; the logits of single actions on other
                branches have no meaning.
        """
        logits = _empty(len(opened), len(self.arrays.logits))
        _compute_all(self._packed, branches, features, opened, logits)
        return logits


def _layers(policy: Policy) -> dict[str, Any]:
    """The linear layers of a policy by their names in :class:`NetworkArrays`."""
    actor: Any = policy.actor
    layers = {"decide_in": actor.decide[0], "decide_out": actor.decide[2]}
    if policy.shape.network == "equivariant":
        layers |= {"encoder_in": actor.branch[0], "encoder_out": actor.branch[2]}
    if isinstance(policy.logits, Pointers):
        pointers = policy.logits
        return layers | {
            "last": pointers.global_logits,
            "branch_projection": pointers.branch_projection,
            "global_projection": pointers.global_projection,
            "branch_logits": pointers.branch_logits,
        }
    return layers | {"last": policy.logits}


def _empty(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def _empty_weights(layer: Any) -> NDArray[np.float32]:
    return _empty(layer.in_features + 1, layer.out_features)
