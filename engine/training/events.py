"""TensorBoard's file: metrics by step and by epoch, the configuration, histograms on request."""

import json
from collections.abc import Callable
from typing import Any

from tensorpack import TFEventWriter
from tensorpack.tfutils.summary import create_scalar_summary
from tensorpack.utils import logger

from engine.config import groups
from engine.config.config import Config
from engine.errors import reason
from engine.graph.tower import Model
from engine.runs import history
from quant.backend import tf

# So many values of the loss are written in an epoch.
OF_EPOCH = 100

# Start of the tags of histograms.
WEIGHTS = 'weights'


class Events(TFEventWriter):
    """TensorBoard's file. Where there is no room for it, that is said, and the training goes on.

    Tags are the names of the history, see ``history.tag``; the loss is that of single steps.

    Args:
        model: whose training towers have been built.
        logdir: where; None: the folder of tensorpack's logger.
        histograms: whether those of all trained variables are written at the end of every epoch.
    """

    def __new__(cls, model: Model, logdir: str | None = None, **_: Any) -> Any:
        """A writer for this folder, or that of tensorpack's logger."""
        return super().__new__(cls, logdir)

    def __init__(self, model: Model, logdir: str | None = None, *, histograms: bool = False):
        super().__init__(logdir)
        self._model = model
        self._histograms = histograms

    def _setup_graph(self) -> None:
        super()._setup_graph()
        self._loss = tf.train.SessionRunArgs(self._model.losses[0][history.TENSOR])
        if self._histograms:
            of_variables = []
            for variable in tf.trainable_variables():
                name = f'{WEIGHTS}/{variable.op.name}'
                of_variables.append(tf.summary.histogram(name, variable, collections=[]))
            self._merged = tf.summary.merge(of_variables, collections=[])

    def _before_train(self) -> None:
        super()._before_train()
        for summary in described(self._model.config):
            self._add(summary)

    def _before_run(self, _: Any) -> 'tf.train.SessionRunArgs | None':
        steps = self.trainer.steps_per_epoch
        if self.local_step % max(1, steps // OF_EPOCH):
            return None
        return self._loss

    def _after_run(self, _: Any, values: 'tf.train.SessionRunValues') -> None:
        if values.results is not None:
            self._add(create_scalar_summary(history.LOSS, float(values.results)))

    def process_summary(self, summary: 'tf.Summary') -> None:
        """Writes a summary by our names."""
        renamed = tf.Summary()
        for value in summary.value:
            name = history.tag(value.tag)
            if name != history.LOSS:
                renamed.value.add().CopyFrom(value)
                renamed.value[-1].tag = name
        if renamed.value:
            self._add(renamed)

    def _trigger_epoch(self) -> None:
        if self._histograms:
            self._add(self.trainer.sess.run(self._merged))
        super()._trigger_epoch()

    def _add(self, summary: Any) -> None:
        self._try(lambda: self._writer.add_summary(summary, self.global_step))

    def _trigger(self) -> None:
        self._try(super()._trigger)

    def _after_train(self) -> None:
        self._try(super()._after_train)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, RuntimeError, tf.errors.OpError) as error:
            logger.warning(f'TensorBoard events cannot be written ({reason(error)})')


def described(config: Config) -> list[bytes]:
    """Summaries of a configuration: a page of text, and what TensorBoard compares runs by."""
    from tensorboard.plugins.hparams import api, summary_v2
    from tensorboard.plugins.text import summary as text

    pages = []
    for group, options in config.to_json().items():
        if isinstance(options, dict):
            pages.append(f'**{group}**\n\n    {json.dumps(options, default=str)}')
    values = hyperparameters(config)
    domains = {api.HParam(name): value for name, value in values.items()}
    names = [history.metric('top1', str(point)) for point in config.network().points]
    metrics = [api.Metric(name) for name in (history.MEAN_TOP1, *names[:1], history.LOSS)]
    made = [
        text.pb('config', '\n\n'.join(pages)),
        summary_v2.hparams_config_pb(list(domains), metrics),
        summary_v2.hparams_pb(values),
    ]
    return [summary.SerializeToString() for summary in made]


def hyperparameters(config: Config) -> dict[str, Any]:
    """Options of a run by name as numbers, truth values and texts.

    Those of its folder and machine are left out.

    >>> found = hyperparameters(Config.from_values(lr=0.2, sizes=(224, 160)))
    >>> found['lr'], found['sizes'], found['qw'], 'gpu' in found
    (0.2, '224 160', 32, False)
    """
    found = {}
    for name, value in config.flat().items():
        if groups.owner(name) == 'machine' or value is None:
            continue
        if isinstance(value, tuple):
            value = ' '.join(map(str, value))
        found[name] = value
    return found
