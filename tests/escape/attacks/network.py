"""Ways to sockets of the host and to the network (cases 52-57 and 60)."""

from __future__ import annotations

from tests.escape.attacks.attack import MINIMAL, Attack

_FAMILIES = {"the hypervisor": (40, 1), "the kernel's crypto": (38, 5), "a Bluetooth device": (31, 3), "a CAN bus": (29, 3),
             "a TIPC cluster": (30, 1), "an express data path": (44, 3), "a key management": (15, 3), "a phone": (35, 2),
             "RDS": (21, 5), "a multiplexer": (41, 5)}  # fmt: skip

ATTACKS = (
    Attack(
        52,
        "connect to a port of the host",
        "socket.create_connection(('127.0.0.1', facts['port']), 1); return True",
        open_at=(MINIMAL,),
    ),
    Attack(
        52,
        "connect to it by IPv6",
        "socket.create_connection(('::1', facts['port6']), 1); return True",
        optional=True,
        open_at=(MINIMAL,),
    ),
    Attack(
        52,
        "connect to it by another address",
        "socket.create_connection(('127.1.2.3', facts['port']), 1); return True",
        open_at=(MINIMAL,),
    ),
    Attack(
        53,
        "connect to an abstract socket",
        "socket.socket(socket.AF_UNIX).connect(chr(0) + facts['abstract']); return True",
        open_at=(MINIMAL,),
    ),
    Attack(54, "connect to somebody else's socket", "socket.socket(socket.AF_UNIX).connect(facts['path']); return True"),
    Attack(54, "connect to another agent's socket", "socket.socket(socket.AF_UNIX).connect(facts['neighbour']); return True"),
    Attack(55, "connect to a container engine", "socket.socket(socket.AF_UNIX).connect(facts['engine']); return True"),
    Attack(
        56,
        "send a datagram out",
        """
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(1); udp.connect(('127.0.0.1', facts['datagram'])); udp.send(b'?')
return udp.recv(1) == b'!'""",
        open_at=(MINIMAL,),
    ),
    Attack(
        56,
        "ask a name server",
        """
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(1)
question = struct.pack('>6H', 1, 0x100, 1, 0, 0, 0) + b'\\x06escape\\x00' + struct.pack('>2H', 1, 1)
udp.sendto(question, ('127.0.0.1', facts['datagram']))
return bool(udp.recv(512))""",
        open_at=(MINIMAL,),
    ),
    Attack(57, "open a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); return True"),
    Attack(57, "open a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); return True"),
    *(
        Attack(57, f"open a socket to {name}", f"socket.socket({family}, {kind}); return True", optional=True)
        for name, (family, kind) in _FAMILIES.items()
    ),
    Attack(
        60,
        "connect past the proxy",
        "[os.environ.pop(each, None) for each in ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy')]\n"
        "socket.create_connection(('127.0.0.1', facts['port']), 1); return True",
        open_at=(MINIMAL,),
    ),
    Attack(
        0,
        "see the host's network interfaces",
        "return any(each not in ('lo',) for _, each in socket.if_nameindex())",
        optional=True,
        open_at=(MINIMAL,),
    ),
    Attack(
        0,
        "see the host's connections",
        "return any('%04X' % facts['port'] in line for line in open('/proc/net/tcp'))",
        open_at=(MINIMAL,),
    ),
    Attack(0, "see the host's sockets by name", "return facts['abstract'] in open('/proc/net/unix').read()", open_at=(MINIMAL,)),
    Attack(
        0,
        "listen where the host listens",
        "socket.create_server(('127.0.0.1', 0)).getsockname(); return open('/proc/net/dev').read().count(':') > 1",
        optional=True,
        open_at=(MINIMAL,),
    ),
)
