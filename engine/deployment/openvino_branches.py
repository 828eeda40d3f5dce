"""Facts about a model in OpenVINO before it is compiled: inputs, and branches that follow.

Where the operating point alone decides a choice, one branch of it is left. Otherwise OpenVINO
prepares all of them, and cuts every kernel for each.
"""

import numpy as np
import openvino
from openvino import opset8
from openvino.passes import ConstantFolding, Manager


def replace(node: openvino.Node, value: np.ndarray) -> None:
    """Gives all that reads a node a constant in its place."""
    constant = opset8.constant(value)
    for target in node.output(0).get_target_inputs():
        target.replace_source_output(constant.output(0))


def replace_constants(model: openvino.Model, name: str, value: np.ndarray) -> None:
    """Replaces constants, of which every branch of a model has one of its own.

    Args:
        model: to change.
        name: of the constants, some of which get a number behind it.
        value: of those that replace them.
    """
    for node in model.get_ops():
        if node.get_type_name() == 'If':
            for branch in range(2):
                replace_constants(node.get_function(branch), name, value)
        elif node.get_friendly_name().partition('_')[0] == name:
            replace(node, value)


def settle(model: openvino.Model) -> None:
    """Puts the branch that is taken in the place of every choice that constants decide."""
    changed = True
    while changed:
        changed = False
        # Choices in a branch are among the operations of the model when it has been put there.
        for node in model.get_ordered_ops():
            if node.get_type_name() != 'If':
                continue
            taken = _known(node.input_value(0))
            if taken is not None:
                inline(node, 0 if taken else 1)
                changed = True
    model.validate_nodes_and_infer_types()


def _known(condition: openvino.Output) -> bool | None:
    """The value that a condition has whatever the images are; None if they decide."""
    waiting = [condition.get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == 'Parameter':
            return None
        waiting += [source.get_node() for source in node.input_values()]
    alone = openvino.Model([condition], []).clone()
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(alone)
    found = alone.get_results()[0].input_value(0).get_node()
    return bool(found.get_data().item())


def inline(node: openvino.Node, branch: int) -> None:
    """Gives all that reads a choice the results of a branch.

    Args:
        node: the choice.
        branch: 0 is that of a true condition, 1 the other one.
    """
    body = node.get_function(branch)
    parameters, results = body.get_parameters(), body.get_results()
    for given in node.get_input_descriptions(branch):
        source = node.input_value(given.input_index)
        for target in parameters[given.body_parameter_index].output(0).get_target_inputs():
            target.replace_source_output(source)
    for made in node.get_output_descriptions(branch):
        source = results[made.body_value_index].input_value(0)
        for target in node.output(made.output_index).get_target_inputs():
            target.replace_source_output(source)
