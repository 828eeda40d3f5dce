"""Controls what is loaded with other projects' modules, wherever these are first imported.

And what programs of ours do without: TensorFlow and tensorpack load Keras with themselves, of which
nothing here is used, and which takes a quarter of the time until a graph can be built.
"""

import contextlib
import gc
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Block = Callable[[], contextlib.AbstractContextManager[None]]

# What TensorFlow loads when it has loaded itself, as far as it is there.
_OPTIMIZERS = ('keras.src.optimizers', 'tf_keras.src.optimizers')

# tensorpack's layers.
_MODELS = 'tensorpack.models'


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """A block that makes objects which stay: nobody looks for garbage among them meanwhile.

    Python's collector goes through all of them again and again as they become more.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _tensorflow() -> Iterator[None]:
    """TensorFlow is loaded; it loads Keras when something of it is used."""
    missing = [name for name in _OPTIMIZERS if name not in sys.modules]
    # TensorFlow goes on where it cannot import them.
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]
    try:
        with uncollected():
            yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextlib.contextmanager
def _tensorpack() -> Iterator[None]:
    """tensorpack is loaded without its layers, which are made of those of Keras."""
    if _MODELS in sys.modules:
        yield
        return
    sys.modules[_MODELS] = ModuleType(_MODELS)
    try:
        with uncollected():
            yield
    finally:
        del sys.modules[_MODELS]


@contextlib.contextmanager
def _compat() -> Iterator[None]:
    """tensorpack looks for ``tensorflow.layers``; where there are none, they are Keras's."""
    tensorflow = sys.modules.get('tensorflow')
    if tensorflow and not hasattr(tensorflow, 'layers'):
        # Those of Keras too, of which nothing is loaded before it is used.
        tensorflow.layers = tensorflow.compat.v1.layers  # type: ignore[attr-defined]
    yield


# Module -> the blocks in which it is loaded.
_AROUND: dict[str, list[Block]] = {}


def around(name: str, block: Block) -> None:
    """Lets a module be loaded within a block from now on, if it is not loaded yet."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    blocks = _AROUND.setdefault(name, [])
    if block not in blocks:
        blocks.append(block)


def without_keras() -> None:
    """Has TensorFlow and tensorpack loaded without Keras from now on."""
    around('tensorflow', _tensorflow)
    around('tensorpack', _tensorpack)
    around('tensorpack.compat', _compat)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of ``_AROUND`` as all others are found, and loads them in their blocks."""

    def __init__(self) -> None:
        self._found: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The description of a module; None of one that is not listed, or was loaded before.

        Args:
            fullname: of the module.
            path: of its package.
            target: as the import system gives it.
        """
        if fullname not in _AROUND or fullname in self._found:
            return None
        self._found.add(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with contextlib.ExitStack() as blocks:
                for block in _AROUND[fullname]:
                    blocks.enter_context(block())
                load(module)

        # Tools ask the loader of a module for more than loading it.
        spec.loader.__dict__['exec_module'] = exec_module
        return spec
