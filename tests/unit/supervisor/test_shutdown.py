from claude_conductor.supervisor.shutdown import Shutdown


class FakeChild:
    def __init__(self, name: str, calls: list[tuple[str, str]], pid: int | None = 1) -> None:
        self.name, self.calls, self.pid = name, calls, pid

    def terminate(self):
        self.calls.append(("term", self.name))

    def kill(self):
        self.calls.append(("kill", self.name))


def test_the_control_plane_is_asked_only_when_the_sidecars_are_gone():
    calls = []
    sidecar, control_plane = FakeChild("sidecar", calls), FakeChild("controlplane", calls)
    shutdown = Shutdown([[sidecar], [control_plane]], grace=5.0, now=0.0)

    shutdown.advance(1.0)
    assert calls == [("term", "sidecar")]
    sidecar.pid = None
    shutdown.advance(2.0)
    assert calls == [("term", "sidecar"), ("term", "controlplane")]
    assert shutdown.deadline == 7.0
    control_plane.pid = None
    shutdown.advance(3.0)

    assert shutdown.finished


def test_the_grace_is_followed_by_one_kill_and_a_last_wait():
    calls = []
    shutdown = Shutdown([[FakeChild("stuck", calls)]], grace=5.0, now=0.0)

    shutdown.advance(4.9)
    shutdown.advance(5.0)
    shutdown.advance(5.1)

    assert calls == [("term", "stuck"), ("kill", "stuck")]
    assert not shutdown.finished
    shutdown.advance(shutdown.deadline)
    assert shutdown.finished


def test_a_second_stop_takes_the_grace_away_from_every_wave():
    calls = []
    sidecar, control_plane = FakeChild("sidecar", calls), FakeChild("controlplane", calls)
    shutdown = Shutdown([[sidecar], [control_plane]], grace=60.0, now=0.0)

    shutdown.hurry(1.0)
    shutdown.advance(1.0)
    sidecar.pid = None
    shutdown.advance(1.1)
    shutdown.advance(1.1)

    assert calls == [("term", "sidecar"), ("kill", "sidecar"), ("term", "controlplane"), ("kill", "controlplane")]


def test_a_program_that_waits_for_its_restart_is_called_off_at_once():
    calls = []
    waiting = FakeChild("waiting", calls, pid=None)
    sidecar = FakeChild("sidecar", calls)

    Shutdown([[sidecar], [waiting]], grace=5.0, now=0.0)

    assert ("term", "waiting") in calls
