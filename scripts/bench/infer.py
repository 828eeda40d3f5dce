"""Inference benchmarks: one file for each kind of choice that is made at run time."""

import argparse
import importlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

import nets
from engine import families
from engine.timing import Taken
from scripts import parser

# Of something dynamic against the static network: served in the same way, and as the graph of
# evaluation, whose normalisations are operations of their own.
RATIOS = (
    'MAdds ratio',
    'time ratio',
    'time / MAdds',
    'CPU / MAdds',
    'CPU / MAdds, unfolded',
)

Costs = Mapping[str, Sequence[Taken]]


def timed() -> list[str]:
    """Networks that have a benchmark."""
    return [net for net in nets.names() if families.get(net).benchmark]


def infer(argv: Sequence[str]) -> None:
    """Dynamic against static inference."""
    p = argparse.ArgumentParser(prog='bench infer', add_help=False, allow_abbrev=False)
    p.add_argument('--net', choices=timed(), default=timed()[0])
    own, rest = p.parse_known_args(argv)
    module = importlib.import_module(f'scripts.bench.{families.get(own.net).benchmark}')
    module.infer(own.net, rest)


def flags(
    net: str, description: str | None, *, rounds: int, rounds_help: str
) -> argparse.ArgumentParser:
    """The flags that all these benchmarks have.

    Args:
        net: Name of the network.
        description: Docstring of the benchmark.
        rounds: Default of ``--rounds``.
        rounds_help: What takes turns.
    """
    p = parser(f'bench infer --net {net}', description)
    p.add_argument('--net', choices=timed(), default=net, help='each has other flags')
    p.add_argument('--batches', type=int, nargs='+', default=[1, 32], help='images; default 1 32')
    p.add_argument('--rounds', type=int, default=rounds, help=f'{rounds_help}; default {rounds}')
    p.add_argument('--threads', type=int, default=0, help='of one operation; 0: all cores')
    return p


def report(
    net: str, headers: Sequence[str], rows: Sequence[Sequence[float]], *lines: str, **more: Any
) -> None:
    """Prints the measurements as a table, and as a line of JSON.

    Args:
        net: Name of the network.
        headers: Of the columns.
        rows: Measurements.
        *lines: Text below the table.
        **more: Further values for the JSON.
    """
    print(tabulate(rows, headers=headers, floatfmt='.3g'))
    for line in lines:
        print(line)
    records = [dict(zip(headers, map(float, row))) for row in rows]
    print(json.dumps({'bench': 'infer', 'net': net, **more, 'rows': records}))


def over(costs: Costs, way: str, other: str) -> Taken:
    """Median over the rounds of what a way takes, divided by what another one takes.

    Args:
        costs: Of every round, by way.
        way: That is divided.
        other: By which.
    """
    cpu, wall = [], []
    for taken, whole in zip(costs[way], costs[other], strict=True):
        cpu.append(taken.cpu_s / whole.cpu_s)
        wall.append(taken.wall_s / whole.wall_s)
    return Taken(statistics.median(cpu), statistics.median(wall))


def ratios(costs: Costs, way: str, madds: float) -> tuple[float, ...]:
    """The columns ``RATIOS``.

    Args:
        costs: Of every round, by way; ``static`` and ``unfolded`` are the network in whole.
        way: Something dynamic.
        madds: What it executes of all multiply-adds, as a share.
    """
    served = over(costs, way, 'static')
    unfolded = over(costs, way, 'unfolded')
    return (
        madds,
        served.wall_s,
        served.wall_s / madds,
        served.cpu_s / madds,
        unfolded.cpu_s / madds,
    )


def milliseconds(costs: Costs, way: str) -> float:
    """Median wall time of a way."""
    return 1e3 * statistics.median(taken.wall_s for taken in costs[way])


def worked(config: Any) -> tuple[Any, dict[str, Any]]:
    """A checkpoint at a network's starting values, and its layer records by operating point.

    Its normalisation looks trained: one that adds nothing is left out where a graph is served.

    Args:
        config: Of the network.
    """
    from engine.graph.inference import InferenceModel
    from engine.runs.checkpoint import Checkpoint

    model = InferenceModel(config, data_format='NHWC')
    _, layers = model.inspect()
    rng = np.random.default_rng(0)
    values = {}
    for name, value in model.starting_values().items():
        if name.endswith(('/gamma', '/variance/EMA')):
            value = rng.uniform(0.8, 1.2, value.shape).astype(np.float32)
        elif name.endswith(('/beta', '/mean/EMA')):
            value = rng.normal(0, 0.1, value.shape).astype(np.float32)
        values[name] = value
    return Checkpoint('made up', values, config), layers


def served(frozen: Any, threads: int) -> Callable[..., list[np.ndarray]]:
    """A program as ``Predictor`` runs it.

    Args:
        frozen: its graph.
        threads: of one operation; 0 takes all cores.
    """
    from engine.deployment.tf_graph import serving

    (run,) = serving(frozen, threads)
    return run


def static(source: Any, point: str, threads: int) -> Callable[..., list[np.ndarray]]:
    """The same of one operating point, in which nothing is left out for an image.

    Args:
        source: a checkpoint.
        point: spelling of the point.
        threads: of one operation; 0 takes all cores.
    """
    from engine.deployment import trace
    from engine.deployment.tf_graph import graph_of

    return served(graph_of(trace.of_points(source, [point]), [point]), threads)


def unfolded(source: Any, point: str, threads: int) -> Callable[..., list[np.ndarray]]:
    """The same by the graph of evaluation, with constants for variables.

    Args:
        source: a checkpoint.
        point: spelling of the point.
        threads: of one operation; 0 takes all cores.
    """
    from engine.graph import freeze

    (run,) = freeze.named(source, point, static=True).runs(threads)
    return run


def told(frozen: Any) -> Any:
    """A graph that takes the answers of its gates behind the images, and still computes gates.

    Args:
        frozen: Of a program that chooses image by image.
    """
    (signature,) = frozen.signatures
    feeds, fetches = [*signature.feeds], [*signature.fetches]
    for node in frozen.graph_def.node:
        if node.op == 'ArgMax':
            feeds.append(f'{node.name}:0')
            fetches.append(f'{node.input[0]}:0')
    return frozen._replace(signatures=[signature._replace(feeds=feeds, fetches=fetches)])
