"""Compiles the library that runs ``.lqn`` files: ``python -m engine.deployment.native_build``.

Any C compiler serves: that of ``CC``, or ``cc``, ``gcc``, ``clang``, or the one of the package
``ziglang``. Without any it says so and ends well: nothing else needs the library.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.deployment import native_library

REMEDY = 'install gcc or clang, name a C compiler in CC, or python -m pip install ziglang'

# Products are not fused into sums: the numbers are those of the program's interpreter.
FLAGS = (
    '-std=c11',
    '-D_POSIX_C_SOURCE=200809L',
    '-O3',
    '-fPIC',
    '-fvisibility=hidden',
    '-ffp-contract=off',
    '-fno-math-errno',
    '-fno-trapping-math',
)
# What the compiler is told for files of kernels, by processor.
_AVX2 = ('-mavx2', '-mfma')
_AVX512VNNI = tuple(f'-mavx512{part}' for part in ('f', 'bw', 'dq', 'vl', 'vnni'))
OWN_FLAGS = {
    ('avx2.c', 'x86_64'): _AVX2,
    ('avxvnni.c', 'x86_64'): (*_AVX2, '-mavxvnni'),
    ('avx512vnni.c', 'x86_64'): (*_AVX2, *_AVX512VNNI),
    ('amx.c', 'x86_64'): (*_AVX2, *_AVX512VNNI, '-mamx-tile', '-mamx-int8'),
}
LIBRARIES = ('-lm', '-lpthread')
# Other names of machines.
NAMES = {'AMD64': 'x86_64'}


def compiler() -> list[str] | None:
    """The command of a C compiler; None without one."""
    asked = os.environ.get('CC')
    if asked:
        return shlex.split(asked)
    for name in ('cc', 'gcc', 'clang'):
        found = shutil.which(name)
        if found:
            return [found]
    if importlib.util.find_spec('ziglang'):
        return [sys.executable, '-m', 'ziglang', 'cc']
    return None


def build(made: Path, flags: Sequence[str] = (), machine: str | None = None) -> Path:
    """Compiles and links a library.

    Args:
        made: the file to make; one that is there is replaced.
        flags: further ones of the compiler.
        machine: that it is for; default: this one.

    Raises:
        OSError: there is no compiler, or the folder cannot be written.
        subprocess.CalledProcessError: the compiler fails.
    """
    command = compiler()
    if command is None:
        raise OSError(f'no C compiler found; {REMEDY}')
    link(command, native_library.sources(), made, '-shared', flags, machine)
    return made


def link(
    command: Sequence[str],
    sources: Sequence[Path],
    made: Path,
    kind: str,
    flags: Sequence[str] = (),
    machine: str | None = None,
) -> None:
    """Compiles each file with its own flags, and links them.

    Args:
        command: the compiler.
        sources: files in C.
        made: the file to make; one that is there is replaced.
        kind: of the file: ``-shared``, ``-static``, ``-pie``.
        flags: further ones of the compiler.
        machine: that it is for; default: this one.

    Raises:
        subprocess.CalledProcessError: the compiler fails.
    """
    machine = machine or NAMES.get(platform.machine(), platform.machine())
    with tempfile.TemporaryDirectory(dir=made.parent, prefix='.build-') as place:
        objects = []
        for source in sources:
            target = str(Path(place) / f'{source.stem}.o')
            own = OWN_FLAGS.get((source.name, machine), ())
            _run([*command, *FLAGS, *own, *flags, '-c', str(source), '-o', target])
            objects.append(target)
        linked = Path(place) / made.name
        _run([*command, *flags, kind, '-o', str(linked), *objects, *LIBRARIES])
        linked.replace(made)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> int:
    """Exit status: 0 with a library, and without a compiler; 1 where one fails."""
    made = native_library.path()
    if made.exists():
        return 0
    try:
        build(made)
    except OSError as error:
        print(f'engine.deployment.native_build: {error}')
        return 0
    except subprocess.CalledProcessError as error:
        print(f'{error.stderr}\nruntime: {error.cmd[0]} failed', file=sys.stderr)
        return 1
    for other in made.parent.glob(f'{native_library.STEM}-*{made.suffix}'):
        if other != made:
            other.unlink()
    print(f'built {made}')
    return 0


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.partition('\n')[0]).parse_args()
    sys.exit(main())
