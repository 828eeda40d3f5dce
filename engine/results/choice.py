"""A way to run a network that a budget can be spent on, and the commands that evaluate it."""

import dataclasses
import math
import shlex

from engine.files import in_shell
from engine.results import exit_thresholds
from engine.results.cascades import Cascade, Stored
from engine.results.chains import LAST
from nets.points import DYNAMIC, Point


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to run a network.

    Attributes:
        run: Its run folder.
        point: Spelling of the operating point, or of the size whose exits a policy is about.
        top1: Percent right on the validation images.
        madds: Mean multiply-adds of an image.
        weight_bytes: Of the packed weights; None if unknown.
        ms: Milliseconds of one image alone; None if not measured on the device.
        policy: Thresholds of the exits, or None.
        stored: A cascade and its file, or None; of a file of many, a command comes first that
            writes one alone.
        shares: With a policy, of the validation images, by the exit where they leave.
        conditions: What it was measured on: choices of other conditions are not compared.
        data: What evaluation has to be given as ``--data``; empty where the run knows it.
        device: That ``ms`` were measured on.
        bit_ops: Mean multiply-adds of an image, each times the bits of its factors; None where
            images take different ways.
    """

    run: str
    point: str
    top1: float
    madds: float
    weight_bytes: int | None
    ms: float | None = None
    policy: exit_thresholds.ExitPolicy | None = None
    shares: tuple[float, ...] = ()
    stored: Stored | None = None
    conditions: str = dataclasses.field(default='', compare=False)
    data: str = dataclasses.field(default='', compare=False)
    device: str = dataclasses.field(default='', compare=False)
    bit_ops: float | None = dataclasses.field(default=None, compare=False)

    @property
    def cascade(self) -> Cascade | None:
        """A chain of points with thresholds, or None."""
        return self.stored.cascade if self.stored is not None else None

    @property
    def commands(self) -> list[str]:
        """Command lines that evaluate it."""
        run = in_shell(self.run)
        evaluate = f'python imagenet_tf.py --eval -ec {run}'
        if self.data:
            evaluate += f' --data {shlex.quote(self.data)}'
        if self.policy is not None:
            size = self.policy.size
            # Rounded down, the first exit could not be paid.
            asked = math.ceil(self.policy.budget)
            file = f'{run}/exits/thresholds-s{size}-{asked}.json'
            return [
                f'python -m scripts.thresholds {run} --budget {asked} --size {size}',
                f'{evaluate} --thresholds {file}',
            ]
        if self.stored is not None:
            return self._cascaded(self.stored, run, evaluate)
        if self.point.endswith(DYNAMIC):
            return [evaluate]
        point = Point.parse(self.point)
        if point.size is not None:
            evaluate += f' -es {point.size}'
        if point.width is not None:
            evaluate += f' -ew {point.width}'
        if point.bits is not None:
            evaluate += f' -eb {point.bits}'
        return [evaluate]

    def _cascaded(self, stored: Stored, run: str, evaluate: str) -> list[str]:
        """Commands that evaluate a cascade, chosen once more alone where its file holds many.

        Args:
            stored: The cascade.
            run: Its run folder, as a shell takes it.
            evaluate: Command that evaluates the run.
        """
        if not stored.of_sweep:
            return [f'{evaluate} --cascade {in_shell(stored.file)}']
        cascade = stored.cascade
        # Rounded down, its first stage could not be paid.
        asked = math.ceil(cascade.holdout.cost)
        file = stored.file.with_name(f'{self.point}-{asked}-{cascade.combine}.json')
        flags = [f'--cascade {" ".join(cascade.points)}', f'--budget {asked}']
        if cascade.combine != LAST:
            flags.append(f'--combine {cascade.combine}')
        if cascade.calibration:
            flags.append('--calibrate-confidence')
        flags.append(f'--out {in_shell(file)}')
        return [
            f'python -m scripts.thresholds {run} {" ".join(flags)}',
            f'{evaluate} --cascade {in_shell(file)}',
        ]

    @property
    def kind(self) -> str:
        """How images pass, where they do not all end at one point."""
        if self.policy is not None:
            return 'exit thresholds'
        return 'cascade' if self.cascade is not None else ''

    def describe(self) -> str:
        """One line of text."""
        how = f' with {self.kind}' if self.policy else ''
        if self.cascade is not None:
            how = f' as a {self.kind}'
        parts = [
            f'{self.run} at {self.point}{how}',
            f'top-1 {self.top1:.2f} %',
            f'{self.madds / 1e6:.2f} M multiply-adds',
        ]
        if self.ms is not None:
            where = f' on {self.device}' if self.device else ''
            parts.append(f'{self.ms:.2f} ms{where}')
        if self.weight_bytes is not None:
            parts.append(f'{self.weight_bytes / 1e6:.3g} MB of weights')
        return ', '.join(parts)
