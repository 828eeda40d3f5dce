"""Which operating points answer the images of a run together."""

from types import SimpleNamespace

from engine.evaluation import point_answers


def test_points_of_one_view():
    """A size that was calibrated later reads larger views, and `dynamic` is no point."""

    def view_of(name):
        return SimpleNamespace(image_size=24 if name == 's24' else 20)

    points = ['s20', 's12', 's24', 's16', 's20-dynamic']
    config = SimpleNamespace(image_size=20)
    backend = SimpleNamespace(config=config, points=points, view_of=view_of)
    assert point_answers.of_one_view(backend) == ['s20', 's12', 's16']
    assert point_answers.ordered(backend) == ['s12', 's16', 's20']
