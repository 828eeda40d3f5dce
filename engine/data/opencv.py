"""OpenCV. Importing its package adds a folder to the program's LD_LIBRARY_PATH; not here."""

import os

_VARIABLE = 'LD_LIBRARY_PATH'
_before = os.environ.get(_VARIABLE)

import cv2  # noqa: E402

if _before is None:
    os.environ.pop(_VARIABLE, None)
else:
    os.environ[_VARIABLE] = _before

__all__ = ['cv2']
