"""The demo cloud checks ACS3-HMAC-SHA256 for real; the oracle is the vendor's own signing code."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.signature import Signed, Verifier

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
QUERY = {"InstanceIds": '["i-1"]', "RegionId": "cn-hangzhou", "Tag.1.Value": "a b+c*~/中文", "Empty": ""}


def signed(secret: str = "secret", key: str = "key", at: datetime = NOW, nonce: str = "n1") -> Signed:
    """A request as the vendor's SDK signs it."""
    from alibabacloud_tea_openapi.utils import Utils
    from darabonba.request import DaraRequest

    payload = hashlib.sha256(b"").hexdigest()
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", QUERY
    request.headers = {
        "host": "127.0.0.1:1",
        "x-acs-action": "DescribeInstances",
        "x-acs-version": "2014-05-26",
        "x-acs-date": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
        "x-acs-content-sha256": payload,
    }
    authorization = Utils.get_authorization(request, "ACS3-HMAC-SHA256", payload, key, secret)
    return Signed("POST", "/", urlencode(QUERY), {**request.headers, "authorization": authorization}, b"")


def refused(request: Signed) -> str:
    with pytest.raises(CloudError) as caught:
        Verifier({"key": "secret"}).verify(request, NOW)
    return caught.value.code


def test_what_the_vendors_code_signed_is_accepted() -> None:
    assert Verifier({"key": "secret"}).verify(signed(), NOW) == "key"


def test_wrong_keys() -> None:
    assert refused(signed(secret="other")) == "SignatureDoesNotMatch"
    assert refused(signed(key="other")) == "InvalidAccessKeyId.NotFound"


def test_whatever_is_changed_after_signing_is_noticed() -> None:
    good = signed()

    assert refused(replace(good, query=good.query + "&ForceStop=true")) == "SignatureDoesNotMatch"
    assert refused(replace(good, method="GET")) == "SignatureDoesNotMatch"
    assert refused(replace(good, headers={**good.headers, "x-acs-action": "DeleteInstance"})) == "SignatureDoesNotMatch"
    assert refused(replace(good, body=b"x")) == "SignatureDoesNotMatch"
    assert refused(replace(good, headers={**good.headers, "x-acs-extra": "1"})) == "IncompleteSignature"
    assert refused(replace(good, headers={**good.headers, "authorization": ""})) == "IncompleteSignature"


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_stale_or_future_date_is_refused(minutes: int) -> None:
    assert refused(signed(at=NOW + timedelta(minutes=minutes))) == "InvalidTimeStamp.Expired"


def test_a_request_is_accepted_once() -> None:
    verifier = Verifier({"key": "secret"})
    verifier.verify(signed(), NOW)

    with pytest.raises(CloudError, match="SignatureNonceUsed"):
        verifier.verify(signed(), NOW)
    verifier.verify(signed(nonce="n2"), NOW)
