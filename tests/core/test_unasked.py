"""What nobody asked for has a limit, in jobs that are submitted within as well, and none outside."""

from workbench.core.unasked import longest_unasked, unasked
from workbench.session.lane import Lane


def test_the_limit_holds_within_and_goes_with_jobs():
    assert longest_unasked() is None
    outer, inner = Lane("outer"), Lane("inner")
    with unasked(3.0):
        job = outer.submit(lambda: inner.submit(longest_unasked).result(5))
        with unasked(1.0):
            assert longest_unasked() == 1.0
        assert longest_unasked() == 3.0
    assert job.result(5) == 3.0, "a lane that works for another keeps to its limit"
    assert longest_unasked() is None and outer.run(longest_unasked) is None
    outer.close()
    inner.close()
