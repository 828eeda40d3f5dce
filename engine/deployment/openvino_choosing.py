"""Models in OpenVINO at whose end images choose: a branch is compiled when one first takes it.

OpenVINO compiles all branches of a choice, of which a network that chooses among N widths has N
as large as itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import openvino

from engine.deployment.openvino_branches import inline

# The outputs of a model in their order, of its inputs in theirs; valid until the next call.
Execute = Callable[[Sequence[Any]], list[Any]]

# Makes such a function of a whole model.
Compile = Callable[[openvino.Model], Execute]


def prepared(model: openvino.Model, compiled: Compile) -> Execute:
    """A model that is compiled as far as the choice that decides all that follows.

    Of any other model all is compiled: parts of many choices would be handed to one another.

    Args:
        model: of known shapes.
        compiled: compiles one.
    """
    choices = [node for node in model.get_ordered_ops() if node.get_type_name() == 'If']
    if len(choices) != 1:
        return compiled(model)
    return _Choosing(model, choices[0], compiled)


class _Choosing:
    """A model in two parts: up to its only choice, and from there on.

    Args:
        model: of known shapes.
        choice: in it.
        compiled: compiles one.
    """

    def __init__(self, model: openvino.Model, choice: openvino.Node, compiled: Compile):
        self._model, self._compiled = model, compiled
        parts = _Parts(model, choice)
        wanted = [choice.input_value(0), *parts.handed, *parts.known]
        # A copy: names of its outputs are its own.
        head = openvino.Model(wanted, model.get_parameters()).clone()
        self._head = compiled(head)
        self._handed, self._decided = len(parts.handed), parts.decided
        self._branches: dict[bool, Execute] = {}

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        condition, *values = self._head(inputs)
        handed, outputs = values[: self._handed], values[self._handed :]
        taken = bool(condition.data.item())
        if taken not in self._branches:
            self._branches[taken] = prepared(self._branch(taken), self._compiled)
        for place, value in zip(self._decided, self._branches[taken](handed)):
            outputs.insert(place, value)
        return outputs

    def _branch(self, taken: bool) -> openvino.Model:
        """The model of what follows, whose inputs are what is handed to it.

        Args:
            taken: the value of the condition.
        """
        model = self._model.clone()
        (choice,) = [node for node in model.get_ops() if node.get_type_name() == 'If']
        parts = _Parts(model, choice)
        inputs = parts.cut()
        inline(choice, 0 if taken else 1)
        outputs = [model.get_results()[place].input_value(0) for place in parts.decided]
        return openvino.Model(outputs, inputs)


class _Parts:
    """Nodes before a choice, and those behind it.

    Args:
        model: whose choice it is.
        choice: a node in it.

    Attributes:
        handed: what nodes behind read of those before that depend on images.
        known: outputs of the model that the choice does not decide.
        decided: numbers of the outputs that it decides.
    """

    def __init__(self, model: openvino.Model, choice: openvino.Node):
        of_images = _reached(model, model.get_parameters())
        decided = _reached(model, [choice])
        # Where it is read, by what makes it and the number of its output.
        self._reading: dict[tuple[int, int], list[Any]] = {}
        for node in model.get_ordered_ops():
            if node.get_instance_id() not in decided:
                continue
            for target in node.inputs():
                source = target.get_source_output()
                maker = source.get_node().get_instance_id()
                if maker in of_images and maker not in decided:
                    key = maker, source.get_index()
                    self._reading.setdefault(key, []).append(target)
        self.handed = [targets[0].get_source_output() for targets in self._reading.values()]
        self.known: list[openvino.Output] = []
        self.decided: list[int] = []
        for number, result in enumerate(model.get_results()):
            if result.get_instance_id() in decided:
                self.decided.append(number)
            else:
                self.known.append(result.input_value(0))

    def cut(self) -> list[Any]:
        """Inputs in the place of what is handed over."""
        inputs = []
        for source, targets in zip(self.handed, self._reading.values()):
            made = openvino.opset13.parameter(source.get_partial_shape(), source.get_element_type())
            for target in targets:
                target.replace_source_output(made.output(0))
            inputs.append(made)
        return inputs


def _reached(model: openvino.Model, starts: Sequence[openvino.Node]) -> set[int]:
    """Numbers of some nodes and of all that depend on them.

    Args:
        model: of the nodes.
        starts: the nodes.
    """
    found = {node.get_instance_id() for node in starts}
    for node in model.get_ordered_ops():
        for source in node.input_values():
            if source.get_node().get_instance_id() in found:
                found.add(node.get_instance_id())
    return found
