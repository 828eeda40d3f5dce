"""Studies that train nothing: workers that are done at once, and all tasks of a plan."""

import dataclasses
import json

from scripts import study_tasks


class Instant:
    """Workers that give every task a score at once, and keep its name.

    ``stop_at`` is the number of tasks after which they are interrupted; ``measured`` gives
    what is measured of a result.
    """

    def __init__(self, measured):
        self.names, self.stop_at = [], None
        self.waiting, self.measured = [], measured

    def __call__(self, count):
        self.count = count
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.waiting.clear()

    @property
    def idle(self):
        return len(self.waiting) < self.count

    @property
    def busy(self):
        return {one.result.task for one in self.waiting}

    def start(self, asked):
        self.waiting.append(asked)

    def finished(self):
        if len(self.names) == self.stop_at:
            raise KeyboardInterrupt
        asked = self.waiting.pop(0)
        self.names.append(asked.result.task)
        result = dataclasses.replace(asked.result, **self.measured(asked.result))
        path = asked.records / f'{result.task}.json'
        path.write_text(json.dumps(dataclasses.asdict(result)))
        yield result


def installed(monkeypatch, measured):
    """Such workers in place of those of ``scripts.study``."""
    workers = Instant(measured)
    monkeypatch.setattr(study_tasks, 'Workers', workers)
    return workers


def all_tasks(plan, measured):
    """Every task of a study, by doing what is known until nothing is left.

    ``plan`` makes its plan of what is done.
    """
    done = {}
    while True:
        tasks = list(plan(done).tasks())
        todo = [task for task in tasks if task.name not in done]
        if not todo:
            return tasks
        for task in todo:
            done[task.name] = dataclasses.replace(task.result, **measured(task.result))
