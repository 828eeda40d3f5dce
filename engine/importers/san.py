"""Published checkpoints of SAN (PyTorch)."""

from typing import Any

from engine.errors import UsageError
from engine.importers.importer import Importer, Published, Tensors
from engine.importers.rsnet import generated, switchable, switchable_fields

# The published code encodes its positions as 0.7, 0.6 ..., whatever their sizes.
_FIRST_CODE, _CODE_STEP = 0.7, 0.1


class SANImporter(Importer):
    """Networks whose kernels are generated from the input size."""

    def recognizes(self, tensors: Tensors) -> bool:
        """Whether normalisations are numbered and kernels are generated."""
        return switchable(tensors) and generated(tensors)

    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config``.

        Raises:
            UsageError: the sizes do not fit, or the architecture is not known.
        """
        fields = switchable_fields(published)
        sizes = fields['sizes']
        encoding = sizes[0] / _FIRST_CODE  # pixels that are encoded as 1
        for position, size in enumerate(sizes):
            code = _FIRST_CODE - _CODE_STEP * position
            if abs(size / encoding - code) > 1e-6:
                raise UsageError(
                    f'--sizes {" ".join(map(str, sizes))}: a published SAN encodes its positions '
                    'as 0.7, 0.6 ..., to which these sizes are not proportional'
                )
        return {**fields, 'encoding': encoding, 'kd': True, 'kd_type': 'topdown'}
