"""The three streams of a container on an event loop: non-blocking pipes and the loop's own readiness.

asyncio's pipe transports would do most of this, but they know nothing of the container's end: a pipe
whose write end a worker forked meanwhile still holds would never read as ended.
"""

from __future__ import annotations

import asyncio
import codecs
import os

from pyminicon.communicate import waiting_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

#: How much one read takes, and the largest part of a write: a pipe's own size (pipe(7)).
PIECE = 1 << 16
#: The longest line that a StreamReader gives; asyncio's own 64 KiB is short for a line of JSON.
LINE_LIMIT = 1 << 20


class OutputPipe(asyncio.ReadTransport):
    """Feeds a StreamReader from a pipe; the reader pauses it when nobody takes what it has read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, reader: asyncio.StreamReader) -> None:
        self._fd = fd
        super().__init__()
        self._loop = loop
        self._reader = reader
        self._reading = False
        os.set_blocking(fd, False)
        reader.set_transport(self)
        self.resume_reading()

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, PIECE)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._reader.set_exception(error)
            self.close()
            return False
        if not data:
            self.finish()
            return False
        self._reader.feed_data(data)
        return True

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not self._reading and self._fd >= 0:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)

    def is_closing(self) -> bool:
        return self._fd < 0

    def finish(self) -> None:
        """The end of the stream, whoever else may hold the write end; what is in the pipe is read first."""
        if self._fd < 0:
            return
        try:
            left = waiting_in(self._fd)  # who else has the other end may go on writing
            while left > 0 and (data := os.read(self._fd, PIECE)):
                self._reader.feed_data(data)
                left -= len(data)
        except OSError:
            pass
        self.close()
        self._reader.feed_eof()

    def close(self) -> None:
        if self._fd >= 0:
            self.pause_reading()
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:  # its loop was closed
            os.close(self._fd)


class InputStream:
    """The container's standard input: ``write``, then ``await drain()``; ``close()`` is its end of file.

    The words of asyncio.StreamWriter. A container that doesn't read any more makes ``drain`` raise
    BrokenPipeError, as a pipe does.
    """

    _HIGH_WATER = 1 << 16  # drain() waits while more than this waits to be taken

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, encoding: str | None, errors: str | None
    ) -> None:
        self._fd = fd
        self._loop = loop
        self._text = None if encoding is None else (encoding, errors or "strict")
        self._waiting = bytearray()
        self._watched = False
        self._closing = False
        self._error: OSError | None = None
        self._waiters: list[asyncio.Future[None]] = []
        os.set_blocking(fd, False)

    def write(self, data: Any) -> None:
        """Takes ``data`` (bytes; str where ``text`` was asked for) and sends it as the container reads."""
        if self._closing:
            raise ValueError("write to a closed stdin")
        if self._text is not None and isinstance(data, str):
            data = data.encode(*self._text)
        self._waiting += data
        if not self._watched:
            self._send()

    def writelines(self, lines: Iterable[Any]) -> None:
        """Writes each of ``lines``."""
        for line in lines:
            self.write(line)

    def _send(self) -> None:
        if self._error is not None:
            self._waiting.clear()
        while self._waiting:
            try:
                # Let go of at once: a traceback that holds on to it would keep what waits from shrinking.
                with memoryview(self._waiting) as whole, whole[:PIECE] as piece:
                    sent = os.write(self._fd, piece)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # BrokenPipeError: nobody reads any more
                self._error = error
                self._waiting.clear()
                break
            del self._waiting[:sent]
        self._watch(bool(self._waiting))
        if self._closing and not self._waiting:
            self.abort()
        elif len(self._waiting) <= self._HIGH_WATER:
            self._wake()

    def _watch(self, wanted: bool) -> None:
        if wanted and not self._watched:
            self._loop.add_writer(self._fd, self._send)
        elif self._watched and not wanted:
            self._loop.remove_writer(self._fd)
        self._watched = wanted

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(None)

    async def drain(self) -> None:
        """Waits until most of what was written has been taken. Raises BrokenPipeError."""
        if len(self._waiting) > self._HIGH_WATER:
            await self._wait()
        else:
            await asyncio.sleep(0)
        if self._error is not None:
            raise self._error

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def can_write_eof(self) -> bool:
        """True: a pipe has an end of file, and :meth:`close` makes it."""
        return True

    def write_eof(self) -> None:
        """The end of file, after what was written."""
        self.close()

    def close(self) -> None:
        """The end of file, after what was written; doesn't wait for that."""
        if not self._closing:
            self._closing = True
            if not self._watched:
                self._send()

    def is_closing(self) -> bool:
        """Whether :meth:`close` was called or the container has ended."""
        return self._closing

    async def wait_closed(self) -> None:
        """Waits until everything was taken, or nobody will take it any more."""
        while self._fd >= 0:
            await self._wait()

    def abort(self) -> None:
        """The end of file at once; what was not sent yet is dropped."""
        self._closing = True
        self._watch(False)
        self._waiting.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._wake()

    def __del__(self) -> None:
        if self._fd >= 0:  # its loop was closed
            os.close(self._fd)


class TextReader:
    """A StreamReader's words in str: for ``text=True``. Newlines are universal, as in subprocess."""

    def __init__(self, reader: asyncio.StreamReader, encoding: str, errors: str) -> None:
        import io

        self._reader = reader
        raw = codecs.getincrementaldecoder(encoding)(errors)
        self._decoder = io.IncrementalNewlineDecoder(raw, translate=True)
        self._text = ""  # decoded, taken up to `_at`: a long text isn't copied for each line of it
        self._at = 0
        self._ended = False

    async def _more(self) -> str:
        data = await self._reader.read(PIECE)
        self._ended = not data
        return self._decoder.decode(data, final=self._ended)

    def _take(self, end: int) -> str:
        taken = self._text[self._at : end]
        self._at += len(taken)
        if self._at == len(self._text):
            self._text, self._at = "", 0
        return taken

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._ended and not self._text

    async def read(self, size: int = -1) -> str:
        """Up to ``size`` characters, at least one before the end; all there will be with -1."""
        if size < 0:
            pieces = [self._take(len(self._text))]
            try:
                while not self._ended:
                    pieces.append(await self._more())
            except BaseException:  # cancelled: what came is there for the next
                self._text = "".join(pieces)
                raise
            return "".join(pieces)
        while size and not self._text and not self._ended:
            self._text = await self._more()
        return self._take(self._at + size)

    async def readline(self) -> str:
        """One line with its newline; "" at the end. ValueError for a line above LINE_LIMIT characters."""
        searched = self._at
        while (end := self._text.find("\n", searched)) < 0 and not self._ended:
            if len(self._text) - self._at > LINE_LIMIT:
                raise ValueError("a line is longer than a reader takes; use read(n)")
            rest = self._text[self._at :]
            self._text, self._at, searched = rest + await self._more(), 0, len(rest)
        return self._take(end + 1 if end >= 0 else len(self._text))

    def __aiter__(self) -> TextReader:
        return self

    async def __anext__(self) -> str:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line
