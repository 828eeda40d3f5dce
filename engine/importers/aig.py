"""Published checkpoints of ConvNet-AIG (PyTorch)."""

from typing import Any

from engine.families.recipes import PYTORCH
from engine.importers.importer import Importer, Published, Tensors
from engine.importers.rsnet import gated, one_size_fields, residual


class AIGImporter(Importer):
    """Residual networks with gates."""

    holds = 'ConvNet-AIG'

    def recognizes(self, tensors: Tensors) -> bool:
        """Whether it is a ResNet with gates."""
        return residual(tensors) and gated(tensors) and 'linear.bias' in tensors

    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config``.

        Raises:
            UsageError: several sizes were given, or no ResNet has these blocks.
        """
        found = one_size_fields(published, published.tensors['linear.bias'])
        defaults = self.family.defaults(found['arch'])
        return {**PYTORCH, **defaults, **found, 'faithful_gates': True}
