"""Ways to files of the host, of other agents, and of the system (cases 1-15 and 17)."""

from __future__ import annotations

from tests.escape.attacks.attack import MINIMAL, Attack

ATTACKS = (
    Attack(1, "list another agent's workspace", "return 'secret' in os.listdir(facts['other'])"),
    Attack(2, "read another agent's file", "return open(facts['other'] + '/secret').read() == 'other'"),
    Attack(3, "write another agent's file", "return opens(facts['other'] + '/secret', os.O_WRONLY)"),
    Attack(3, "create a file beside another agent's", "return opens(facts['other'], os.O_TMPFILE | os.O_RDWR)"),
    Attack(4, "leave the workspace by dots", "return opens(os.getcwd() + '/..' * 9 + facts['other'] + '/secret')"),
    Attack(
        4,
        "leave it by the link to the working folder",
        "return opens('/proc/self/cwd' + '/..' * 9 + facts['other'] + '/secret')",
    ),
    Attack(5, "leave it by an absolute link", "os.symlink(facts['other'] + '/secret', 'absolute'); return opens('absolute')"),
    Attack(
        6,
        "leave it by a relative link",
        "os.symlink('../' * 9 + facts['other'] + '/secret', 'relative'); return opens('relative')",
    ),
    Attack(9, "link another agent's file", "os.link(facts['other'] + '/secret', 'hard'); return True"),
    Attack(9, "move another agent's file", "os.rename(facts['other'] + '/victim', 'taken'); return True"),
    Attack(17, "plant a hook in the main repository", "return opens(facts['repository'] + '/hooks', os.O_TMPFILE | os.O_RDWR)"),
    Attack(17, "change the main repository's settings", "return opens(facts['repository'] + '/config', os.O_WRONLY)"),
    Attack(10, "list a home", "return bool(set(os.listdir(facts['home'])) - set(facts['shown']))"),
    Attack(11, "read the password file", "return ':' in open('/etc/shadow').read()"),
    Attack(
        11,
        "learn who the users of the host are",
        "return facts['user'] in [line.split(':')[0] for line in open('/etc/passwd')]",
        open_at=(MINIMAL,),
    ),
    Attack(12, "see the host's temporary folder", "return os.path.exists(facts['temporary'])"),
    Attack(12, "see the host's shared memory", "return os.path.exists(facts['shared'])", open_at=(MINIMAL,)),
    Attack(
        13,
        "write system folders",
        "return any(in_child(lambda: opens(each, os.O_TMPFILE | os.O_RDWR)) for each in ('/usr', '/etc', '/usr/bin'))",
    ),
    Attack(
        13,
        "write a library in place",
        "paths = [line.split()[-1] for line in open('/proc/self/maps') if '/libc' in line]; return opens(paths[0], os.O_RDWR)",
    ),
    Attack(13, "write the host's users", "return opens('/etc/passwd', os.O_WRONLY | os.O_APPEND)"),
    Attack(14, "write the root", "return opens('/', os.O_TMPFILE | os.O_RDWR)"),
    Attack(14, "make a folder in the root", "os.mkdir('/conductor-escape'); os.rmdir('/conductor-escape'); return True"),
    Attack(
        15,
        "make a device node in the workspace",
        "os.mknod('node', 0o600 | stat.S_IFCHR, os.makedev(1, 5)); return opens('node')",
    ),
    Attack(15, "make a disk's node", "os.mknod('disk', 0o600 | stat.S_IFBLK, facts['disk']); return True"),
    Attack(0, "open the host's disk", "return opens(facts['disk_path'])", optional=True),
    Attack(0, "attach a loop device", "return opens('/dev/loop-control', os.O_RDWR)", optional=True),
    Attack(0, "open the virtual machine monitor", "return opens('/dev/kvm', os.O_RDWR)", optional=True),
    Attack(0, "serve a file system", "return opens('/dev/fuse', os.O_RDWR)", optional=True),
    Attack(0, "read the kernel's log", "return opens('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)", optional=True),
    Attack(0, "give a file to root", "open('mine', 'w').close(); os.chown('mine', 0, 0); return True"),
)
