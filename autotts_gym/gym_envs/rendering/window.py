"""``Window``, which displays frames with matplotlib."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from autotts_gym.gym_envs.rendering.scene import Pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


class Window:
    """A matplotlib window that displays one frame at a time.

    Without a screen it displays nothing. If the user closes the window, it stays closed until
    :meth:`close` is called.
    """

    def __init__(self) -> None:
        self._figure: Figure | None = None
        self._image: AxesImage | None = None

    def show(self, frame: Pixels) -> None:
        """Display a frame, uint8[H, W, 3]."""
        import matplotlib.pyplot as plt  # slow to import, and only this render mode uses it
        from matplotlib.backend_bases import NonGuiException

        height, width, _ = frame.shape
        if self._figure is not None and not plt.fignum_exists(self._figure.number):
            return
        if self._image is not None and self._image.get_size() != (height, width):
            self.close()  # the frame size changes with the environment's depth
        if self._figure is None or self._image is None:
            self._figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            self._image = axes.imshow(frame)
            manager = self._figure.canvas.manager
            with suppress(NonGuiException):
                if manager is not None:
                    manager.show()
        self._image.set_data(frame)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window if it is open."""
        if self._figure is not None:
            import matplotlib.pyplot as plt

            plt.close(self._figure)
            self._figure = self._image = None
