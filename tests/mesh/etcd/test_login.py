"""The password out of its file, and the token for it."""

import asyncio

import pytest

from derpmesh.etcd.errors import FileUnusable, Unauthenticated
from derpmesh.etcd.login import Credentials, Login


@pytest.fixture
def password_file(tmp_path):
    """Give a file with a password, for its owner alone."""
    path = tmp_path / "password"
    path.write_bytes(b"s3cret\n")
    path.chmod(0o600)
    return path


def test_password_is_one_line(password_file):
    """The end of the line is none of it; other spaces are."""
    assert Credentials("node", password_file).password() == "s3cret"
    password_file.write_bytes(" pass wörd\r\n".encode())
    assert Credentials("node", password_file).password() == " pass wörd"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff", b"x" * 4097])
def test_file_without_a_password(password_file, content):
    """It is not shown."""
    password_file.write_bytes(content)
    with pytest.raises(FileUnusable, match="not one line of text"):
        Credentials("node", password_file).password()


def test_file_that_others_read(password_file):
    """The remedy is told."""
    password_file.chmod(0o640)
    with pytest.raises(FileUnusable) as caught:
        Credentials("node", password_file).password()
    assert str(caught.value) == (
        f"{password_file}: mode 0640 lets others read this secret; "
        f"run: chmod 600 {password_file}"
    )


def test_file_that_is_not_there(tmp_path):
    """Its path is told."""
    with pytest.raises(FileUnusable, match="cannot be read: No such file"):
        Credentials("node", tmp_path / "nothing").password()


class Desk:
    """Gives tokens, one after the other."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refuses = False

    async def __call__(self, user: str, password: str) -> str:
        self.asked.append((user, password))
        await asyncio.sleep(0)
        if self.refuses:
            raise Unauthenticated("http://a:2379", "wrong password")
        return f"token{len(self.asked)}"


async def test_nobody_has_no_token():
    """And no login is of use."""
    login = Login(Desk(), None)
    assert await login.token() == ""
    assert not login.possible


async def test_one_login_for_all(password_file):
    """A token that many find refused is made anew once."""
    desk = Desk()
    login = Login(desk, Credentials("node", password_file))
    assert await asyncio.gather(*[login.token() for _ in range(5)]) == ["token1"] * 5
    again = [login.token("token1") for _ in range(5)]
    assert await asyncio.gather(*again) == ["token2"] * 5
    assert desk.asked == [("node", "s3cret")] * 2


async def test_password_may_change(password_file):
    """It is read at each login."""
    desk = Desk()
    login = Login(desk, Credentials("node", password_file))
    await login.token()
    password_file.write_bytes(b"other")
    await login.token("token1")
    assert desk.asked[-1] == ("node", "other")


async def test_failed_login_is_tried_again_by_the_next(password_file):
    """No token is kept of it."""
    desk = Desk()
    login = Login(desk, Credentials("node", password_file))
    desk.refuses = True
    with pytest.raises(Unauthenticated):
        await login.token()
    desk.refuses = False
    assert await login.token() == "token2"


def test_nothing_secret_is_shown(password_file):
    """The password is nowhere kept."""
    credentials = Credentials("node", password_file)
    assert "s3cret" not in repr(credentials) + repr(Login(Desk(), credentials))
