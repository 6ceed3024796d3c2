"""``python -m autotts_gym`` is the ``autotts`` command."""

from autotts_gym.cli import main

main()
