"""The silence detector: who is suspected, when, and when nobody may be."""

from leaderless.dynamo.detector import SilenceDetector

MS = 1_000_000


def detector() -> SilenceDetector:
    return SilenceDetector(("n2", "n3"), 100 * MS, 500 * MS, 0)


def let_pass(it: SilenceDetector, start_ms: int, end_ms: int, *heard: str) -> list[str]:
    """Call it every 50 ms, with beats of ``heard``. Returns who was suspected, in order."""
    suspected = []
    for at_ms in range(start_ms, end_ms + 1, 50):
        suspected += [peer for peer, _ in it.check(at_ms * MS)]
        for peer in heard:
            it.heard(peer, at_ms * MS)
    return suspected


def test_silent_peer_is_suspected_after_the_time_and_told_once() -> None:
    it = detector()
    assert let_pass(it, 0, 450, "n2") == []
    assert it.alive("n3", 450 * MS)
    assert it.check(500 * MS) == [("n3", 500 * MS)]
    assert not it.alive("n3", 500 * MS)
    assert it.alive("n2", 500 * MS)
    assert let_pass(it, 550, 2000, "n2") == []


def test_peers_have_the_benefit_of_the_doubt_at_the_start() -> None:
    it = detector()
    it.check(0)
    assert it.alive("n2", 0)
    assert it.alive("n3", 0)


def test_any_sign_of_life_ends_a_suspicion() -> None:
    it = detector()
    assert let_pass(it, 0, 600) == ["n2", "n3"]
    assert it.heard("n2", 600 * MS)
    assert not it.heard("n2", 600 * MS)
    assert it.alive("n2", 600 * MS)
    assert it.suspected() == ["n3"]
    assert let_pass(it, 650, 1100) == ["n2"]


def test_nobody_is_suspected_for_this_nodes_own_pause() -> None:
    """Everybody was silent for the 10 s that this process was stopped: it was deaf."""
    it = detector()
    let_pass(it, 0, 200, "n2", "n3")
    assert it.check(10_200 * MS) == []
    assert it.alive("n2", 10_200 * MS)
    it.heard("n2", 10_210 * MS)
    assert it.check(10_290 * MS) == []
    assert it.check(10_300 * MS) == [("n3", 10_100 * MS)]
    assert it.alive("n2", 10_300 * MS)


def test_short_pause_gives_grace_too() -> None:
    it = detector()
    let_pass(it, 0, 100, "n2", "n3")
    assert it.check(550 * MS) == []
    assert it.check(600 * MS) == []
    assert it.check(650 * MS) == [("n2", 550 * MS), ("n3", 550 * MS)]


def test_pause_does_not_clear_a_suspicion() -> None:
    it = detector()
    let_pass(it, 0, 600, "n2")
    it.check(5_000 * MS)
    assert not it.alive("n3", 5_000 * MS)


def test_heartbeats_are_due_once_per_interval_however_late() -> None:
    it = detector()
    assert it.heartbeat_due(0)
    assert not it.heartbeat_due(99 * MS)
    assert it.heartbeat_due(100 * MS)
    assert it.heartbeat_due(950 * MS)
    assert not it.heartbeat_due(1000 * MS)
    assert it.wake_at() <= 1050 * MS
