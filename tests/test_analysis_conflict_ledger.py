"""The conflict ledger beyond its counts: pairs, endings, causes, and the worst key's picture."""

from replication.analysis import analyse
from replication.analysis.conflict_findings import ConflictLedger
from replication.analysis.pairs import PAIRS_MAX
from replication.analysis.worst_keys import OPERATIONS_MAX
from tests.support.histories import DELETE, FAIL, MS, UNKNOWN, Script, at

LWW = {"versions": "lww", "n": 3, "r": 2, "w": 2}
DVV = {"versions": "dvv", "n": 3, "r": 2, "w": 2}


def leaderless(**fields: object) -> Script:
    return Script(register=False, **{"settings": DVV, **fields})


def ledger(script: Script) -> ConflictLedger:
    return analyse(script.history).conflicts


def siblings(script: Script, ms: float, key: str, *write_ids: str, node: str = "n1") -> None:
    versions = [{"write_id": each, "dot": None, "tombstone": False} for each in write_ids]
    script.event(ms, node, "siblings_created", key=key, versions=versions)


def dropped(script: Script, ms: float, key: str, loser: str, winner: str, *stamps: int) -> None:
    one, other = ({"write_id": each, "dot": None, "tombstone": False, "timestamp_ns": stamp}
                  for each, stamp in zip((loser, winner), stamps, strict=True))  # fmt: skip
    script.event(ms, "n2", "version_dropped", key=key, dropped=one, winner=other)


def test_every_pair_is_told_with_who_where_when_and_what_it_had_read() -> None:
    script = leaderless()
    base = script.write("c1", "k", 0, 2, node="n1", dot="n1:1")
    one = script.write("c1", "k", 10, 14, node="n1", based_on=[base], dot="n1:2")
    other = script.write("c2", "k", 12, 15, node="n2", based_on=[base], dot="n2:1")
    siblings(script, 13, "k", one, other)
    last = script.write("c3", "k", 20, 22, node="n3", based_on=[one, other])
    script.event(21, "n3", "siblings_resolved", key="k", resolved_by=last,
                 dropped=[{"write_id": one}, {"write_id": other}])  # fmt: skip
    script.final("k", last)
    found = ledger(script)
    (pair,) = found.pairs
    assert (pair.first.write_id, pair.second.write_id) == (one, other)
    assert (pair.first.client, pair.first.node, pair.first.dot) == ("c1", "n1", "n1:2")
    assert (pair.second.begun_ns, pair.second.ended_ns) == (at(12), at(15))
    assert pair.first.context == pair.second.context == [base]
    assert pair.apart_ns is None
    assert pair.became == f"siblings, resolved by {last}"
    assert found.ended == {"replaced by a write that had read them": 1}
    assert found.resolvers == {"c3": 1}


def test_siblings_need_not_overlap_in_time_but_versions_replaced_before_are_no_pair() -> None:
    script = leaderless()
    one = script.write("c1", "k", 0, 2)
    two = script.write("c2", "k", 10, 12)  # had read nothing: one stands beside it
    both = script.write("c1", "k", 20, 22, based_on=[one, two])
    script.write("c3", "k", 30, 32)  # blind again, but one and two are gone
    found = ledger(script)
    assert [(each.first.write_id, each.second.write_id, each.apart_ns) for each in found.pairs] == [
        (one, two, 8 * MS),
        (both, "c3:1", 8 * MS),
    ]


def test_with_one_order_only_writes_of_two_clients_that_overlap_are_a_pair() -> None:
    script = Script()
    script.write("c1", "k", 0, 5)
    script.write("c1", "k", 5, 9)  # the same client, begun as the one before ended
    script.write("c2", "k", 8, 10)
    script.write("c2", "k", 20, 22)
    found = ledger(script)
    assert found.pair_count == 1
    assert found.concurrent_writes == 2
    assert found.pairs[0].became == "one order: one replaced the other"
    assert found.worst_keys == []  # plain overwriting is no conflict
    assert found.space_time is None


