"""Networks that tests look at without running them: each is built once for a configuration.

A test of what ``inspect`` and ``starting_values`` do themselves calls ``INSPECT`` and
``STARTING_VALUES`` of a model.
"""

from engine.graph.inference import InferenceModel
from nets.backbones import resnet, slimmable

INSPECT = InferenceModel.inspect
STARTING_VALUES = InferenceModel.starting_values

# By what a network is made of; forms of backbones are made shallow by some tests.
_found: dict = {}


def _once(made, model: InferenceModel):
    """What a function gives for a network, which it is asked for once."""
    config = model.config.replacing(load=None, data='')
    options = tuple(sorted(model.options.items()))
    forms = repr((resnet.FORMS, slimmable.MOBILENETS))
    key = made, type(model.net), config, model.data_format, options, forms
    if key not in _found:
        _found[key] = made(model)
    return _found[key]


def inspect(model: InferenceModel):
    """Stands for ``InferenceModel.inspect``."""
    variables, layers = _once(INSPECT, model)
    return dict(variables), {point: list(records) for point, records in layers.items()}


def starting_values(model: InferenceModel):
    """Stands for ``InferenceModel.starting_values``."""
    values = _once(STARTING_VALUES, model)
    return {name: value.copy() for name, value in values.items()}
