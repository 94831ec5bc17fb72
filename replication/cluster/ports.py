"""Loopback ports that belong to a cluster for as long as it lives, its dead nodes' ports too."""

import socket

LOOPBACK = "127.0.0.1"


class Ports:
    """Free ports, held by sockets that are bound with SO_REUSEPORT and never listen.

    A node binds beside the holder. While it is down, connections are refused, and nobody else gets
    the port: Linux never hands out a port that is in use, shared or not, when it chooses one.
    """

    def __init__(self, count: int) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(_bound())
        except BaseException:
            self.release()
            raise

    @property
    def numbers(self) -> list[int]:
        """Return the ports, in the order in which they were taken."""
        return [int(each.getsockname()[1]) for each in self._sockets]

    def release(self) -> None:
        """Give the ports back."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()


def _bound() -> socket.socket:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((LOOPBACK, 0))
    except BaseException:
        holder.close()
        raise
    return holder
