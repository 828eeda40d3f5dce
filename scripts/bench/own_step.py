"""Our training step of a configuration in a process of its own, see ``turns``.

python -m scripts.bench.own_step JSON
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.config.config import Config
from scripts.bench import turns
from scripts.bench.train import step_graph


def prepared(config: Config) -> tuple[Mapping[str, Any], Callable[[], Any]]:
    """A description of a training step, and the step."""
    from quant.backend import new_graph, tf

    with new_graph() as graph:
        built = step_graph(config)
        sizes = [variable.shape.num_elements() for variable in tf.trainable_variables()]
        about = {
            'version': f'TensorFlow {tf.version.VERSION}',
            'parameters': sum(sizes),
            'graph_ops': len(graph.get_operations()),
            'madds': built.madds,
            'exchanged': built.exchanged,
        }
        return about, built.step


def main(argv: Sequence[str]) -> None:
    """Serves the step of the configuration that the only argument is."""
    (text,) = argv
    config = Config.from_json(json.loads(text), 'the argument')
    turns.serve(lambda: prepared(config))


if __name__ == '__main__':
    main(sys.argv[1:])
