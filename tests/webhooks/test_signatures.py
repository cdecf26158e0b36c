"""Schemes with signatures, on what their providers publish."""

import base64
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edo_stream.webhooks.verdict import (
    HEADER_MISSING,
    HEADER_REPEATED,
    SECRET_MISSING,
    SECRET_UNUSABLE,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISMATCH,
    SIGNATURE_MISSING,
    TIMESTAMP_MALFORMED,
    TIMESTAMP_TOO_NEW,
    TIMESTAMP_TOO_OLD,
)
from tests.webhooks.ask import accepted, ask, cause

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"test": 2432232314}'
SIGNED_MS = 1_614_265_330_000
#: From the reference libraries of Standard Webhooks.
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}

STRIPE_SECRET = "whsec_test_secret"
STRIPE_BODY = b'{"id":"evt_test_webhook","object":"event"}'
STRIPE_CODE = "d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990"

#: From GitHub's documentation.
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_CODE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

SHOPIFY_BODY = b'{"id":820982911946154508}'
SHOPIFY_CODE = "qBvrsZF7RfB1iS6BX6IHqJTp5L911P7intnPeTPsH0I="

#: From Slack's documentation.
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SLACK_MS = 1_531_420_618_000
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_HEADERS = {
    "X-Slack-Request-Timestamp": "1531420618",
    "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
}


def test_the_published_vector_of_standard_webhooks_is_accepted() -> None:
    answer = accepted(ask("standard-webhooks", [SECRET], HEADERS, BODY, SIGNED_MS))
    assert ("msg_p5jXN8AQM9LWM0D4loKWxJek", SIGNED_MS) == (answer.event_id, answer.signed_at_ms)


def test_svix_is_the_same_under_its_own_names() -> None:
    headers = {name.replace("webhook", "Svix"): value for name, value in HEADERS.items()}
    assert accepted(ask("svix", [SECRET], headers, BODY, SIGNED_MS)).event_id is not None


def test_a_secret_without_its_prefix_or_padding_is_the_same_secret() -> None:
    bare = SECRET.removeprefix("whsec_")
    assert accepted(ask("standard", [bare], HEADERS, BODY, SIGNED_MS))


def test_while_secrets_rotate_the_one_that_fits_is_told() -> None:
    assert accepted(ask("standard", [OTHER, SECRET], HEADERS, BODY, SIGNED_MS)).key == 1


def test_one_of_several_signatures_is_enough_and_unknown_versions_are_skipped() -> None:
    several = f"v9,new v1,AAAA {HEADERS['webhook-signature']} nonsense"
    headers = HEADERS | {"webhook-signature": several}
    assert accepted(ask("standard", [SECRET], headers, BODY, SIGNED_MS))


def test_a_secret_that_is_none_does_not_spoil_the_others() -> None:
    assert accepted(ask("standard", ["whsec_§", SECRET], HEADERS, BODY, SIGNED_MS)).key == 1
    assert cause(ask("standard", ["whsec_§"], HEADERS, BODY, SIGNED_MS)) == SECRET_UNUSABLE
    assert cause(ask("standard", [], HEADERS, BODY, SIGNED_MS)) == SECRET_MISSING


@pytest.mark.parametrize("prefix", ["whpk_", "whsk_"])
def test_ed25519_signatures_are_verified_with_the_public_key(prefix: str) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signature = private.sign(b"msg_1.1614265330.{}")
    key = (
        private.public_key().public_bytes_raw()
        if prefix == "whpk_"
        else private.private_bytes_raw() + private.public_key().public_bytes_raw()
    )
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,AAAA v1a,{base64.b64encode(signature).decode()}",
    }
    secrets = [SECRET, prefix + base64.b64encode(key).decode()]
    assert accepted(ask("standard", secrets, headers, b"{}", SIGNED_MS)).key == 1
    assert cause(ask("standard", secrets, headers, b"[]", SIGNED_MS)) == SIGNATURE_MISMATCH


