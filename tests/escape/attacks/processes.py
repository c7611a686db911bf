"""Ways to other processes and to rights an agent must not have (cases 21-29, 46-51, 72)."""

from __future__ import annotations

from tests.escape.attacks.attack import MINIMAL, Attack, plant_capable, plant_setuid

ATTACKS = (
    Attack(21, "read the sidecar's environment", "return facts['marker'] in open('/proc/%d/environ' % facts['pid']).read()"),
    Attack(
        21,
        "see the sidecar's command line",
        "return facts['marker'] in open('/proc/%d/cmdline' % facts['pid']).read()",
        open_at=(MINIMAL,),
    ),
    Attack(
        21, "count the host's processes", "return any_process(lambda each: int(each[6:]) == facts['pid'])", open_at=(MINIMAL,)
    ),
    Attack(
        22,
        "find a secret in any environment",
        "return any_process(lambda each: facts['marker'] in open(each + '/environ').read())",
    ),
    Attack(23, "signal the sidecar", "os.kill(facts['pid'], 0); return True"),
    Attack(23, "signal the sidecar by a descriptor", "signal.pidfd_send_signal(os.pidfd_open(facts['pid']), 0); return True"),
    Attack(23, "signal the sidecar's process group", "os.killpg(facts['pid'], 0); return True"),
    Attack(24, "signal anybody", "return any_process(lambda each: int(each[6:]) > 1 and os.kill(int(each[6:]), 0) is None)"),
    Attack(25, "trace a process", "return in_child(lambda: reached(101, 117, 0, 0, 0, 0))"),
    Attack(25, "trace the sidecar", "return in_child(lambda: reached(101, 117, 0x4206, facts['pid'], 0, 0))"),
    Attack(26, "read another process's memory", "return reached(310, 270, os.getpid(), 0, 0, 0, 0, 0)"),
    Attack(26, "write another process's memory", "return reached(311, 271, os.getpid(), 0, 0, 0, 0, 0)"),
    Attack(26, "open the sidecar's memory", "return opens('/proc/%d/mem' % facts['pid'], os.O_RDWR)"),
    Attack(27, "take another process's descriptor", "return reached(438, 438, os.pidfd_open(os.getpid()), 0, 0)"),
    Attack(27, "open another process's descriptor", "return bool(os.listdir('/proc/%d/fd' % facts['pid']))"),
    Attack(
        28,
        "go through the root of any process",
        "return any_process(lambda each: opens(each + '/root' + facts['other'] + '/secret'))",
    ),
    Attack(28, "go through the working folder of the sidecar", "return opens('/proc/%d/cwd/..' % facts['pid'])"),
    Attack(28, "read the sidecar's memory map", "return bool(open('/proc/%d/maps' % facts['pid']).read())"),
    Attack(29, "use an inherited descriptor", "return any(os.path.exists('/proc/self/fd/%d' % each) for each in range(3, 64))"),
    Attack(0, "change the sidecar's priority", "os.setpriority(os.PRIO_PROCESS, facts['pid'], 19); return True"),
    Attack(0, "pin the sidecar to a processor", "os.sched_setaffinity(facts['pid'], os.sched_getaffinity(0)); return True"),
    Attack(0, "change the sidecar's limits", "resource.prlimit(facts['pid'], resource.RLIMIT_CORE, (0, 0)); return True"),
    Attack(0, "compare kernel objects", "return reached(312, 272, os.getpid(), os.getpid(), 0, 0, 0)", optional=True),
    Attack(0, "advise another process's memory", "return reached(440, 440, os.pidfd_open(os.getpid()), None, 0, 0, 0)"),
    Attack(0, "move another process's pages", "return reached(279, 239, facts['pid'], 0, None, None, None, 0)", optional=True),
    Attack(
        46,
        "become root by a setuid program in the workspace",
        "status = subprocess.run(['./setuid', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "return [line.split()[2] for line in status.splitlines() if line.startswith('Uid')] == ['0']",
        plant=plant_setuid,
        as_nobody=True,
    ),
    Attack(
        47,
        "become root by a setuid program of the system",
        """
paths = [each for each in ('/usr/bin/su', '/usr/bin/passwd', '/usr/bin/newgrp') if os.path.exists(each)]
def is_root(path):
    main, other = os.openpty()
    with subprocess.Popen([path], stdin=other, stdout=other, stderr=other, start_new_session=True) as process:
        try:
            while process.poll() is None:
                status = open('/proc/%d/status' % process.pid).read()
                if '\\nUid:\\t' in status and status.split('\\nUid:')[1].split()[1] == '0': return True
                if open('/proc/%d/stat' % process.pid).read().rpartition(')')[2].split()[0] == 'S': return False
            return False
        finally:
            process.kill()
return any(is_root(each) for each in paths)""",
        as_nobody=True,
        optional=True,
    ),
    Attack(
        49,
        "gain a capability by a program in the workspace",
        "status = subprocess.run(['./capable', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "return any(int(line.split()[1], 16) for line in status.splitlines() if line.startswith('CapEff'))",
        plant=plant_capable,
        as_nobody=True,
    ),
    Attack(48, "become root", "os.setresuid(0, 0, 0); return True"),
    Attack(48, "join root's group", "os.setresgid(0, 0, 0); return True"),
    Attack(48, "take further groups", "os.setgroups([0]); return True"),
    Attack(
        48,
        "have any capability",
        "return any(int(line.split()[1], 16) for line in open('/proc/self/status') if line[:6] in ('CapEff', 'CapPrm'))",
    ),
    Attack(
        50,
        "get real-time priority",
        "return in_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)) is None)",
    ),
    Attack(50, "raise its own priority", "return in_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5) is None)"),
    Attack(50, "get real-time input and output", "return in_child(lambda: call(251, 30, 1, 0, 1 << 13)[0] == 0)", optional=True),
    Attack(
        50,
        "raise a hard limit",
        """
def raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    return True
try: return raised()
except ValueError: return False""",
        optional=True,
    ),
    Attack(
        50,
        "protect itself from the out-of-memory killer",
        "return in_child(lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-500') > 0)",
        optional=True,
    ),
    Attack(
        50,
        "lock memory without bound",
        "return not 0 <= resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] <= 8 << 20",
        optional=True,
    ),
    *(
        Attack(
            51,
            f"{what}{note}",
            f"""
def act():
    main, other = os.openpty()
    os.setsid()
    import fcntl
    fcntl.ioctl(other, 0x540E, 0)
    return reached(16, 29, other, {number}, ctypes.create_string_buffer(b'x'))
return in_child(act)""",
            optional=True,
        )
        for what, value in (("type into a terminal", 0x5412), ("steer a console", 0x541C), ("take the console's output", 0x541D))
        for note, number in (("", value), (" with high bits", value | 1 << 32))
    ),
    Attack(
        72,
        "find a secret in any command line",
        "return any_process(lambda each: facts['marker'] in open(each + '/cmdline').read())",
        open_at=(MINIMAL,),
    ),
    Attack(72, "read the keys of the machine", "open('/proc/keys').read(); return True", open_at=(MINIMAL,)),
    Attack(
        72,
        "dump core",
        """
def crash():
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    os.kill(os.getpid(), signal.SIGABRT)
pid = os.fork()
if pid == 0:
    try: crash()
    except (ValueError, OSError): pass
    os._exit(1)
return os.WCOREDUMP(os.waitpid(pid, 0)[1])""",
        optional=True,
    ),
    Attack(72, "read the sidecar's state", "return bool(os.listdir(facts['state']))"),
)
