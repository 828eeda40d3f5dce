"""Compiles the operations against the installed TensorFlow: ``python -m quant.native.build``.

Without a compiler it says so and ends well: quantizers are then built of plain operations.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from quant import native

# Names of the sets of kernels, and what the compiler is told for each; of x86 all but the first.
_SETS = {
    'generic': (),
    'avx2': ('-mavx2',),
    'avx512': ('-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl'),
}

REMEDY = 'install g++ or clang, or name one in CXX, then python -m quant.native.build'

# Asks TensorFlow for the flags of the compiler and of the linker.
_FLAGS = (
    'import json; from quant.backend import tf; '
    'print(json.dumps([tf.sysconfig.get_compile_flags(), tf.sysconfig.get_link_flags()]))'
)

# Products are not fused into sums: plain operations round them, too.
_COMMON = ('-std=c++17', '-w', '-fPIC', '-fvisibility=hidden', '-ffp-contract=off')


def compiler() -> str | None:
    """The C++ compiler: that of ``CXX``, or ``c++``, ``g++``, ``clang++``; None without."""
    for name in (os.environ.get('CXX', ''), 'c++', 'g++', 'clang++'):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def build() -> Path:
    """Compiles and links, and gives the place of the library.

    Raises:
        OSError: the folder of the package cannot be written, or there is no compiler.
        subprocess.CalledProcessError: the compiler fails, or TensorFlow cannot be loaded.
    """
    command = compiler()
    if command is None:
        raise OSError(f'no C++ compiler found ({REMEDY})')
    made = native.library()
    # In a process of its own: what TensorFlow says of itself while it is loaded is kept there.
    compile_flags, link_flags = json.loads(_run([sys.executable, '-c', _FLAGS]))
    with tempfile.TemporaryDirectory(dir=made.parent, prefix='.build-') as folder:
        objects = _compiled(command, Path(folder), compile_flags)
        linked = Path(folder) / made.name
        _run([command, '-shared', '-o', str(linked), *objects, *link_flags])
        linked.replace(made)
    version, _, _ = made.name.rpartition('-')
    for other in made.parent.glob(f'{version}-*.so'):
        if other != made:
            other.unlink()
    return made


def _compiled(command: str, folder: Path, flags: list[str]) -> list[str]:
    """Object files.

    Args:
        command: the compiler.
        folder: for them.
        flags: for the headers of TensorFlow.
    """
    sets = ['generic']
    if platform.machine() in ('x86_64', 'AMD64'):
        sets = list(_SETS)
    objects = []
    for name in sets:
        made = str(folder / f'{name}.o')
        named = f'-DKERNELS=quant_kernels_{name}'
        source = str(native.FOLDER / 'kernels.cc')
        _run([command, *_COMMON, '-O3', *_SETS[name], named, '-c', source, '-o', made])
        objects.append(made)
    for name in ('ops', 'uniform_ops', 'learned_ops', 'bases'):
        made = str(folder / f'{name}.o')
        source = str(native.FOLDER / f'{name}.cc')
        _run([command, *flags, *_COMMON, '-O3', '-c', source, '-o', made])
        objects.append(made)
    return objects


def _run(command: list[str]) -> str:
    """Runs a command, and returns what it prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def main() -> int:
    """Exit status: 0 with a library, and without a compiler; 1 where one fails."""
    if native.is_built():
        return 0
    plain = 'quantizers are built of plain operations, which take longer'
    try:
        print(f'built {build()}')
    except OSError as error:
        print(f'quant.native: {error}; {plain}')
    except subprocess.CalledProcessError as error:
        print(f'{error.stderr}\nquant.native: {error.cmd[0]} failed; {plain}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.partition('\n')[0]).parse_args()
    sys.exit(main())
