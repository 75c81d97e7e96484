"""A link that breaks: a proxy between two programs that cuts connections at random byte positions, from a fixed seed.

The bytes of a connection go through unchanged, both ways, up to its cut; then both sides are closed at once, in the
middle of whatever was being said. Or, as when a cable is pulled, neither is closed and nothing goes through any more.
After `cuts` such connections it lets everything through.
"""

import random
import selectors
import socket
import threading

PIECE = 16384  # bytes taken at a time


def parse(address):
    """(family, what connect takes) of unix:PATH or tcp:HOST:PORT."""
    kind, rest = address.split(":", 1)
    if kind == "unix":
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


class Proxy:
    """Listens on `listen` (tcp:127.0.0.1:0 takes a free port; see .address) and connects to `target` for each."""

    def __init__(self, listen, target, cuts, longest, seed=1, silently=False):
        """longest: bytes, both ways together, that a connection may last before it is cut. silently: it is not closed."""
        family, where = parse(listen)
        self.target = target
        self.cuts_left = cuts
        self.cut = 0  # so many were
        self.longest = longest
        self.silently = silently
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.listener = socket.socket(family)
        if family == socket.AF_INET:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(where)
        self.listener.listen(256)
        self.listener.settimeout(0.2)  # so that it sees `done`
        name = self.listener.getsockname()
        self.address = f"unix:{name}" if family == socket.AF_UNIX else f"tcp:{name[0]}:{name[1]}"
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        for thread in list(self.threads):
            thread.join(timeout=10)
        self.listener.close()

    @property
    def all_cut(self):
        return self.cuts_left == 0

    def _budget(self):
        """Bytes that this connection may last; None: it is not cut. Short ones are as likely as long ones."""
        with self.lock:
            if self.cuts_left == 0:
                return None
            self.cuts_left -= 1
            return int(self.longest ** self.random.random()) if self.random.random() < 0.2 else \
                self.random.randrange(1, self.longest)

    def _accept(self):
        while not self.done.is_set():
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            family, where = parse(self.target)
            server = socket.socket(family)
            try:
                server.connect(where)
            except OSError:
                client.close()
                server.close()
                continue
            thread = threading.Thread(target=self._carry, args=(client, server, self._budget()), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _carry(self, client, server, budget):
        other = {client: server, server: client}
        with client, server, selectors.DefaultSelector() as selector:
            for side in other:
                side.settimeout(1)
                selector.register(side, selectors.EVENT_READ)
            while not self.done.is_set():
                for key, _ in selector.select(0.2):
                    budget = self._pass_on(key.fileobj, other[key.fileobj], budget)
                    if budget == 0:
                        self._cut()
                        return

    def _cut(self):
        self.cut += 1
        if self.silently:
            self.done.wait()

    def _pass_on(self, source, sink, budget):
        """What is left of the budget: 0 when the connection is over."""
        try:
            data = source.recv(PIECE if budget is None else min(PIECE, budget))
            at = 0
            while at < len(data):
                try:
                    at += sink.send(data[at:])
                except TimeoutError:
                    if self.done.is_set():
                        return 0
        except OSError:
            return 0
        if not data:
            return 0
        return None if budget is None else budget - len(data)
