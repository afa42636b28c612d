"""Messages of Amazon SNS: their signature, by a certificate that is fetched from SNS alone, and the first handshake.

Format: "Verifying the signatures of Amazon SNS messages", SNS developer guide; versions 1 (SHA-1) and 2 (SHA-256).
"""

from __future__ import annotations

import base64
import binascii
import re

from schemas.canonical import JsonObject
from services.gateway.ports.outside import Outside
from services.gateway.triggers.signatures import NoHook

# A bucket of S3 may be called sns: a region has two letters and a number, and s3 has not.
_HOST = r"https://sns\.[a-z]{2}(?:-[a-z]+)+-\d\.amazonaws\.com(?:\.cn)?/"
_CERTIFICATE = re.compile(_HOST + r"SimpleNotificationService-[0-9a-f]{16,64}\.pem")
_CONFIRM = re.compile(_HOST + r"\?Action=ConfirmSubscription&[A-Za-z0-9_=&%:.-]{1,2000}")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


async def notice(said: JsonObject, topic: str, outside: Outside) -> JsonObject | None:
    """The message if it is a notice of this topic; None if it was the handshake, which is answered.

    Raises NoHook for any other one, Unreachable where the certificate cannot be had.
    """
    kind, address = said.get("Type"), said.get("SigningCertURL")
    fields = _SIGNED.get(kind) if isinstance(kind, str) else None
    if fields is None or said.get("TopicArn") != topic or not isinstance(address, str) or not _CERTIFICATE.fullmatch(address):
        raise NoHook
    if not _verified(said, fields, await outside.fetch(address)):
        raise NoHook
    if kind == "Notification":
        return said
    confirm = said.get("SubscribeURL")
    if not isinstance(confirm, str) or not _CONFIRM.fullmatch(confirm):
        raise NoHook
    await outside.fetch(confirm)
    return None


def signed_text(said: JsonObject) -> bytes:
    """What SNS signs of a message: names and values, a line each."""
    fields = _SIGNED.get(str(said.get("Type")), ())
    return "".join(f"{name}\n{said[name]}\n" for name in fields if said.get(name) is not None).encode()


def _verified(said: JsonObject, fields: tuple[str, ...], certificate: bytes) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    signature, version = said.get("Signature"), said.get("SignatureVersion")
    texts = all(isinstance(said.get(name, ""), str) for name in fields)
    if not isinstance(signature, str) or version not in ("1", "2") or not texts:
        return False
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
        if not isinstance(key, RSAPublicKey):
            return False
        way = SHA256() if version == "2" else SHA1()  # SNS says which; version 2 is set at the topic
        key.verify(base64.b64decode(signature, validate=True), signed_text(said), PKCS1v15(), way)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
