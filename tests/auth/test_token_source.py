from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kpo_multicluster.auth.access import Token, TokenSource, static_token
from kpo_multicluster.errors import CredentialError


class Issuer:
    """Issues numbered tokens of a fixed life, or fails."""

    def __init__(self, clock: Callable[[], float], life: float | None = 600.0) -> None:
        self.clock, self.life = clock, life
        self.count = 0
        self.failing = False

    def __call__(self) -> Token:
        if self.failing:
            raise CredentialError("the issuer is down")
        self.count += 1
        return Token(f"token-{self.count}", None if self.life is None else self.clock() + self.life)


@pytest.fixture
def issuer(clock: Any) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def source(issuer: Issuer, clock: Any) -> TokenSource:
    return TokenSource(issuer, source="test", clock=clock)


def test_renewed_a_minute_before_the_end_and_not_sooner(source: TokenSource, clock: Any) -> None:
    assert source.fresh() is None
    assert source.current().value == "token-1"
    clock.now += 539
    assert source.current().value == "token-1"
    assert source.fresh() is not None
    clock.now += 1
    assert source.fresh() is None
    assert source.current().value == "token-2"


def test_a_short_life_is_used_to_four_fifths(clock: Any) -> None:
    source = TokenSource(Issuer(clock, 10), source="test", clock=clock)
    source.current()
    clock.now += 7.9
    assert source.current().value == "token-1"
    clock.now += 0.1
    assert source.current().value == "token-2"


def test_a_token_without_an_end_is_kept(clock: Any) -> None:
    source = TokenSource(Issuer(clock, None), source="test", clock=clock)
    source.current()
    clock.now += 10**9
    assert source.current().value == "token-1"


def test_a_failed_renewal_is_hidden_while_the_old_token_lasts(source: TokenSource, issuer: Issuer, clock: Any) -> None:
    source.current()
    issuer.failing = True
    clock.now += 550
    assert source.current().value == "token-1"
    assert source.fresh() is not None, "the next try waits"
    clock.now += 5
    assert source.fresh() is None
    clock.now += 45
    with pytest.raises(CredentialError, match="the issuer is down"):
        source.current()
    issuer.failing = False
    assert source.current().value == "token-2"


def test_the_first_failure_is_not_hidden(source: TokenSource, issuer: Issuer) -> None:
    issuer.failing = True
    with pytest.raises(CredentialError, match="the issuer is down"):
        source.current()


def test_a_refused_token_is_replaced_once(source: TokenSource, issuer: Issuer) -> None:
    first = source.current()
    second = source.replace(first)
    assert (first.value, second.value) == ("token-1", "token-2")
    assert source.replace(first) is second, "another thread's renewal counts"
    assert source.current() is second
    assert source.replace(second).value == "token-3"
    assert issuer.count == 3


def test_one_refused_late_gets_no_token_that_has_expired_since(source: TokenSource, clock: Any) -> None:
    first = source.current()
    second = source.replace(first)
    clock.now += 600
    assert source.replace(first) is not second


def test_a_refused_token_that_cannot_be_replaced_is_an_error(source: TokenSource, issuer: Issuer) -> None:
    first = source.current()
    issuer.failing = True
    with pytest.raises(CredentialError, match="the issuer is down"):
        source.replace(first)


def test_eight_threads_that_renew_at_once_fetch_once(clock: Any) -> None:
    issuer = Issuer(clock)
    entered, go = threading.Event(), threading.Event()

    def slow() -> Token:
        entered.set()
        assert go.wait(10)
        return issuer()

    source = TokenSource(slow, source="test", clock=clock)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(source.current) for _ in range(8)]
        assert entered.wait(10)
        go.set()
        first = {future.result().value for future in asked}
        refused = source.current()
        replaced = {future.result().value for future in [threads.submit(source.replace, refused) for _ in range(8)]}
    assert (first, replaced, issuer.count) == ({"token-1"}, {"token-2"}, 2)


def test_while_one_thread_renews_the_others_use_what_lasts(clock: Any) -> None:
    issuer = Issuer(clock)
    entered, go = threading.Event(), threading.Event()

    def slow() -> Token:
        if issuer.count:
            entered.set()
            assert go.wait(30)
        return issuer()

    source = TokenSource(slow, source="test", clock=clock)
    source.current()
    clock.now += 550
    with ThreadPoolExecutor(2) as threads:
        renewing = threads.submit(source.current)
        assert entered.wait(30)
        assert source.current().value == "token-1", "an issuer that takes long holds nobody up"
        clock.now += 50
        waiting = threads.submit(source.current)
        go.set()
        assert [renewing.result(30).value, waiting.result(30).value] == ["token-2", "token-2"]


def test_a_child_forked_while_a_thread_renews_is_not_locked_out(clock: Any) -> None:
    entered, go = threading.Event(), threading.Event()
    parent = os.getpid()

    def fetch() -> Token:
        if os.getpid() == parent:
            entered.set()
            assert go.wait(10)
        return Token(str(os.getpid()))

    source = TokenSource(fetch, source="test", clock=clock)
    thread = threading.Thread(target=source.current)
    thread.start()
    assert entered.wait(10)
    try:
        child = _fork(lambda: 0 if source.current().value == str(os.getpid()) else 1)
    finally:
        go.set()
        thread.join(10)
    assert child == 0
    assert source.current().value == str(parent)


def _fork(work: Callable[[], int]) -> int:
    with warnings.catch_warnings():
        # Threads are what the test is about; later Pythons warn of a fork beside them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_static_token_is_told_apart_from_one_that_renews() -> None:
    source = static_token("abc", source="connection 'gpu'")
    token = source.current()
    with pytest.raises(CredentialError, match="refused the token from connection 'gpu'") as caught:
        source.replace(token)
    assert "abc" not in str(caught.value)
    assert source.current() is token


def test_nothing_secret_is_shown() -> None:
    token = Token("s3cret", client_certificate="s3cret", client_key="s3cret")
    assert "s3cret" not in repr(token)
