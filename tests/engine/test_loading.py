"""What is loaded within a block, and what programs of ours do without."""

import contextlib
import gc
import subprocess
import sys
import textwrap

from engine import loading
from tests.paths import ROOT


def run(folder, program: str) -> list[str]:
    """Lines that a program prints, which finds modules in a folder."""
    text = textwrap.dedent(program)
    environment = {'PYTHONPATH': f'{folder}:{ROOT}', 'PYTHONDONTWRITEBYTECODE': '1'}
    command = [sys.executable, '-c', text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_blocks_are_entered_in_order_and_left_once(tmp_path):
    (tmp_path / 'heavy.py').write_text('print("loaded")')
    program = """
        import contextlib
        from engine import loading

        @contextlib.contextmanager
        def first():
            print('first in')
            yield
            print('first out')

        @contextlib.contextmanager
        def second():
            print('second in')
            yield
            print('second out')

        loading.around('heavy', first)
        loading.around('heavy', second)
        loading.around('heavy', first)
        import heavy, importlib
        importlib.reload(heavy)
    """
    expected = ['first in', 'second in', 'loaded', 'second out', 'first out', 'loaded']
    assert run(tmp_path, program)[: len(expected)] == expected


def test_libraries_are_loaded_without_keras_and_find_it_afterwards(tmp_path):
    """Modules of their names that load each other as theirs do."""
    for name in ('tensorflow', 'tensorpack', 'keras', 'keras/src'):
        (tmp_path / name).mkdir()
    files = {
        'tensorflow/__init__.py': """
            import types
            class Lazy:
                @property
                def layers(self):
                    import keras.src.optimizers
                    return 'layers'
            keras = Lazy()
            compat = types.SimpleNamespace(v1=types.SimpleNamespace(layers='lazy'))
            try:
                import keras.src.optimizers
                print('eager')
            except ImportError:
                print('later')
        """,
        'tensorpack/__init__.py': """
            import tensorflow
            from tensorpack.compat import tf
            from tensorpack.models import *
        """,
        'tensorpack/compat.py': """
            import tensorflow as tf
            if not hasattr(tf, 'layers'):
                tf.layers = tf.keras.layers
        """,
        'tensorpack/models.py': 'print("models")',
        'keras/__init__.py': '',
        'keras/src/__init__.py': '',
        'keras/src/optimizers.py': 'print("optimizers")',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    program = """
        from engine import loading
        loading.without_keras()
        import gc, sys
        import tensorpack, tensorflow
        print(tensorflow.layers, gc.isenabled(), 'tensorpack.models' in sys.modules)
        import tensorpack.models, keras.src.optimizers
    """
    assert run(tmp_path, program) == ['later', 'lazy True False', 'models', 'optimizers']


def test_nothing_is_collected_meanwhile():
    with loading.uncollected():
        assert not gc.isenabled()
        with loading.uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_off_stays_off():
    gc.disable()
    try:
        with contextlib.suppress(KeyError), loading.uncollected():
            raise KeyError
        assert not gc.isenabled()
    finally:
        gc.enable()
