"""QR codes, as pictures."""

from __future__ import annotations

import io

from tool_adapters.media import Image
from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

SCALE = 8


@tool(
    name="qr_code",
    title="QR code",
    examples=("Make a QR code for https://example.com", "QR code of this text", "把这个网址生成二维码"),
    tags=("qr", "image"),
    timeout_s=10,
)
def qr_code(text: str) -> Image:
    """Draw a QR code of a text or an address, as a PNG picture.

    Args:
        text: What the code says.
    """
    import segno

    try:
        code = segno.make_qr(text)
    except (segno.DataOverflowError, ValueError) as error:
        raise InvalidArguments("The text does not fit into a QR code.", why=str(error)[:200]) from error
    out = io.BytesIO()
    code.save(out, kind="png", scale=SCALE, border=4)
    return Image(out.getvalue(), media_type="image/png", name="qr.png")
