from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepy.errors import RequestRefused
from safepy.wire import admin
from safepy.wire.admin import Reply, Request


def test_a_request_survives_the_way() -> None:
    request = Request("action", "demo", {"action": "stop", "identity": "a\nb"}, "root", ["stop"])
    line = admin.encode_request(request)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert admin.decode_request(line) == request


def test_bytes_of_a_file_survive_as_base64() -> None:
    line = admin.encode_request(Request("cluster.config", args={"content": b"\xff\x00"}))
    assert admin.decode_request(line).args == {"content": "/wA="}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused_in_one_sentence(line: bytes) -> None:
    try:
        assert isinstance(admin.decode_request(line), Request)
    except RequestRefused as refusal:
        assert refusal.message.startswith("not a request")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_refused(line: bytes) -> None:
    try:
        assert isinstance(admin.decode_reply(line), Reply)
    except RequestRefused as refusal:
        assert "safeadmin" in refusal.message


def test_brackets_in_brackets_are_refused_like_anything_else() -> None:
    deep = b"[" * 100_000
    with pytest.raises(RequestRefused, match="not a request"):
        admin.decode_request(b'{"verb":"state","args":{"a":' + deep)
    with pytest.raises(RequestRefused, match="safeadmin"):
        admin.decode_reply(b'{"ok":true,"data":' + deep)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(RequestRefused, match="unknown field"):
        admin.decode_request(b'{"verb":"state","surprise":1}')


def test_too_long_lines_are_refused_on_both_sides() -> None:
    with pytest.raises(RequestRefused, match="bytes long"):
        admin.encode_request(Request("print", args={"text": "x" * admin.MAX_REQUEST_BYTES}))
    with pytest.raises(RequestRefused, match="at most"):
        admin.decode_request(b" " * (admin.MAX_REQUEST_BYTES + 1))


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(RequestRefused, match="UTF-8"):
        admin.encode_request(Request("print", args={"text": "\udcff"}))


def test_a_reply_too_long_becomes_an_error() -> None:
    reply = admin.decode_reply(admin.encode_reply(Reply(True, "x" * admin.MAX_REPLY_BYTES)))
    assert not reply.ok and reply.error == "the answer is too long"
