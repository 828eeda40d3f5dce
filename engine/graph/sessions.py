"""Sessions that train and evaluate: how many threads they have, and whether graphs are rewritten.

TensorFlow makes one pool of threads for the insides of operations in a process, that of its first
session: commands make it (``begun``) as soon as the number is settled.
"""

import os

from tensorpack.tfutils.common import get_default_sess_config

from engine.config import hardware
from engine.config.config import Config
from quant.backend import has_gpu, pool, tf

# A variable of the environment.
THREADS = 'TF_NUM_INTRAOP_THREADS'


def settled(config: Config, asked: int | None = None) -> Config:
    """The same with what follows from this machine: threads of operations, rewriting, quantizers.

    A run records them: sums in another order round otherwise. The variable of the environment that
    TensorFlow reads, which is set for trainings side by side, comes before the number of cores.

    Args:
        config: of the run.
        asked: what ``--threads`` says.
    """
    threads = config.operation_threads
    if asked is not None:
        threads = max(1, asked)
    environment = os.environ.get(THREADS, '')
    if not threads and environment.isdigit():
        threads = int(environment)
    if not threads:
        threads = max(1, hardware.cores() // len(config.gpu))
    rewriting = config.rewriting
    if rewriting == 'auto':
        above = config.network().rewritten_above
        # GPUs need the layouts that it chooses.
        rewriting = 'on' if has_gpu() or max(config.sizes) > above else 'off'
    native = config.native
    if native == 'auto':
        native = 'require' if hardware.takes_native(config) else 'off'
    return config.replacing(operation_threads=threads, rewriting=rewriting, native=native)


def begun(config: Config, asked: int | None = None) -> Config:
    """``settled``, and the threads of operations are made, before any session makes others.

    Args:
        config: of the run.
        asked: what ``--threads`` says.
    """
    config = settled(config, asked)
    pool(config.operation_threads)
    return config


def session_config(config: Config, towers: int) -> tf.ConfigProto:
    """How TensorFlow's session of a configuration is made.

    Args:
        config: of the run.
        towers: of this process that may wait for each other.
    """
    config = settled(config)
    made = get_default_sess_config()
    made.intra_op_parallelism_threads = config.operation_threads
    side_by_side = operations_side_by_side(towers)
    made.inter_op_parallelism_threads = side_by_side
    made.use_per_session_threads = side_by_side > 0
    rewriting = made.graph_options.rewrite_options
    rewriting.disable_meta_optimizer = config.rewriting == 'off'
    if not has_gpu():
        # A second time takes as long as the first, and no step was faster for it.
        rewriting.meta_optimizer_iterations = 1
    return made


def operations_side_by_side(towers: int) -> int:
    """Threads that start operations: at least two, and more than there are towers.

    Every tower that fetches a batch ahead may keep one until the others are as far; TensorFlow's
    default, which 0 stands for, is the number of cores.
    """
    return 0 if hardware.cores() > towers else towers + 1


def line(config: Config, decoding: int) -> str:
    """The threads of a run, and whether its graph is rewritten, in words.

    Args:
        config: of the run.
        decoding: threads that decode images.
    """
    config = settled(config)
    rewritten = 'as it was built'
    if config.rewriting == 'on':
        rewritten = 'rewritten by TensorFlow before the first step'
    return (
        f'threads: {config.operation_threads} within operations, {decoding} decoding '
        f'(OpenCV adds none); graph {rewritten}'
    )
