"""Redaction: secrets in what a tool says are replaced before it becomes an event or a receipt.

Known forms only, each with something that nothing else has, so that ids, hashes and page tokens stay readable. The forms
are those that the providers document: AWS and Alibaba access keys, tokens of GitHub, GitLab, OpenAI, Slack, Google, npm, PyPI,
Hugging Face, Stripe, SendGrid, Vault and Docker, PEM private keys (RFC 7468), JSON Web Tokens (RFC 7519), bearer and basic
credentials (RFC 6750, 7617), cookies of sessions (RFC 6265), signatures of signed URLs, passwords in URLs (RFC 3986, 3.2.1) and
values that are named passwords or keys. What the host itself resolved for a call is known word by word (known_secrets).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.events import Failure
from schemas.tools import Part, Preview, Question, ToolResult
from services.tools.known_secrets import REPLACED, SHORTEST, without

_NAMES = (
    r"passw(?:or)?d|passwd|passphrase|\bpwd|secret|secret[_-]?(?:access[_-]?)?key|access[_-]?key[_-]?secret|api[_-]?key|"
    r"private[_-]?key|(?:access|auth|refresh|id|session|security|bearer)[_-]?token|client[_-]?secret|"
    r"(?<=[a-z0-9])_pass"
)
_VALUE = r"(?![$<{*\[]|env:|file:|null\b|none\b|true\b|false\b|string\b|required\b|optional\b)"
_TOKEN = r"[A-Za-z0-9_-]"

# Each form with what stands in every text that has it, which is looked for first: most texts have none of it.
_FORMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "private key", ("-----BEGIN ",),
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----[\s\S]*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|\Z)",
    ),
    ("aws access key", ("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("alibaba access key", ("LTAI", "STS."), r"\b(?:LTAI[A-Za-z0-9]{12,26}|STS\.[A-Za-z0-9]{20,64})\b"),
    (
        "github token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255})",
    ),
    ("gitlab token", ("glpat-",), rf"\bglpat-{_TOKEN}{{20,}}"),
    ("openai key", ("sk-",), rf"\bsk-(?:(?:proj|svcacct|admin|ant-[a-z0-9]+)-{_TOKEN}{{20,}}|[A-Za-z0-9]{{20,}})"),
    (
        "slack token", ("xox", "hooks.slack.com"),
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    ),
    ("google key", ("AIza",), rf"\bAIza{_TOKEN}{{35}}"),
    ("npm token", ("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("hugging face token", ("hf_",), r"\bhf_[A-Za-z0-9]{34,}\b"),
    ("pypi token", ("pypi-",), rf"\bpypi-(?={_TOKEN}{{0,99}}[A-Z])(?={_TOKEN}{{0,99}}\d){_TOKEN}{{32,}}"),
    ("stripe key", ("k_live_", "k_test_", "whsec_"), r"\b(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16,}"),
    ("sendgrid key", ("SG.",), rf"\bSG\.{_TOKEN}{{16,}}\.{_TOKEN}{{16,}}"),
    ("vault token", ("hvs.", "hvb.", "hvr."), rf"\bhv[sbr]\.(?={_TOKEN}{{0,99}}\d){_TOKEN}{{20,}}"),
    ("docker token", ("dckr_",), rf"\bdckr_[po]at_{_TOKEN}{{20,}}"),
    ("json web token", ("eyJ",), rf"\beyJ{_TOKEN}{{8,}}\.eyJ{_TOKEN}{{8,}}\.{_TOKEN}{{8,}}"),
)  # fmt: skip
_WHOLE = tuple((name, signs, re.compile(form)) for name, signs, form in _FORMS)
_BEARER = re.compile(r"(\b[Bb]earer\s+)(?=[^\s\"']*\d)[A-Za-z0-9._~+/-]{16,}=*")
_IN_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@\[\]\"']{0,200}:)(?!\[redacted)[^\s/@\"']{1,500}(?=@)")
_NAMED = re.compile(
    rf"((?i:{_NAMES}))(?:([\"']?\s{{0,9}}=\s{{0,9}}[\"']?){_VALUE}[^\s\"'&,;<>]{{4,}}"
    rf"|(\\?[\"']\s{{0,9}}:\s{{0,9}}\\?[\"']){_VALUE}[^\"'\\\n]{{4,}}"
    rf"|(\\?[\"']\s{{0,9}}:\s{{0,9}})-?\d{{4,}}(?:\.\d+)?"
    rf"|(\\?[\"']\s{{0,9}}:\s{{0,9}}\[)\s{{0,9}}(?=[\"'\\\d])(?!\\?[\"']\[redacted)[^\[\]{{}}]{{4,4000}}(?=\])"
    rf"|(\\?[\"']\s{{0,9}}:\s{{0,9}}\{{\s{{0,9}}\\?[\"'](?:value|current|data|plain(?:text)?)\\?[\"']\s{{0,9}}:\s{{0,9}}\\?[\"'])"
    rf"{_VALUE}[^\"'\\\n]{{4,}}"
    rf"|(\s{{0,9}}:\s{{1,9}}){_VALUE}(?=[^\s\"']{{0,99}}\d)(?=[^\s\"']{{0,99}}[A-Za-z])[^\s\"',;]{{6,}})"
)
_NAME_SIGNS = ("passw", "passphrase", "pwd", "secret", "token", "apikey", "api_key", "api-key", "privatekey", "private_key",
               "private-key", "_pass")  # fmt: skip
_SECRET_KEY = re.compile(rf"(?i:(?:{_NAMES})$)")
# What tells about a secret without being one, where it stands beside it.
_TELLS = re.compile(
    r"(?i)(?:name|id|arn|type|kind|version|date|time|_at|ref|path|uri|url|description|status|format|title|label)$"
)
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

# Each with what stands in lower case in every text that has it; the first group stays.
_FOLLOWING: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "credentials", ("authorization",),
        r"(\b(?i:authorization)\\?[\"']?\s{0,9}[:=]\s{0,9}\\?[\"']?(?i:basic|token|digest|apikey)\s{1,9})(?!\[)"
        r"(?=[^\s\"']{0,400}[0-9A-Z=])[^\s\"'\\,;]{6,}",
    ),
    (
        "secret", ("--",),
        r"((?<!\S)--(?:[a-z]{1,20}-){0,3}(?:password|passwd|pass|passphrase|secret|token|api-?key|secret-key)(?:=|\s{1,9})[\"']?)"
        r"(?![-$<{*\[]|(?:option|flag|argument|parameter|switch|prompt|value|from|with|instead|when|that|which|must|only|will|"
        r"should|is|and|or|to)\b|[A-Z_]{1,30}(?:[\s.,;?\])]|\Z))[^\s\"']{4,}",
    ),
    (
        "secret", ("token=", "_key=", "_auth="),
        rf"((?<![A-Za-z0-9_])(?:[A-Z][A-Z0-9]{{0,30}}_){{0,6}}"
        rf"(?:(?<!NEXT_)(?<!PAGE_)(?<!SYNC_)TOKEN|(?:SECRET|SIGNING|ENCRYPTION|MASTER|ACCOUNT)_KEY|(?<=_)AUTH)=[\"']?)"
        rf"{_VALUE}[^\s\"'&,;<>]{{6,}}",
    ),
    (
        "secret", ("密码", "口令", "密钥", "令牌"),
        rf"((?:密码|口令|密钥|令牌)\s{{0,3}}(?:[:：=]|[是为][:：]?)\s{{0,3}}[\"'“「]?){_VALUE}(?!https?://)"
        r"(?:(?=[!-~]{0,99}[A-Za-z])[!#-&(-~]{6,}|\d{6,}(?![\d-]|\s?[位个字]))",
    ),
    (
        "signature", ("signature=", "sig="),
        r"((?:\b(?i:signature)|[?&]sig)=)[A-Za-z0-9%+/_-]{16,}={0,2}",
    ),
)  # fmt: skip
_AFTER = tuple((kind, signs, re.compile(form)) for kind, signs, form in _FOLLOWING)
_COOKIES = re.compile(r"(\b(?i:cookie)\\?[\"']?\s{0,9}:\s{0,9}\\?[\"']?)([^\r\n\"'\\]{1,8192})")
_COOKIE = re.compile(r"([^\s=;,]{1,100}=)(?!\[)([^;\s]+)")
_OF_SESSION = re.compile(r"(?i)sess|sid\b|token|auth|jwt|[cx]srf|login|remember|secret")
_ATTRIBUTE = re.compile(r"(?i)(?:path|domain|expires|max-age|samesite|version|priority)=")


def redacted(text: str, known: Sequence[str] = ()) -> str:
    """The text with each secret replaced by its kind. known: secrets as they stand, such as those of the call's arguments."""
    text = without(text, tuple(known))
    for kind, signs, form in _WHOLE:
        if any(sign in text for sign in signs):
            text = form.sub(f"[redacted: {kind}]", text)
    if "earer" in text:
        text = _BEARER.sub(r"\1[redacted: bearer token]", text)
    if "://" in text:
        text = _IN_URL.sub(r"\1[redacted: password]", text)
    lower = text.lower()
    for kind, signs, form in _AFTER:
        if any(sign in lower for sign in signs):
            text = form.sub(rf"\1[redacted: {kind}]", text)
    if "cookie" in lower:
        text = _COOKIES.sub(lambda found: found[1] + _COOKIE.sub(_of_session, found[2]), text)
    if any(sign in lower for sign in _NAME_SIGNS):
        text = _NAMED.sub(_with_its_name, text)
    return text


