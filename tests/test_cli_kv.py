"""``up``, ``kv``, ``status`` and ``down`` by hand, as a shell sees them."""

import json
from pathlib import Path

import pytest

from replication.cli.edge import ExitCode
from tests.support.shell import cluster

pytestmark = pytest.mark.processes


def test_a_leader_serves_by_hand_and_refuses_what_it_does_not_offer(tmp_path: Path) -> None:
    with cluster(tmp_path, "raft") as shell:
        assert shell.output("kv put color blue").startswith("ok by n")
        assert shell.output("kv get color") == "blue"
        assert shell.output("kv cas color green --expected blue").startswith("ok by n")
        lost = shell("kv cas color red --expected blue")
        assert lost.exit_code == ExitCode.VIOLATED, lost.stderr
        assert "does not hold the expected value" in lost.stderr
        assert shell.output("kv delete color").startswith("ok by n")
        assert shell("kv get color").exit_code == 1
        assert "leader" in shell.output("status")

        many = shell("kv get color --replicas 2 --node n9")
        assert many.exit_code == ExitCode.USAGE
        assert many.stderr.splitlines() == [
            "no node 'n9'; there is n1, n2, n3",
            "--replicas is an R or W of a leaderless cluster, this is raft",
        ]
        level = shell("kv get color --consistency quorum")
        assert level.exit_code == ExitCode.USAGE
        assert "level quorum; it offers lease, linearizable, local" in level.stderr


def test_siblings_are_shown_and_a_context_replaces_them(tmp_path: Path) -> None:
    with cluster(tmp_path, "dynamo") as shell:
        shell.output("kv put cart milk --replicas 3")
        shell.output("kv put cart bread --replicas 3")
        both = shell("kv get cart")
        assert sorted(both.stdout.split()) == ["bread", "milk"]
        assert "2 siblings" in both.stderr
        answer = json.loads(shell.output("kv get cart --json"))
        shell.output(f"kv put cart both --replicas 3 --context {answer['context']}")
        assert shell.output("kv get cart --node n2") == "both"
        too_many = shell("kv get cart --replicas 4")
        assert too_many.exit_code == ExitCode.USAGE, too_many.stderr
