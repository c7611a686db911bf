"""Ways to take more than the limits give (cases 61-66). A sandbox that ends at its limit has held."""

from __future__ import annotations

from tests.escape.attacks.attack import MINIMAL, Attack

_SMALL = {"memory_bytes": 64 << 20}

ATTACKS = (
    Attack(
        61,
        "take memory in one process",
        "kept = [bytearray(1 << 20) for _ in range(200)]; return len(kept) == 200",
        limits=_SMALL,
    ),
    Attack(
        61,
        "take memory in children",
        """
wait, release = os.pipe()
said, pids = [], []
for _ in range(8):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        kept = bytearray(30 << 20)
        os.write(write, b'x'); os.read(wait, 1)
        os._exit(0)
    os.close(write)
    said.append(read); pids.append(pid)
alive = [os.read(each, 1) for each in said]
os.close(release)
return all(alive) and all([os.waitpid(pid, 0)[1] == 0 for pid in pids])""",
        limits=_SMALL,
    ),
    Attack(
        61,
        "take memory without a mapping",
        "file = os.memfd_create('x')\nreturn sum(os.write(file, bytes(1 << 20)) for _ in range(200)) == 200 << 20",
        limits=_SMALL,
    ),
    Attack(
        61,
        "take memory by shared mappings",
        "page = mmap.mmap(-1, 200 << 20)\nfor each in range(0, 200 << 20, 4096): page[each] = 1\nreturn True",
        limits=_SMALL,
    ),
    Attack(61, "take memory by a shared file", "return fill('/dev/shm', 200 << 20)", limits=_SMALL),
    Attack(
        62,
        "fork without end",
        """
pids = []
try:
    for _ in range(64):
        pid = os.fork()
        if pid == 0: signal.pause()
        pids.append(pid)
    return True
finally:
    for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)""",
        limits={"pids": 32},
    ),
    Attack(
        62,
        "start threads without end",
        """
gate = threading.Event()
try:
    for _ in range(64): threading.Thread(target=gate.wait, daemon=True).start()
    return True
except RuntimeError: return False
finally: gate.set()""",
        limits={"pids": 32},
    ),
    Attack(
        63,
        "take processors by three processes",
        """
began = time.monotonic()
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while time.monotonic() - began < 1.5: pass
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
used = os.times()
return (used.children_user + used.children_system) / (time.monotonic() - began) > 0.3""",
        limits={"cpus": 0.1},
    ),
    Attack(
        64,
        "open files without end",
        "kept = [os.open('/dev/null', os.O_RDONLY) for _ in range(400)]; return len(kept) == 400",
        limits={"open_files": 256},
    ),
    Attack(65, "fill the temporary folder", "return fill('/tmp', 64 << 20)", limits={"tmp_bytes": 16 << 20}, open_at=(MINIMAL,)),
    Attack(65, "fill the home", "return fill(os.environ['HOME'], 64 << 20)", limits={"tmp_bytes": 16 << 20}, open_at=(MINIMAL,)),
    Attack(
        66,
        "make files without end",
        """
folder = '/dev/shm/' + facts['litter']
os.makedirs(folder, exist_ok=True)
for number in range(60000): os.mknod(folder + '/%d' % number)
return True""",
        limits={"memory_bytes": 40 << 20},
    ),
)
