# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox, the face without asyncio."""
from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Iterable, Iterator, List, Optional, Type, Union

from . import _protocol as p
from . import _requests as r
from . import _wire
from ._sync_http import Answer
from ._wire import FileInfo

if TYPE_CHECKING:
    from .sync import BaseSandbox

#: what upload() takes: a file open for reading, or pieces
Source = Union[Any, Iterable[bytes]]


def pieces_of(source: Source) -> Iterator[bytes]:
    read = getattr(source, "read", None)
    if read is not None:
        while True:
            data = read(r.PIECE)
            if not data:
                return
            yield r.bytes_of(data)
    elif isinstance(source, (str, bytes)):
        raise TypeError("a source is an open file or pieces of bytes; write() takes text and bytes")
    else:
        for data in source:
            yield r.bytes_of(data)


class FileStream:
    """The content of a file, piece by piece: `with` it, and `for` over it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __iter__(self) -> FileStream:
        return self

    def __next__(self) -> bytes:
        data = self._answer.read()
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Gives up what was not read."""
        self._answer.close()

    def __enter__(self) -> FileStream:
        return self

    def __exit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        self._answer.close()


class Files:
    """Files of a sandbox.  Paths are absolute.  What fails in the sandbox is a FileError.

    `user` of each method: with whose rights ("name", "uid", "name:group"); default: the image's.
    """

    def __init__(self, sandbox: BaseSandbox) -> None:
        self._sandbox = sandbox

    def read_stream(
        self, path: str, *, offset: Optional[int] = None, length: Optional[int] = None, user: Optional[str] = None
    ) -> FileStream:
        """The content piece by piece, of any size; from `offset`, at most `length` bytes."""
        r.check_part(offset, length)
        target = self._sandbox._files_target(path, offset=offset, length=length, user=user)
        answer = self._sandbox._http.open(r.Request("GET", target, p.BYTES))
        if answer.status != 200:
            p.refused(answer.status, answer.body())
        return FileStream(answer)

    def read(
        self, path: str, *, offset: Optional[int] = None, length: Optional[int] = None, user: Optional[str] = None
    ) -> bytes:
        """The content; from `offset`, at most `length` bytes."""
        with self.read_stream(path, offset=offset, length=length, user=user) as stream:
            return stream._answer.body()

    def read_text(self, path: str, *, user: Optional[str] = None) -> str:
        """The content as text; ValueError if it is no UTF-8."""
        return p.text_of(self.read(path, user=user), path)

    def download(
        self,
        path: str,
        target: Any,
        *,
        offset: Optional[int] = None,
        length: Optional[int] = None,
        user: Optional[str] = None,
    ) -> int:
        """Writes the content to a file of this machine that is open for writing bytes.

        Returns how many bytes there were.
        """
        size = 0
        with self.read_stream(path, offset=offset, length=length, user=user) as stream:
            for data in stream:
                target.write(data)
                size += len(data)
        return size

    def write(
        self,
        path: str,
        data: r.Data,
        *,
        mode: Optional[int] = None,
        append: bool = False,
        exclusive: bool = False,
        parents: bool = False,
        user: Optional[str] = None,
    ) -> FileInfo:
        """Writes text or bytes.  A file that is there is replaced as a whole, unless `append`; with
        `exclusive` there must be none.  `parents`: makes the directories on the way to it."""
        query = r.files_query(mode, append, exclusive, parents)
        target = self._sandbox._files_target(path, user=user, **query)
        answer = self._sandbox._http.open(r.Request("PUT", target, p.JSON, r.bytes_of(data), p.BYTES))
        return p.file_info(answer.status, answer.body())

    def upload(
        self,
        path: str,
        source: Source,
        *,
        mode: Optional[int] = None,
        append: bool = False,
        exclusive: bool = False,
        parents: bool = False,
        user: Optional[str] = None,
    ) -> FileInfo:
        """As write(), of any size: from a file of this machine that is open for reading bytes, or from
        an iterable of pieces.  If that fails, the file stays as it was."""
        query = r.files_query(mode, append, exclusive, parents)
        target = self._sandbox._files_target(path, user=user, **query)
        request = r.Request("PUT", target, p.JSON, None, p.BYTES)
        answer = self._sandbox._http.open(request, pieces_of(source))
        return p.file_info(answer.status, answer.body())

    def list(self, path: str, *, user: Optional[str] = None) -> List[FileInfo]:
        """The entries of a directory, sorted by name; symbolic links are not followed."""
        return p.entries(self._call(_wire.FS_LIST, path, user))

    def stat(self, path: str, *, follow: bool = False, user: Optional[str] = None) -> FileInfo:
        """`follow`: of a symbolic link, what it points to."""
        return FileInfo.from_wire(self._call(_wire.FS_STAT, path, user, follow=follow))

    def mkdir(
        self, path: str, *, parents: bool = False, mode: Optional[int] = None, user: Optional[str] = None
    ) -> FileInfo:
        """`parents`: makes those on the way too, and one that is there is no error."""
        return FileInfo.from_wire(self._call(_wire.FS_MKDIR, path, user, parents=parents, mode=mode))

    def remove(self, path: str, *, recursive: bool = False, user: Optional[str] = None) -> FileInfo:
        """`recursive`: a directory with all that it holds.  Returns the file as it was."""
        return FileInfo.from_wire(self._call(_wire.FS_REMOVE, path, user, recursive=recursive))

    def rename(self, path: str, to: str, *, user: Optional[str] = None) -> FileInfo:
        """A file that has the new name is replaced.  Returns the file at its new place."""
        return FileInfo.from_wire(self._call(_wire.FS_RENAME, path, user, to=to))

    def _call(self, method: str, path: str, user: Optional[str], **more: Any) -> Any:
        return self._sandbox._http.call(self._sandbox._file_call(method, path, user, **more))