def test_the_list_of_pairs_is_capped_and_the_count_is_not() -> None:
    script = leaderless()
    for number in range(20):
        script.write(f"c{number}", "k", number, number + 0.5)
    found = ledger(script)
    assert (found.pair_count, len(found.pairs)) == (20 * 19 // 2, PAIRS_MAX)


def test_a_write_that_vanished_has_a_cause() -> None:
    script = leaderless(settings=LWW)
    causes = {}

    def lost(key: str, winner_ms: tuple[float, float], *stamps: int) -> None:
        write = script.write("c1", key, 100, 110)
        winner = script.write("c2", key, *winner_ms)
        if stamps:
            dropped(script, 120, key, write, winner, *stamps)
        script.final(key, winner)
        causes[key] = write

    lost("skew", (50, 60), 10, 20)  # ended before the write began, and won all the same
    lost("tie", (105, 112), 10, 10)
    lost("overlap", (105, 112), 10, 20)
    lost("unread", (130, 140))
    covered = script.write("c1", "zombie", 100, 110)
    delete = script.write("c1", "zombie", 120, 130, kind=DELETE, based_on=[covered])
    script.final("zombie", covered)
    found = ledger(script)
    assert {each.key: each.cause for each in found.vanished} == {
        "skew": "clock skew",
        "tie": "tie",
        "overlap": "concurrent",
        "unread": "overwritten unread",
        "zombie": "resurrected delete",
    }
    assert delete in {each.write_id for each in found.vanished}
    assert found.vanished_by_cause["tie"] == 1


def test_a_partition_between_the_two_coordinators_is_a_cause_of_its_own() -> None:
    script = leaderless(settings=LWW)
    script.fault("partition", [], 50, 500, sides=[["n1", "n2", "c1"], ["n3", "n4", "n5", "c2"]])
    for key, start, node in (("across", 100, "n3"), ("same", 100, "n2"), ("after", 600, "n3")):
        script.write("c1", key, 80, 90, node="n1")
        script.final(key, script.write("c2", key, start, start + 5, node=node))
    assert {each.key: each.cause for each in ledger(script).vanished} == {
        "across": "written across a partition",
        "same": "overwritten unread",
        "after": "overwritten unread",
    }


def test_a_delete_that_was_purged_has_taken_effect_whatever_its_client_was_told() -> None:
    script = leaderless()
    read = script.write("c1", "k", 0, 2)
    delete = script.write("c2", "k", 5, 7, kind=DELETE, based_on=[read], outcome=UNKNOWN)
    script.event(9, "n1", "tombstone_purged", key="k", write_ids=[delete])
    blind = script.write("c3", "k", 11, 12)
    script.final("k", blind)
    assert ledger(script).vanished == []


def test_where_siblings_are_kept_a_vanished_write_is_a_lost_sibling() -> None:
    script = leaderless()
    script.write("c1", "k", 0, 2)
    script.final("k", script.write("c2", "k", 1, 3))
    assert [each.cause for each in ledger(script).vanished] == ["lost sibling"]


def test_writes_that_appear_without_an_acknowledgement_are_listed_failed_ones_first() -> None:
    script = leaderless()
    maybe = script.write("c1", "k", 0, 500, outcome=UNKNOWN, error="QuorumTimeout")
    lied = script.write("c2", "k", 10, 20, outcome=FAIL, error="QuorumUnreachable")
    script.write("c3", "k", 30, 500, outcome=UNKNOWN)  # nobody ever saw it
    script.read("c4", "k", 600, 610, maybe, lied)
    found = ledger(script)
    assert (found.failed_visible, found.unknown_visible) == (1, 1)
    assert [(each.write_id, each.outcome, each.seen_ns) for each in found.appeared] == [
        (lied, "fail", at(610)),
        (maybe, "unknown", at(610)),
    ]


def test_open_sibling_sets_are_counted_over_time() -> None:
    script = leaderless(load_ms=1_000, settle_end_ns=at(1_000))
    one, two = script.write("c1", "k", 100, 102), script.write("c2", "k", 101, 103)
    siblings(script, 103, "k", one, two)
    done = script.write("c3", "k", 500, 502, based_on=[one, two])
    script.event(501, "n1", "siblings_resolved", key="k", resolved_by=done,
                 dropped=[{"write_id": one}, {"write_id": two}])  # fmt: skip
    script.final("k", done)
    counts = dict(ledger(script).open_sets)
    assert [counts[at(ms)] for ms in (0, 100, 200, 500, 600, 1_000)] == [0, 0, 1, 1, 0, 0]


def test_repairs_are_the_counters_of_all_nodes_and_unknown_ones_are_left_out() -> None:
    script = leaderless()
    script.history.counters = {
        "n1": {"hints_stored": 3, "reads": 9, "merkle_ranges_compared": 64},
        "n2": {"hints_stored": 2, "merkle_ranges_compared": 64},
    }
    script.event(5, "n1", "read_repaired", key="k", replica="n2", write_ids=["c1:1", "c2:1"])
    assert ledger(script).repairs == {
        "hints_stored": 5,
        "merkle_ranges_compared": 128,
        "versions_healed": 2,
    }


def test_the_worst_key_is_drawn_around_what_went_wrong_with_it() -> None:
    script = leaderless(settings=LWW)
    quiet = [script.write("c1", "quiet", ms, ms + 1) for ms in range(0, 900, 100)]
    for ms in range(0, 900, 20):
        script.read("c3", "k", ms, ms + 1)
    gone = script.write("c1", "k", 300, 310, node="n1")
    winner = script.write("c2", "k", 305, 312, node="n2")
    dropped(script, 313, "k", gone, winner, 10, 20)
    script.final("k", winner)
    script.final("quiet", quiet[-1])
    found = ledger(script)
    assert found.worst_keys[0].key == "quiet"  # eight blind overwrites
    assert (found.worst_keys[1].key, found.worst_keys[1].vanished) == ("k", 1)
    script.history.operations = [each for each in script.history.operations if each.key == "k"]
    picture = ledger(script).space_time
    assert picture is not None
    assert (picture.key, len(picture.operations)) == ("k", OPERATIONS_MAX)
    assert picture.why == f"here {gone} was acknowledged, and it vanished"
    assert picture.start_ns < at(300) < at(313) < picture.end_ns
    assert [(each.kind, each.node, each.versions) for each in picture.nodes] == [
        ("dropped", "n2", [gone])
    ]
    assert {gone, winner} <= set(picture.names)
    assert picture.left_out == "25 operations on this key"


def test_a_key_whose_delete_was_undone_is_among_the_worst_and_drawn_there() -> None:
    script = leaderless(settings={"versions": "dvv", "purge": "time"})
    first = script.write("c1", "k", 0, 5)
    second = script.write("c2", "k", 2, 6)
    script.event(7, "n1", "siblings_created", key="k", versions=[
        {"write_id": each, "dot": "n1:1"} for each in (first, second)
    ])  # fmt: skip
    delete = script.write("c1", "k", 10, 15, DELETE, based_on=[first, second])
    script.event(2_000, "n1", "tombstone_purged", key="k", write_ids=[delete])
    script.event(4_000, "n1", "delete_undone", key="k", version={"write_id": first, "dot": "n1:1"})
    script.read("c3", "k", 4_001, 4_002, first)
    script.final("k", first)
    found = ledger(script)
    assert (found.worst_keys[0].key, found.worst_keys[0].undone) == ("k", 1)
    (vanished,) = found.vanished
    assert (vanished.write_id, vanished.cause) == (delete, "resurrected delete")
    assert vanished.why == f"{first}, which it had read, can be read again"
    assert not analyse(script.history).findings["conflicts"].promised
    assert found.space_time is not None
    assert found.space_time.why == "here a version came back that had been deleted"


def test_siblings_that_were_deletes_and_purged_are_told_as_that() -> None:
    script = leaderless(settings={"versions": "dvv", "purge": "after_repair"})
    deletes = [script.write(client, "k", 10, 15, DELETE) for client in ("c1", "c2")]
    script.event(16, "n1", "siblings_created", key="k", versions=[
        {"write_id": each, "dot": "n1:1", "tombstone": True} for each in deletes
    ])  # fmt: skip
    script.event(2_000, "n1", "tombstone_purged", key="k", write_ids=deletes)
    script.final("k")
    assert ledger(script).ended == {"purged, all that was left of them being deletes": 1}


def test_the_stalest_reads_are_listed_oldest_first() -> None:
    script = leaderless()
    old = script.write("c1", "k", 0, 2)
    script.write("c1", "k", 10, 12, based_on=[old])
    script.read("c2", "k", 20, 21, old)
    script.read("c3", "k", 50, 51, old, node="n4")
    worst = analyse(script.history).staleness.worst
    assert [(each.client, each.age_ns, each.returned) for each in worst] == [
        ("c3", 38 * MS, [old]),
        ("c2", 8 * MS, [old]),
    ]


def test_what_a_change_of_members_took_and_what_clients_saw_meanwhile() -> None:
    script = leaderless(load_ms=1_000)
    script.write("c1", "k", 10, 12)
    script.fault("replace", ["n3"], 100, 300, takes_down=True, momentary=True)
    script.write("c1", "k", 150, 190)
    script.event(250, "n6", "partitions_moved", epoch=1, partitions=3, keys=7, bytes=700)
    script.fault("join", ["n7"], 400, 410, momentary=True)
    for node, ms in (("n7", 500), ("n1", 450)):
        script.event(ms, node, "partitions_moved", epoch=3, partitions=1, keys=2, bytes=200)
    script.write("c1", "k", 600, 602)
    script.fault("leave", ["n1"], 700, 800, momentary=True)
    script.fault("leave", ["n2"], 850, 900, momentary=True, effective=False)
    replaced, joined, left = analyse(script.history).member_changes
    assert replaced.words == "replace n3"
    assert (replaced.duration_ns, replaced.keys, replaced.bytes) == (200 * MS, 7, 700)
    assert (replaced.during.p99_ms, replaced.before.p99_ms) == (40, 2)
    assert joined.duration_ns == 100 * MS, "owners of new answered before they had fetched"
    assert (joined.keys, joined.during.count) == (4, 0)
    assert (left.duration_ns, left.keys) == (100 * MS, None)
    assert analyse(script.history).handoffs == []


def test_what_hints_brought_a_node_that_came_back_and_what_clients_saw_meanwhile() -> None:
    script = leaderless(load_ms=1_000)
    script.write("c1", "k", 10, 12)
    script.fault("kill", ["n3"], 100, 400, takes_down=True)
    for ms in (150, 200):
        script.event(ms, "n1", "hint_refused", key="k", target="n3", reason="full")
    script.event(200, "n1", "hint_refused", key="k", target="n4", reason="full")
    script.write("c1", "k", 410, 490)
    script.write("c1", "k", 600, 602)
    script.event(450, "n1", "hints_delivered", target="n3", hints=3, bytes=300)
    script.event(500, "n2", "hints_delivered", target="n3", hints=1, bytes=100)
    script.event(500, "n2", "hints_delivered", target="n5", hints=1, bytes=100)
    script.fault("kill", ["n3"], 700, 800, takes_down=True)
    script.event(900, "n2", "hints_delivered", target="n3", hints=5, bytes=500)
    first, second = analyse(script.history).handoffs
    assert (first.node, first.hints, first.bytes, first.senders) == ("n3", 4, 400, 2)
    assert first.duration_ns == 100 * MS
    assert first.refused == {"full": 2}
    assert (first.during.count, first.during.p99_ms, first.before.p99_ms) == (1, 80, 2)
    assert (second.hints, second.refused_count) == (5, 0)
