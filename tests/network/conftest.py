"""Servers and clients inside, of the standard library alone."""

from __future__ import annotations

#: Answers each connection with what it has read up to its end, turned around.
SERVER = """
import socket, sys, threading
where = sys.argv[1]
if where.startswith("/"):
    s = socket.socket(socket.AF_UNIX); s.bind(where)
else:
    s = socket.create_server((sys.argv[2], int(where)), family=socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
s.listen(int(sys.argv[3]) if len(sys.argv) > 3 else 512)
def answer(c):
    data = b""
    while piece := c.recv(65536):
        data += piece
    c.sendall(data[::-1]); c.close()
while True:
    threading.Thread(target=answer, args=(s.accept()[0],), daemon=True).start()
"""
