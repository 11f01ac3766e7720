"""What a loopback interface carries, in full, between given ports."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Container

_ALL_PROTOCOLS = 0x0003
_SOL_PACKET, _PACKET_STATISTICS, _OUTGOING = 263, 6, 4
_BUFFER = 256 * 2**20
_LARGEST_PACKET = 70_000
_POLL_S = 0.1
TCP, UDP = 6, 17

Flow = tuple[int, int, int]
"""Protocol, source port, destination port."""


class Capture:
    """Listens from its entry to its exit; a context manager. Needs the right to open raw sockets (CAP_NET_RAW).

    Attributes:
        flows: the payload of all packets of a flow, one after another, as they came.
    """

    def __init__(self, ports: Container[int]) -> None:
        """Raises PermissionError without that right."""
        self.flows: dict[Flow, bytearray] = defaultdict(bytearray)
        self._ports = ports
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _BUFFER)
        except PermissionError:  # a namespace's root is not this machine's: as much as anybody may have
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind(("lo", 0))
        self._socket.settimeout(_POLL_S)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Capture":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def lost(self) -> int:
        """Return how many packets came too fast to be kept, since this was asked last."""
        _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(lost)

    def bytes_of(self, protocol: int) -> bytes:
        """Return all that went over TCP, or UDP; flows are kept apart by zeros, so that nothing spans two."""
        return bytes(64).join(bytes(part) for flow, part in self.flows.items() if flow[0] == protocol)

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                packet, address = self._socket.recvfrom(_LARGEST_PACKET)
            except TimeoutError:
                continue
            if address[2] == _OUTGOING:  # on loopback each packet is seen going out, and again coming in
                self._keep(packet[14:])

    def _keep(self, packet: bytes) -> None:
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return
        header, protocol = 4 * (packet[0] & 15), packet[9]
        if protocol not in {TCP, UDP}:
            return
        source, target = struct.unpack_from(">HH", packet, header)
        if source not in self._ports and target not in self._ports:
            return
        start = header + (8 if protocol == UDP else 4 * (packet[header + 12] >> 4))
        length = struct.unpack_from(">H", packet, 2)[0] or len(packet)  # 0 where the kernel merged several
        self.flows[protocol, source, target] += packet[start:length]
