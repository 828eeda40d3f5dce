"""Hardware for a run: GPUs, the data format they take, bfloat16, decoding threads."""

import argparse
import os
from pathlib import Path

from engine import processor
from engine.config.config import Config
from engine.data.opencv import cv2
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.processor import cores
from engine.quantities import counted
from quant import backend, native

# What multiplies bfloat16 in a processor, the fastest first.
BFLOAT16 = {'amx_bf16': 'AMX', 'avx512_bf16': 'AVX512-BF16', 'bf16': 'Arm BF16'}


def bfloat16(cpuinfo: Path = processor.CPUINFO) -> str:
    """Name of what multiplies bfloat16 in the processor; empty where nothing does."""
    there = processor.features(cpuinfo)
    for flag, name in BFLOAT16.items():
        if flag in there:
            return name
    return ''


def check_native(config: Config) -> None:
    """Checks that there is what ``--native require`` asks for; TensorFlow is not loaded.

    Raises:
        UsageError: the library is not built.
    """
    if config.native == 'require' and not native.is_built():
        raise UsageError(
            '--native require: the operations are not built for this TensorFlow; '
            'python -m quant.native.build does it'
        )


def takes_native(config: Config) -> bool:
    """Whether quantizers are operations of ``quant.native``, which are for CPUs."""
    return config.native != 'off' and native.is_built() and not backend.has_gpu()


def quantizer_line(config: Config) -> str:
    """How quantizers are computed on this machine, in words."""
    if takes_native(config):
        return 'quantizers in one pass each (quant.native)'
    found = 'quantizers of plain TensorFlow operations'
    if backend.has_gpu():
        return found
    if config.native == 'require':
        return (
            f'{found}; this run began with those of quant.native, whose sums are rounded '
            'otherwise: python -m quant.native.build makes them'
        )
    remedy = '--native require' if native.is_built() else 'python -m quant.native.build'
    return f'{found}; {remedy} makes them faster'


def line() -> str:
    """The processor of this machine in words: cores, and whether it has bfloat16."""
    found = bfloat16()
    if found:
        return f'{counted(cores(), "core")}, bfloat16 by {found}'
    return f'{counted(cores(), "core")} without bfloat16: there --bf16 is slower than float32'


def native_format() -> str:
    """``NCHW`` where there is a GPU, else ``NHWC``."""
    return 'NCHW' if backend.has_gpu() else 'NHWC'


def check_threads(threads: int | None) -> None:
    """Checks the number of decoding threads; 0 decodes where batches are made.

    Raises:
        UsageError: it is less.
    """
    if threads is not None and threads < 0:
        raise UsageError(f'--threads {threads}: must be at least 0')


def prepare(
    config: Config,
    dataset: Dataset,
    args: argparse.Namespace | None = None,
    *,
    exact: bool = False,
) -> tuple[str, int]:
    """Chooses the visible GPUs, so nothing may have touched one before, and threads.

    Args:
        config: of the run, with the GPUs.
        dataset: small images of the embedded kind take one thread by default.
        args: flags of the command: ``--data_format``, ``--threads``, and ``--gpu``, without which
            all GPUs stay visible. None has none of them.
        exact: see ``quant.backend.exact``.

    Returns:
        Data format and number of decoding threads.

    Raises:
        UsageError: there are fewer GPUs, or the data format needs one.
    """
    asked = False
    data_format, threads = None, None
    if args is not None:
        asked = args.gpu is not None
        data_format, threads = args.data_format, args.threads
        check_threads(threads)
    ids = ','.join(map(str, config.gpu))
    if asked:
        os.environ['CUDA_VISIBLE_DEVICES'] = ids
    if exact:
        backend.exact()

    gpus = len(backend.tf.config.list_physical_devices('GPU'))
    if data_format == 'NCHW' and not gpus:
        raise UsageError(
            '--data_format NCHW: convolutions on the CPU need NHWC, and no GPU was found'
        )
    if 0 < gpus < len(config.gpu):
        raise UsageError(f'--gpu {ids}: {gpus} of these GPUs found')
    if asked and not gpus:
        print(f'--gpu {ids}: no GPU found; towers: {len(config.gpu)}, on the CPU')
    if threads is None:
        threads = 1 if dataset.spec.in_memory else cores()
    # Images are decoded side by side; threads of its own would only get into their way.
    cv2.setNumThreads(1)
    if data_format is None:
        data_format = native_format()
    return data_format, threads
