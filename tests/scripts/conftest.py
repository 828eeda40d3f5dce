"""Run folders made by hand, as the tests of ``engine.results`` have them."""

from tests.engine.results.conftest import (  # noqa: F401
    exits,
    gated,
    routed,
    rs_net,
    static,
)
