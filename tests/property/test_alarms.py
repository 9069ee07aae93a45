"""Who is told: everybody what is wrong, nobody the same twice, and once that all is well, whatever the clock does."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opskit.model.alarms import Memory, decide_alarms
from opskit.model.freshness import FreshnessFinding, Severity
from tests.support.records import EPOCH

DAY = timedelta(days=1)
NAMES = ("newest backup", "last backup", "WAL slot")


def findings(wrong: set[str]) -> list[FreshnessFinding]:
    """Findings of which these are wrong."""
    return [
        FreshnessFinding(
            name=name,
            severity=Severity.CRITICAL if name in wrong else Severity.OK,
            message=f"{name} is so",
        )
        for name in NAMES
    ]


steps = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES)),
        st.booleans(),  # whether the receiver takes it
        st.timedeltas(timedelta(0), timedelta(hours=30)),
    ),
    min_size=1,
    max_size=30,
)


@given(steps)
def test_a_receiver_hears_each_thing_once_a_day_and_that_all_is_well_once(
    history: list[tuple[set[str], bool, timedelta]],
) -> None:
    """Against a model that keeps when each thing was heard; what was not taken is tried at the next look."""
    memory: Memory = {}
    heard: dict[str, datetime] = {}
    known: set[str] = set()  # since all was well
    now = EPOCH
    for wrong, takes, later in history:
        now += later
        decision = decide_alarms(memory, {"main": findings(wrong)}, now, DAY)
        due = any(name not in heard or now - heard[name] >= DAY for name in wrong)
        assert (decision.notice is not None) == (due if wrong else bool(known))
        known |= wrong
        if decision.notice is None:
            memory = decision.once_told
            assert decision.once_told == decision.if_not
            continue
        listed = wrong or known
        assert all(f"{name} is so" in decision.notice.text for name in listed)
        assert ("well again" in decision.notice.title) == (not wrong)
        assert (decision.notice.severity is Severity.OK) == (not wrong)
        memory = decision.once_told if takes else decision.if_not
        if takes and wrong:
            heard |= dict.fromkeys(wrong, now)
        elif takes:
            heard, known = {}, set()


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_a_clock_that_jumps_silences_no_alarm(jump: timedelta) -> None:
    """Wherever the clock went, what is still wrong is told again within twice the time, by that clock."""
    memory = decide_alarms({}, {"main": findings({NAMES[0]})}, EPOCH, DAY).once_told
    now = EPOCH + jump
    told = [
        decide_alarms(memory, {"main": findings({NAMES[0]})}, now + n * DAY, DAY).notice
        for n in range(3)
    ]
    assert any(told)


def test_a_cluster_that_is_not_looked_at_is_left_alone() -> None:
    """Telling of one cluster forgets nothing of the others, and many are one message."""
    first = decide_alarms({}, {"a": findings({NAMES[0]})}, EPOCH, DAY).once_told
    second = decide_alarms(first, {"b": findings({NAMES[1]})}, EPOCH, DAY)
    assert set(second.once_told) == {"a", "b"}
    assert second.once_told["a"] == first["a"]
    fleet = {f"c{n}": findings(set(NAMES)) for n in range(1_000)}
    many = decide_alarms({}, fleet, EPOCH, DAY).notice
    assert many is not None
    assert many.title == "opskit: c0, c1, c2 and 997 more: 3000 things are wrong"
    assert len(many.text) < 4000
    assert "2980 more" in many.text
