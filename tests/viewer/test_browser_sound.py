"""Text in the panel's markdown, which is code to the browser."""

import json

import pytest

from ntalker_ns.viewer.browser_sound import plain


@pytest.mark.parametrize("text", ["{alert(1)}", "<img src=x onerror=alert(1)>", "![x](/etc/passwd)", '"} {`', "a\nb\\"])
def test_text_is_a_string_of_the_page_and_nothing_else(text: str):
    shown = plain(text)
    assert shown[:2] == '{"' and shown[-2:] == '"}'
    assert not set("!<>[](){}\n`") - {"`"} & set(shown[1:-1])
    assert json.loads(shown[1:-1]) == text
