"""Shows what a training would do without doing it (``--dry-run``), and how long (``--measure``)."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config import hardware, overview
from engine.config.cli import worker_count
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.quantities import counted
from engine.runs.folder import checkpoints, placed
from engine.training import preparing, starting, teachers
from engine.training.stages import Stage
from nets import cost

# Seconds of an hour.
HOUR = 3600.0


def show(args: argparse.Namespace, chain: Sequence[Stage], logdir: Path | None) -> None:
    """Prints what a command would train; writes nothing.

    Args:
        args: flags.
        chain: the trainings that they stand for.
        logdir: of the chain, if given.

    Raises:
        UsageError: flags, data or folder do not allow it.
    """
    before = None
    for stage in chain:
        if len(chain) > 1:
            print(f'-- {stage.title or "first stage"}')
        before = _show(args, stage.given, stage.folder(logdir), before)
    print('dry run: nothing was trained or written')


def _show(
    args: argparse.Namespace, given: Mapping[str, Any], logdir: Path | None, before: Path | None
) -> Path:
    """Prints what one training would be.

    Args:
        args: flags.
        given: options by name.
        logdir: of the training, if given.
        before: folder of the stage before, whose weights need not be there yet; None without one.

    Returns:
        Its folder.
    """
    config, dataset, notes = resolve(given, starting.described(given))
    if before is not None:
        config = config.replacing(load=str(before))
    folder = placed(logdir or Path('train_log') / config.name, args.action)
    ready = preparing.prepare(args, config, dataset, notes, folder, given=set(given), dry=True)
    from engine.graph import sessions
    from engine.graph.inference import InferenceModel

    data_format, threads = hardware.prepare(config, dataset, args)
    config = sessions.begun(ready.config, args.threads)
    starting.check_parts(config)
    values = starting.starting_values(config) if before is None else None
    _, layers = InferenceModel(config, data_format='NHWC').inspect()
    step = max(checkpoints(folder), default=0) if ready.goes_on else 0
    lines = [
        _folder_line(folder, step, config, ready.goes_on),
        *overview.network_lines(config),
        *overview.training_lines(config),
        *overview.machine_lines(config, sessions.line(config, threads)),
        *overview.cost_lines(layers),
        memory_line(config, layers, worker_count(args)),
    ]
    print('\n'.join(lines), flush=True)
    if not args.measure:
        print('time: --measure takes some steps, and says how many hours it would be')
        return folder
    from engine.training import measuring

    taught = teachers.find(config, dataset.classes, folder=None, data_format=data_format)
    measured = measuring.measure(
        config,
        ready.dataset,
        values or {},
        data_format=data_format,
        threads=threads,
        teacher=taught.teacher if taught is not None else None,
    )
    print('\n'.join(time_lines(config, step, len(ready.dataset.val), measured)))
    return folder


def _folder_line(folder: Path, step: int, config: Config, goes_on: bool) -> str:
    text = f'run folder {folder}, a new one'
    if goes_on:
        text = f'run folder {folder}, resuming at step {step}'
    if step >= config.course.steps:
        text = f'run folder {folder}, complete'
    return text


def memory_line(
    config: Config, layers: Mapping[str, Sequence[cost.LayerRecord]], workers: int = 1
) -> str:
    """Memory of a step, as far as it follows from the layers.

    Args:
        config: of the run.
        layers: of every operating point, strongest first.
        workers: that share a batch, each by its devices.
    """
    images = config.batch_size // (workers * len(config.gpu))
    kept = 4 * cost.kept_values(layers) * images
    strongest = cost.cumulative(layers, next(iter(layers)))
    # Value, gradient and what the optimizer keeps.
    copies = 2 + len(config.optimization.rule().slots)
    weights = 4 * cost.parameters(strongest) * copies
    whole, kept_text = overview.scaled(kept + weights), overview.scaled(kept)
    return (
        f'memory of a step, estimated: {whole}B per device, {kept_text}B of it activations of '
        f'{counted(images, "image")}'
    )


def time_lines(config: Config, step: int, images: int, measured: Any) -> list[str]:
    """Time of a training by measured steps.

    Args:
        config: of the run.
        step: that it is at.
        images: of a scoring.
        measured: see ``engine.training.measuring``.
    """
    steps = max(config.course.steps - step, 0)
    training = steps * measured.step_seconds
    scored = overview.scorings(config, step // config.steps_per_epoch)
    scoring = scored * images / measured.scored_per_second
    speed = config.batch_size / measured.step_seconds
    peak = ''
    if measured.peak_bytes:
        peak = f'; peak memory {overview.scaled(measured.peak_bytes)}B'
    return [
        f'measured: {1e3 * measured.step_seconds:.0f} ms a step (median of {measured.steps}), '
        f'{speed:.0f} images/s in training and {measured.scored_per_second:.0f} in scoring{peak}',
        f'time: {(training + scoring) / HOUR:.2f} hours: {training / HOUR:.2f} for '
        f'{counted(steps, "step")}, {scoring / HOUR:.2f} for scoring {counted(images, "image")} '
        f'{counted(scored, "time")}',
    ]
