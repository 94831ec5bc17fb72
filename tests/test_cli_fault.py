"""Faults by hand, as a shell sees them: what a lecturer shows."""

from pathlib import Path

import pytest

from replication.cli.edge import ExitCode
from tests.support.shell import Shell, cluster

pytestmark = pytest.mark.processes


def role_of(shell: Shell, node: str) -> str:
    row = next(line for line in shell.output("status").splitlines() if line.startswith(f" {node} "))
    return row.split()[1]


def served_by(answer: str) -> str:
    """Return who says "ok by n2, term 1, log index 4"."""
    return answer.split()[2].rstrip(",")


def test_a_failover_is_shown_by_hand_and_the_old_leader_comes_back(tmp_path: Path) -> None:
    with cluster(tmp_path, "raft") as shell:
        first = served_by(shell.output("kv put color blue"))
        assert role_of(shell, first) == "leader"

        killed = shell.output("fault kill leader")
        assert killed.startswith(f"{first} (pid ")
        assert killed.endswith("is gone: SIGKILL")
        assert role_of(shell, first) == "does"  # not answer
        second = served_by(shell.output("kv put color green"))
        assert second != first
        twice = shell(f"fault kill {first} n9")
        assert twice.exit_code == ExitCode.USAGE
        assert twice.stderr.strip() == "no node 'n9' in raft; there is n1, n2, n3"
        assert shell(f"fault kill {first}").stderr.strip() == f"{first} does not run"

        assert shell.output("fault start").endswith("runs again")
        assert shell("fault start").stderr.strip() == "all nodes of raft run"
        shell.output("fault heal")
        assert role_of(shell, first) == "follower"
        assert shell.output("kv get color") == "green"


def test_a_leader_that_is_cut_off_or_asleep_is_replaced_and_heals(tmp_path: Path) -> None:
    with cluster(tmp_path, "raft") as shell:
        first = served_by(shell.output("kv put color blue"))
        cut = shell.output("fault cut leader")
        assert cut.startswith(f"{first} cut off from n")
        refused = shell(f"kv put color red --node {first} --timeout 0.5")
        assert refused.exit_code == ExitCode.UNKNOWN, refused.output
        second = served_by(shell.output("kv put color green --timeout 5"))
        assert second != first

        # In the highest term, whatever the one that is cut off believes.
        assert shell.output("fault pause leader").startswith(f"{second} (pid ")
        everybody = shell("fault cut n1 n2 n3")
        assert everybody.exit_code == ExitCode.USAGE
        assert "nobody is left" in everybody.stderr
        healed = shell.output("fault heal").splitlines()
        assert healed[0].startswith(f"{second} (pid ")
        assert healed[0].endswith("runs: SIGCONT")
        assert healed[1] == "no links are cut; told n1, n2, n3"
        assert shell.output("kv get color --timeout 5") == "green"


def test_a_node_that_cannot_start_says_why_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path, "raft") as shell:
        shell.output("kv put color blue")
        shell.output("fault kill n1 n2")
        store = shell.folder / "up/raft/n1/store.log"
        data = bytearray(store.read_bytes())
        data[len(data) // 2] ^= 0xFF
        store.write_bytes(data)
        failed = shell("fault start")
        assert failed.exit_code == ExitCode.BROKEN
        assert failed.stderr.startswith("n1 did not start\n")
        assert "DATA_LOSS" in failed.stderr
        assert role_of(shell, "n1") == "does"  # not answer
        assert role_of(shell, "n2") != "does"


def test_leaderless_nodes_are_hurt_by_name(tmp_path: Path) -> None:
    with cluster(tmp_path, "dynamo") as shell:
        assert shell("fault kill leader").stderr.strip() == "nobody leads dynamo now"
        shell.output("fault cut n1")
        assert shell.output("kv put color blue --node n1 --replicas 1").startswith("ok by n1")
        assert shell.output("kv put color red --node n2 --replicas 1").startswith("ok by n2")
        assert shell.output("fault kill n3").endswith("is gone: SIGKILL")
        healed = shell.output("fault heal").splitlines()
        assert [line.partition(" (pid")[0] for line in healed[:-1]] == ["n3"]
        both = shell.output("kv get color --replicas 3 --timeout 5")
        assert "blue" in both
        assert "red" in both, "a conflict, shown live"


def test_several_clusters_are_shown_together_and_hurt_by_name(tmp_path: Path) -> None:
    with cluster(tmp_path, "raft") as shell:
        shell.output("up dynamo --nodes 3")
        both = shell.output("status")
        assert "raft (" in both
        assert "dynamo (" in both
        for line in ("fault kill n1", "status --format json"):
            which = shell(line)
            assert which.exit_code == ExitCode.USAGE
            assert (
                which.stderr.strip() == "several clusters are up: dynamo, raft; say which, by name"
            )
        assert shell.output("fault kill n1 --cluster dynamo").endswith("is gone: SIGKILL")
        assert role_of(shell, "n1") == "does"  # not answer: dynamo comes first
        assert shell.output("down dynamo") == "dynamo is down"
        assert role_of(shell, "n1") != "does"