def test_a_public_key_never_serves_as_the_secret_of_a_code() -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    code = base64.b64encode(hmac.digest(public, b"a.1614265330.{}", "sha256")).decode()
    headers = HEADERS | {"webhook-id": "a", "webhook-signature": f"v1,{code}"}
    secret = "whpk_" + base64.b64encode(public).decode()
    assert cause(ask("standard", [secret], headers, b"{}", SIGNED_MS)) == SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (300, "Accepted"),
        (301, TIMESTAMP_TOO_OLD),
        (-300, "Accepted"),
        (-301, TIMESTAMP_TOO_NEW),
    ],
)
def test_the_window_holds_both_ways(age_s: int, expected: str) -> None:
    now_ms = SIGNED_MS + age_s * 1_000
    assert expected == cause(ask("standard", [SECRET], HEADERS, BODY, now_ms))
    headers = {"stripe-signature": f"t=1700000000,v1={STRIPE_CODE}"}
    now_ms = 1_700_000_000_000 + age_s * 1_000
    assert expected == cause(ask("stripe", [STRIPE_SECRET], headers, STRIPE_BODY, now_ms))
    now_ms = SLACK_MS + age_s * 1_000
    assert expected == cause(ask("slack", [SLACK_SECRET], SLACK_HEADERS, SLACK_BODY, now_ms))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"webhook-id": ""}, HEADER_MISSING),
        ({"webhook-id": "another"}, SIGNATURE_MISMATCH),
        ({"webhook-timestamp": "1614265331"}, SIGNATURE_MISMATCH),
        ({"webhook-timestamp": "1_614_265_330"}, TIMESTAMP_MALFORMED),
        ({"webhook-timestamp": "-1614265330"}, TIMESTAMP_MALFORMED),
        ({"webhook-timestamp": "1614265330.5"}, TIMESTAMP_MALFORMED),
        ({"webhook-timestamp": "\u0661\u0662\u0663"}, TIMESTAMP_MALFORMED),
        ({"webhook-timestamp": "9" * 400}, TIMESTAMP_MALFORMED),
        ({"webhook-signature": ""}, SIGNATURE_MISSING),
        ({"webhook-signature": "v2,AAAA"}, SIGNATURE_MALFORMED),
        ({"webhook-signature": "v1"}, SIGNATURE_MISMATCH),
        ({"webhook-signature": "v1,\u00fc\U0001f600"}, SIGNATURE_MISMATCH),
        ({"webhook-signature": "v1a,AAAA"}, SIGNATURE_MISMATCH),
        # The unused bits of the last character.
        ({"webhook-signature": HEADERS["webhook-signature"][:-2] + "F="}, SIGNATURE_MISMATCH),
    ],
)
def test_what_is_not_as_signed_is_rejected(change: dict[str, str], expected: str) -> None:
    headers = HEADERS | change
    assert expected == cause(ask("standard", [SECRET], headers, BODY, SIGNED_MS))


def test_a_header_given_twice_in_any_case_is_ambiguous() -> None:
    twice = [*HEADERS.items(), ("Webhook-Signature", HEADERS["webhook-signature"])]
    assert cause(ask("standard", [SECRET], twice, BODY, SIGNED_MS)) == HEADER_REPEATED


def test_names_of_headers_have_no_case() -> None:
    headers = {name.upper(): f" {value}\t" for name, value in HEADERS.items()}
    assert accepted(ask("standard", [SECRET], headers, BODY, SIGNED_MS))


def test_stripe_takes_the_secret_as_it_is_written() -> None:
    headers = {"Stripe-Signature": f"t=1700000000,v1=00,v1={STRIPE_CODE},v0=ff"}
    answer = accepted(ask("stripe", ["other", STRIPE_SECRET], headers, STRIPE_BODY))
    assert ("evt_test_webhook", 1) == (answer.event_id, answer.key)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"v1={STRIPE_CODE}", TIMESTAMP_MALFORMED),
        (f"t=1700000000,t=1700000001,v1={STRIPE_CODE}", TIMESTAMP_MALFORMED),
        (f"t=now,v1={STRIPE_CODE}", TIMESTAMP_MALFORMED),
        ("t=1700000000", SIGNATURE_MALFORMED),
        (f"t=1700000000,v0={STRIPE_CODE}", SIGNATURE_MALFORMED),
        (f"t=1700000000,v1={STRIPE_CODE[:-1]}1", SIGNATURE_MISMATCH),
        ("", SIGNATURE_MISSING),
    ],
)
def test_stripe_rejects_what_is_not_as_signed(header: str, expected: str) -> None:
    headers = {"stripe-signature": header}
    assert expected == cause(ask("stripe", [STRIPE_SECRET], headers, STRIPE_BODY))


