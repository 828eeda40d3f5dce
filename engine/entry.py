"""Settings of a whole process: made by programs, never by importing a module."""

import os
import sys


def quiet() -> None:
    """Keeps messages of TensorFlow's C++ code below errors off the terminal.

    TensorFlow reads this when it is loaded: where that has happened, or the environment says
    something of its own, nothing changes.
    """
    if 'tensorflow' not in sys.modules:
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
