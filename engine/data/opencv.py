"""OpenCV, with an environment that stays as it was.

Importing its package adds a folder to the program's LD_LIBRARY_PATH; not here. What its decoders
warn of, each time and without the name of the file, is said by whoever reads the file.
"""

import os

_LEVEL = 'OPENCV_LOG_LEVEL'
_before = {name: os.environ.get(name) for name in ('LD_LIBRARY_PATH', _LEVEL)}
os.environ.setdefault(_LEVEL, 'ERROR')

import cv2  # noqa: E402

for _name, _value in _before.items():
    if _value is None:
        os.environ.pop(_name, None)
    else:
        os.environ[_name] = _value

__all__ = ['cv2']
