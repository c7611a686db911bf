from claude_conductor.supervisor.backoff import RestartPolicy, Verdict, cause, decide

POLICY = RestartPolicy(first_delay=0.2, max_delay=10.0, reset_after=30.0)


def test_delays_double_up_to_the_largest():
    failures, delays = 0, []
    for _ in range(8):
        verdict = decide(1, 0.1, failures, POLICY)
        failures = verdict.failures
        delays.append(verdict.delay)

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_program_that_ran_long_enough_begins_anew():
    assert decide(1, 30.0, 7, POLICY) == Verdict(delay=0.2, failures=1)
    assert decide(1, 29.9, 7, POLICY) == Verdict(delay=10.0, failures=8)


def test_a_refused_configuration_is_not_tried_again():
    assert decide(78, 1000.0, 0, POLICY).delay is None


def test_a_clean_exit_nobody_asked_for_is_a_failure_too():
    assert decide(0, 1.0, 0, POLICY).delay == 0.2


def test_a_thousand_failures_do_not_overflow():
    assert decide(-9, 0.0, 100_000, POLICY).delay == 10.0


def test_causes_name_code_and_signal():
    assert cause(3) == "exit code 3"
    assert cause(-9) == "signal 9 (SIGKILL)"
    assert cause(-40) == "signal 40"
