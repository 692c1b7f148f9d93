"""Progress is logged once a second at most, and at the end."""

from roireg.pace import Pace


def test_quick_steps_are_logged_at_the_beginning_and_the_end_alone():
    pace = Pace(seconds=1000.0)
    assert [done for done in range(1, 101) if pace.due(done, 100)] == [1, 100]


def test_steps_that_are_slower_than_the_pace_are_all_logged():
    pace = Pace(seconds=0.0)
    assert [done for done in range(1, 5) if pace.due(done, 4)] == [1, 2, 3, 4]