def test_the_published_vector_of_github_is_accepted_and_its_id_is_unsigned() -> None:
    headers = {"X-Hub-Signature-256": GITHUB_CODE, "X-GitHub-Delivery": "72d3162e"}
    answer = accepted(ask("github", [GITHUB_SECRET], headers, b"Hello, World!"))
    assert ("72d3162e", False) == (answer.event_id, answer.is_id_signed)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (GITHUB_CODE.removeprefix("sha256="), SIGNATURE_MALFORMED),
        (GITHUB_CODE.replace("sha256", "sha1"), SIGNATURE_MALFORMED),
        (GITHUB_CODE[:-2], SIGNATURE_MISMATCH),
        ("sha256=", SIGNATURE_MISMATCH),
    ],
)
def test_github_rejects_what_is_not_as_signed(header: str, expected: str) -> None:
    headers = {"x-hub-signature-256": header}
    assert expected == cause(ask("github", [GITHUB_SECRET], headers, b"Hello, World!"))


@pytest.mark.parametrize("prefix", ["X-Shopify-", "shopify-"])
def test_shopify_is_verified_under_old_and_new_names(prefix: str) -> None:
    headers = {f"{prefix}Hmac-SHA256": SHOPIFY_CODE, f"{prefix}Webhook-Id": "b54557e4"}
    assert accepted(ask("shopify", ["hush"], headers, SHOPIFY_BODY)).event_id == "b54557e4"


def test_shopifys_old_and_new_header_must_agree() -> None:
    headers = {"X-Shopify-Hmac-SHA256": SHOPIFY_CODE, "Shopify-Hmac-SHA256": "AAAA"}
    assert cause(ask("shopify", ["hush"], headers, SHOPIFY_BODY)) == HEADER_REPEATED


def test_the_published_vector_of_slack_is_accepted() -> None:
    answer = accepted(ask("slack", [SLACK_SECRET], SLACK_HEADERS, SLACK_BODY, SLACK_MS))
    assert (None, None) == (answer.event_id, answer.reply)


def test_slacks_challenge_is_answered_once_it_is_verified() -> None:
    body = b'{"token":"t","challenge":"3eZbrw1a","type":"url_verification"}'
    code = hmac.digest(SLACK_SECRET.encode(), b"v0:1531420618:" + body, "sha256").hex()
    headers = SLACK_HEADERS | {"X-Slack-Signature": f"v0={code}"}
    reply = accepted(ask("slack", [SLACK_SECRET], headers, body, SLACK_MS)).reply
    assert reply is not None
    assert b'{"challenge":"3eZbrw1a"}' == reply.body
    assert cause(ask("slack", ["other"], headers, body, SLACK_MS)) == SIGNATURE_MISMATCH


def test_generic_hmac_signs_what_its_template_says() -> None:
    options = {
        "header": "X-Sig",
        "prefix": "sha512:",
        "algorithm": "sha512",
        "encoding": "base64",
        "secret_encoding": "hex",
        "template": "{id}|{timestamp}|{header:X-Tenant}|{body}",
        "timestamp_header": "X-Time",
        "timestamp_unit": "ms",
        "id_header": "X-Id",
    }
    signed = b"e1|1700000000123|acme|{}"
    code = base64.b64encode(hmac.digest(b"\x01\x02", signed, "sha512")).decode()
    headers = {
        "X-Sig": f"sha512:{code}",
        "X-Time": "1700000000123",
        "X-Tenant": "acme",
        "X-Id": "e1",
    }
    answer = accepted(ask("hmac", ["0102"], headers, **options))
    assert ("e1", True, 1_700_000_000_123) == (
        answer.event_id,
        answer.is_id_signed,
        answer.signed_at_ms,
    )
    late_ms = 1_700_000_000_123 + 300_001
    assert cause(ask("hmac", ["0102"], headers, now_ms=late_ms, **options)) == TIMESTAMP_TOO_OLD
    assert cause(ask("hmac", ["0102"], headers | {"X-Tenant": "b"}, **options)) == (
        SIGNATURE_MISMATCH
    )


def test_generic_hmac_reads_hexadecimal_in_capitals() -> None:
    code = hmac.digest(b"s", b"{}", "sha256").hex().upper()
    assert accepted(ask("hmac", ["s"], {"x-signature": code}))


@pytest.mark.parametrize(
    "options",
    [
        {"template": "{timestamp}.{body}"},
        {"template": "{timestamp}"},
        {"template": "{id}{body}"},
        {"template": "{what}{body}"},
        {"template": "{body}}"},
        {"timestamp_header": "X-Time"},
        {"timestamp_header": "X-Time", "template": "{body}."},
    ],
)
def test_generic_hmac_refuses_options_that_prove_nothing(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"write|add|proves|known|brace"):
        ask("hmac", ["s"], {}, **options)