def _with_its_name(found: re.Match[str]) -> str:
    """The name stays, so that a reader sees what was there."""
    return f"{found[1]}{next(each for each in found.groups()[1:] if each)}{REPLACED}"


def _of_session(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if _ATTRIBUTE.fullmatch(name) or not (len(value) >= 16 or (len(value) >= SHORTEST and _OF_SESSION.search(name))):
        return found[0]
    return f"{name}[redacted: cookie]"


@dataclass(frozen=True, slots=True)
class Redaction:
    """Replaces secrets in all that a call says. known: those that were resolved for it."""

    known: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """A text."""
        return redacted(text, self.known)

    def json(self, value: object) -> object:
        """Any JSON; what stands under the name of a secret is one."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.text(str(name)): self._named(str(name), each) for name, each in value.items()}
            case list() | tuple():
                return [self.json(each) for each in value]
            case int() | float() if str(value) in self.known and len(str(value)) >= SHORTEST:
                return REPLACED
        return value

    def result(self, result: ToolResult) -> ToolResult:
        """What a tool gave."""
        return ToolResult(text=self.text(result.text), parts=tuple(self._part(part) for part in result.parts))

    def preview(self, preview: Preview) -> Preview:
        """What a write would do."""
        rows = tuple((self.text(label), self.text(text)) for label, text in preview.rows)
        return preview.model_copy(update={"summary": self.text(preview.summary), "rows": rows})

    def failure(self, failure: Failure) -> Failure:
        """Why it failed."""
        said = {name: self.text(getattr(failure, name)) for name in ("what", "why", "hint")}
        return failure.model_copy(update=said)

    def question(self, question: Question) -> Question:
        """What a tool asks."""
        return question.model_copy(update={"text": self.text(question.text)[:4000]})

    def _part(self, part: Part) -> Part:
        said: dict[str, object] = {"json_value": self.json(part.json_value)}
        said |= {name: text and self.text(text) for name in ("text", "ref", "name") if (text := getattr(part, name))}
        return part.model_copy(update=said)

    def _named(self, name: str, value: object) -> object:
        if isinstance(value, str) and name.lower() in _HEADERS:
            return self.text(f"{name}: {value}")[len(name) + 2 :]
        return self._secret(value) if _SECRET_KEY.search(name) else self.json(value)

    def _secret(self, value: object) -> object:
        """What stands under the name of a secret: words and numbers are one, unless they tell about it; a schema is none."""
        match value:
            case str() if len(value) >= SHORTEST and value == self.text(value):
                return REPLACED
            case bool() | str():
                return self.json(value)
            case int() | float() if len(str(value)) >= SHORTEST:
                return REPLACED
            case list() | tuple():
                return [self._secret(each) for each in value]
            case Mapping() if not {"type", "$ref", "anyOf", "oneOf", "allOf"} & value.keys():
                return {
                    self.text(str(name)): self.json(each) if _TELLS.search(str(name)) else self._secret(each)
                    for name, each in value.items()
                }
        return self.json(value)
