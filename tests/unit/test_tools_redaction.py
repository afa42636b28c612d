"""Secrets go, everything else stays."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import digest
from schemas.events import Failure
from schemas.ids import run_id
from schemas.tools import Part, Preview, Question, ToolResult
from services.tools.redaction import Redaction, redacted

# Made up of pieces, so that no scanner takes this file for a leak.
SECRETS = {
    "aws access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws access key (session)": "ASIA" + "IOSFODNN7EXAMPLE",
    "alibaba access key": "LTAI" + "5tAbCdEfGhIjKlMnOpQr",
    "github token": "ghp_" + "aB3d" * 9,
    "github token (fine)": "github_pat_" + "11ABCDEFG0" * 8,
    "gitlab token": "glpat-" + "xYz123AbC456DeF789gH",
    "openai key": "sk-" + "aB3dE6gH9jK2mN5pQ8sT",
    "openai key (project)": "sk-proj-" + "aB3d_E6gH-9jK2mN5pQ8sT1",
    "slack token": "xoxb-" + "123456789012-abcdefGHIJKL",
    "google key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "npm token": "npm_" + "aB3dE6gH9j" * 3 + "K2mN5p",
    "hugging face token": "hf_" + "aBcDeFgHiJ" * 3 + "KlMn",
    "pypi token": "pypi-" + "AgEIcHlwaS5vcmcCJGQ1" * 3,
    "stripe key": "sk_" + "live_" + "51AbCdEfGhIjKlMnOp",
    "stripe key (restricted)": "rk_" + "test_" + "51AbCdEfGhIjKlMnOp",
    "sendgrid key": "SG" + ".ngeVfQFYQlKU0ufo8x5d1A." + "TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
    "vault token": "hvs" + ".CAESIJ1f3x9kq0PbT2vYw8sLmN4d",
    "docker token": "dckr_" + "pat_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7",
    "json web token": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("around", ["{0}", "the key is {0}.", '{{"k": "{0}"}}', "export K={0}\n", "({0},{0})"])
def test_known_secrets_are_replaced_by_their_kind(name: str, around: str) -> None:
    said = redacted(around.format(SECRETS[name]))

    assert SECRETS[name] not in said and f"[redacted: {name.partition(' (')[0]}]" in said
    assert redacted(said) == said


@pytest.mark.parametrize(
    ("text", "secret", "stays"),
    [
        ("Authorization: Bearer abcDEF123456.ghi-789_jkl", "abcDEF123456", "Authorization: Bearer "),
        ("postgres://admin:hunter2@db.example:5432/x", "hunter2", "postgres://admin:[redacted: password]@db.example:5432/x"),
        ("https://user:p%40ss@example.org/a?b=c", "p%40ss", "@example.org/a?b=c"),
        ("password=correcthorse&user=ann", "correcthorse", "&user=ann"),
        ("DB_PASSWORD=s3cr3t-value", "s3cr3t-value", "DB_PASSWORD="),
        ('{"user": "ann", "password": "correct horse battery"}', "correct horse", '{"user": "ann", "password": "'),
        ('"{\\"apiKey\\": \\"abcd1234\\"}"', "abcd1234", "apiKey"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI", "aws_secret_access_key = "),
        ("AccessKeySecret: 1a2b3c4d5e6f7g8h9i0jklmnopqrst", "1a2b3c4d5e6f", "AccessKeySecret: "),
        ("client_secret=zzzz9999", "zzzz9999", "client_secret="),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAK\n-----END RSA PRIVATE KEY-----\nafter", "MIIEow", "\nafter"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow and it was cut off", "MIIEow", ""),
        ("Authorization: Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI", "Authorization: Basic "),
        ('{"authorization": "Token 9944b09199c62bcf9418"}', "9944b0919", '{"authorization": "Token '),
        ("Set-Cookie: sid=31d4d96e407aad42; Path=/; Max-Age=3600; HttpOnly", "31d4d96e", "; Path=/; Max-Age=3600; HttpOnly"),
        (
            "Cookie: theme=dark; session_token=abcdef; lang=zh",
            "abcdef",
            "theme=dark; session_token=[redacted: cookie]; lang=zh",
        ),
        ("mysql --user ann --password hunter2 --host db", "hunter2", "mysql --user ann --password "),
        ("curl --api-key=abcd1234efgh https://example.org", "abcd1234efgh", " https://example.org"),
        ("tool --secret-key 'abcd1234'", "abcd1234", "tool --secret-key '"),
        ("DB_PASS=hunter2 DB_HOST=db", "hunter2", " DB_HOST=db"),
        ("GITHUB_TOKEN=abcdef12345 ./run", "abcdef12345", " ./run"),
        ("export APP_SIGNING_KEY='s1gn1ng'", "s1gn1ng", "export APP_SIGNING_KEY='"),
        ("数据库密码：hunter2，请保管", "hunter2", "，请保管"),
        ("密码是 correct-horse。", "correct-horse", "。"),
        ("口令: 12345678", "12345678", "口令: "),
        ("https://h/?Expires=1700000000&Signature=vjbyPxybdZaNmGa%2ByT272Y&x=1", "vjbyPxyb", "&x=1"),
        ("https://h/?X-Amz-Signature=98f1d8ff3c06ab2b9aab4f", "98f1d8ff3c", "?X-Amz-Signature="),
        ('{"password": 12345678, "user": "ann"}', "12345678", ', "user": "ann"}'),
        ('{"api_key": ["abcd1234", "efgh5678"], "n": 1}', "efgh5678", '], "n": 1}'),
        ('{"password": {"value": "correct horse"}}', "correct horse", '{"password": {"value": "'),
    ],
)
def test_named_secrets_are_replaced_and_what_is_around_them_stays(text: str, secret: str, stays: str) -> None:
    said = redacted(text)

    assert secret not in said and "[redacted: " in said and stays in said
    assert redacted(said) == said


INNOCENT = [
    "i-bp1f8k2m9x4q7web01 expires 2026-12-01T00:00Z, order 2100000000001, price 888.00 CNY",
    f"run {run_id('acme', 'key', '202611')} effect {digest('write', 'x')} sha256:{digest('a')}{digest('b')}",
    "commit 4ea53be9d0c1f2a3b4c5d6e7f8091a2b3c4d5e6f touches task-abcdefghijklmnopqrstuvwxyz0123 and disk-sk-learn",
    "NextToken=AAAAAV3MpHK1AP0pfPHEC5sAAAAAAAAA page_token=CAUQAA&PageToken=xyz123456 ClientToken=2f1e-44aa-9b",
    '{"NextToken": "caeba0bbb2be03f84eb48b699f0a4883", "tokens": 1234, "token": "the word token"}',
    "Password: must have 8 characters. password: required. The password is sent by mail; reset your password here.",
    '{"type": "string", "format": "password", "secret": true, "password": null, "description": "the password"}',
    "password=$DB_PASSWORD secret=${SECRET} password=<your password> apiKey={key} password=env:MILEPOST_SECRET_DB",
    "A bearer of bad news; Bearer authentication is used. bearer-of-good-news-everybody",
    "https://example.org:8443/a@b?c=d http://[::1]:80/ mailto:ann@example.org ssh://git@example.org/x.git",
    "AKIA is a prefix, LTAI too; sk-learn, skip, xoxo; hf_model_name, npm_config_registry=https://example.org",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ann@laptop",
    "续费成功：实例 i-bp1f8k2m9x4q7web01 到期 2027-02-28，订单 2100000000001。密码已重置。",
    "The secret of good tea: fresh water. Her secret garden. api key rotation is due; private keys live in the vault.",
    "uuid 123e4567-e89b-12d3-a456-426614174000, ami-0abcdef1234567890, arn:aws:iam::123456789012:role/x, vpc-0a1b2c3d",
    "i-0123456789abcdef0 i-bp67acfmxazb4p**** sg-0a1b2c3d eni-12345 vol-0abc ocid1.instance.oc1..abcdefghijklmnop1234567890",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709 d41d8cd98f00b204e9800998ecf8427e 550e8400-e29b-41d4-a716-446655440000",
    "Use --password to be asked, the --password option, --password-stdin, --token <token> or --password $PASS",
    "tool --secret-key FILE --password PASSWORD",
    "Forgot your password? A password is needed. Passwords: at least 12 characters. The password was changed on 2026-11-21.",
    "密码：至少 8 位，须含数字。密码为 8-32 个字符。密码：见附件。请输入密码: 忘记密码？密码是必填项。",
    "密钥轮换已完成，令牌已过期。",
    "密码：https://example.org/reset 密钥: required 密码：12 位 密码长度是 16 位，密码为空。密码：20261121 位",
    "tests pass=12, PASS: 120 tests, bypass=enabled, TEST_PASSED=yes, NEXT_TOKEN=AAAAAV3MpHK1AP0p MAX_TOKENS=4096",
    "Authorization: Basic authentication is used. authorization: token required. Basic research; token economy.",
    "Cookie: a small sweet thing. Set-Cookie: theme=dark; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT. cookies=2",
    "SignatureMethod=HMAC-SHA1&SignatureVersion=1.0 signature=short def f(signature=None) SG.1 pypi-simple hvs.read",
    '{"password": 12, "secret": false, "api_key": [], "password_policy": {"value": "eight or more"}, "tokens": [1234567]}',
    "eyJust a word. base64: SGVsbG8gd29ybGQhIFRoaXMgaXMgcGxhaW4gdGV4dC4=",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.text(max_size=200))
def test_any_text_is_read_and_nothing_is_found_twice(text: str) -> None:
    said = redacted(text)
    assert redacted(said) == said


def test_long_texts_are_read_in_little_time() -> None:
    texts: tuple[str, ...] = (
        "a" * 500_000,
        "password" * 60_000,
        "a://b:" * 80_000,
        "eyJ" * 150_000,
        "-----BEGIN " * 40_000,
        "Bearer " * 70_000,
    )
    texts += tuple(piece * (400_000 // len(piece)) for piece in (
        "pypi-", "SG.", "hvs.", "Cookie: a=b; ", "cookie: ", "--password ", "--api-", "密码：", "A_", "TOKEN=_KEY= A_B_",
        "Signature=",
        "Authorization: Basic ", '"password": [', '"password":{"value":', "password: ", "x=", "sk_live_", "_pass",
        "token=AAAA_",
    ))  # fmt: skip
    for text in texts:
        began = time.perf_counter()
        redacted(text)
        assert time.perf_counter() - began < 4.0, text[:20]


def test_everything_that_a_call_says_is_read() -> None:
    secret, hide = SECRETS["github token"], Redaction(("resolved by the host",))
    result = ToolResult(
        text=f"{secret} resolved by the host",
        parts=(
            Part(kind="json", json_value={"a": [secret, {"password": "abcdef"}], "n": 1}), Part(kind="text", text=secret),
            Part(kind="file", ref=f"https://x:{secret}@h/", name="a.txt", media_type="text/plain"),
        ),
    )  # fmt: skip
    said = [
        hide.result(result).model_dump_json(),
        hide.preview(Preview(summary=secret, rows=((secret, secret),), price="1", currency="CNY")).model_dump_json(),
        hide.failure(Failure(type="X", what=secret, why=secret, hint=secret)).model_dump_json(),
        hide.question(Question(id="q", text=secret)).model_dump_json(),
    ]
    for each in said:
        assert secret not in each and "resolved by the host" not in each and "abcdef" not in each
    assert '"n":1' in said[0] and '"name":"a.txt"' in said[0] and '"price":"1"' in said[1]


def test_a_known_secret_goes_in_whatever_form_it_stands() -> None:
    assert redacted("it is tea time", ("tea time",)) == "it is [redacted: secret]"
    assert redacted("a to b", ("to",)) == "a to b"  # too short to tell apart from words


@pytest.mark.parametrize("secret", ['pa"ss\\wo/rd+1', "hunter2-and-more", "密码 with é & spaces?"])
def test_a_known_secret_is_hidden_however_a_tool_writes_it(secret: str) -> None:
    raw = secret.encode()
    forms = [
        json.dumps(secret), json.dumps(secret, ensure_ascii=False), json.dumps(json.dumps({"k": secret})),
        json.dumps(secret).replace("/", "\\/"), quote(secret), quote(secret, safe=""), quote_plus(secret),
        quote(secret, safe="").lower(),
        base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode().rstrip("="),
        *(base64.b64encode(user.encode() + b":" + raw).decode() for user in ("a", "an", "ann", "anna")),
        base64.b64encode(b"before " + raw + b" and after").decode(),
    ]  # fmt: skip
    for form in forms:
        said = redacted(f"it said {form} here", (secret,))
        assert form.strip('"') not in said and "[redacted: secret]" in said, form
        assert said.startswith("it said ") and said.endswith(" here"), form
        left = said.removeprefix("it said ").removesuffix(" here").replace("[redacted: secret]", "")
        assert len(left) <= 18 and "=" not in left, form  # quotes, and the name in the JSON


def test_known_secrets_leave_other_base64_alone() -> None:
    data = base64.b64encode(bytes(reversed(range(256))) * 8).decode()
    assert redacted(data, ("hunter2-and-more", "abcdef")) == data
    assert Redaction(("12345678",)).json({"n": 12345678, "m": 123456789}) == {"n": "[redacted: secret]", "m": 123456789}


def test_what_stands_under_the_name_of_a_secret_is_one_whatever_it_is() -> None:
    hide, gone = Redaction(), "[redacted: secret]"
    said = {
        "password": 12345678, "api_key": ["abcd1234", {"value": "efgh5678", "name": "mine"}], "count": 12345678,
        "client_secret": {"current": {"value": "ijkl"}, "createdTime": "2026-11-21", "id": "s-1"},
        "Authorization": "Basic YW5uOmh1bnRlcjI=", "Set-Cookie": "sid=31d4d96e407aad42; Path=/",
        "cookie": "theme=dark",
    }  # fmt: skip
    assert hide.json(said) == {
        "password": gone, "api_key": [gone, {"value": gone, "name": "mine"}], "count": 12345678,
        "client_secret": {"current": {"value": gone}, "createdTime": "2026-11-21", "id": "s-1"},
        "Authorization": "Basic [redacted: credentials]", "Set-Cookie": "sid=[redacted: cookie]; Path=/",
        "cookie": "theme=dark",
    }  # fmt: skip


def test_a_schema_with_a_secret_in_it_is_still_a_schema() -> None:
    schema = {
        "properties": {"password": {"type": "string", "description": "at least 8", "minLength": 1000}},
        "required": ["password"], "password": True, "secret": None, "api_key": {"$ref": "#/$defs/Key"},
    }  # fmt: skip
    assert Redaction().json(schema) == schema
