"""Rendering of an episode: an image, text for a terminal, and a window.

A :class:`~autotts_gym.gym_envs.rendering.scene.Scene` holds everything that is rendered, so this
package depends on neither the environments nor their rules.
"""

from autotts_gym.gym_envs.rendering.ansi import render_ansi
from autotts_gym.gym_envs.rendering.image import render_image
from autotts_gym.gym_envs.rendering.scene import PALETTE, Scene
from autotts_gym.gym_envs.rendering.window import Window

__all__ = ["PALETTE", "Scene", "Window", "render_ansi", "render_image"]
