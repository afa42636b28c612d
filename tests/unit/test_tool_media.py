"""What tools give back beside text and JSON: kept by reference, read by the model as a few words."""

from __future__ import annotations

import asyncio
import io
import struct
import sys
import threading
from collections.abc import Awaitable, Sequence
from datetime import date
from pathlib import Path

import PIL.Image
import pytest

from runtime.errors import Unreachable
from runtime.payloads import SealedPayloads, memory_payloads
from schemas.tools import Part, PartKind, ToolResult
from tool_adapters import threads
from tool_adapters.keeping import TABLE_ROWS, keeper, loader
from tool_adapters.media import Audio, File, Image, Media, Table, Video, amount, media_of, size_of
from tool_adapters.modelscope import ImageWrapper, Tool
from tool_adapters.python import tool
from tool_adapters.tool import CallContext, InvalidArguments, InvalidResult, InvalidTool, ToolUnavailable

TENANT = "acme"


def png(width: int = 4, height: int = 3) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "red").save(out, format="PNG")
    return out.getvalue()


@pytest.fixture
def payloads() -> SealedPayloads:
    return memory_payloads()


@pytest.fixture
def context(payloads: SealedPayloads) -> CallContext:
    return CallContext(
        tenant=TENANT, run="202611-1", user="ann", keep=keeper(payloads, TENANT, None), load=loader(payloads, TENANT)
    )


# --- what is given back ---------------------------------------------------------------------------


async def test_an_image_is_kept_and_the_model_reads_what_it_is(context: CallContext, payloads: SealedPayloads) -> None:
    @tool
    def draw() -> Image:
        """Draw it."""
        return Image(png(1024, 768), name="map.png")

    result = await draw.call({}, context)
    (part,) = result.parts
    assert result.text.startswith("an image, map.png, PNG 1024x768, ") and result.text.endswith(str(part.ref))
    assert (part.kind, part.media_type, part.name, part.size) == ("image", "image/png", "map.png", len(png(1024, 768)))
    assert await payloads.get(str(part.ref), tenant=TENANT) == png(1024, 768)


async def test_text_json_media_and_tables_stand_in_one_list(context: CallContext) -> None:
    @tool
    async def report() -> list[object]:
        """Report."""
        return ["Sales rose.", Table(["month", "sum"], [["May", 7]]), Audio(b"RIFF....WAVEfmt"), {"sum": 7}, File(b"%PDF-1.7")]

    result = await report.call({}, context)
    assert [part.kind for part in result.parts] == ["text", "table", "audio", "json", "file"]
    assert result.parts[1].json_value == {"columns": ["month", "sum"], "rows": [["May", 7]]}
    assert result.parts[4].media_type == "application/pdf"
    assert result.text.splitlines()[:3] == ["Sales rose.", "month | sum", "May | 7"]


async def test_media_inside_json_leave_their_references_there(context: CallContext) -> None:
    @tool
    def draw() -> dict[str, object]:
        """Draw it."""
        return {"caption": "a dot", "when": date(2026, 11, 21), "pictures": [Image(png())]}

    result = await draw.call({}, context)
    json, image = result.parts
    assert json.json_value == {"caption": "a dot", "when": "2026-11-21", "pictures": [image.ref]}


async def test_a_pillow_image_becomes_png(context: CallContext, payloads: SealedPayloads) -> None:
    @tool
    def draw() -> object:
        """Draw it."""
        return PIL.Image.new("CMYK", (7, 5))

    (part,) = (await draw.call({}, context)).parts
    assert size_of(await payloads.get(str(part.ref), tenant=TENANT)) == (7, 5)


async def test_plain_bytes_are_kept_as_what_they_begin_like(context: CallContext) -> None:
    @tool
    def draw() -> bytes:
        """Draw it."""
        return png()

    assert [part.kind for part in (await draw.call({}, context)).parts] == ["image"]


class DataFrame:
    """Shaped like pandas: columns, and tuples of cells that JSON does not have."""

    columns = ("id", "at", "load")

    def itertuples(self, *, index: bool, name: str | None) -> Sequence[tuple[object, ...]]:
        assert not index and name is None
        return [("i-1", date(2026, 11, 21), float("nan")), ("i-2", None, 0.5)]

    def rows(self) -> Sequence[tuple[object, ...]]:
        raise AssertionError("pandas has none")


async def test_a_frame_becomes_a_table_without_its_library(context: CallContext) -> None:
    @tool
    def servers() -> object:
        """List them."""
        return DataFrame()

    (part,) = (await servers.call({}, context)).parts
    assert part.json_value == {"columns": ["id", "at", "load"], "rows": [["i-1", "2026-11-21", None], ["i-2", None, 0.5]]}
    assert "pandas" not in sys.modules and "polars" not in sys.modules


def test_dictionaries_become_a_table_with_the_columns_of_all() -> None:
    assert Table.of([{"a": 1}, {"b": 2, "a": 3}]).as_json() == {"columns": ["a", "b"], "rows": [[1, None], [3, 2]]}
    with pytest.raises(InvalidTool):
        Table(["a"], [[1, 2]])
    with pytest.raises(InvalidTool):
        Table.of("a,b")


async def test_a_long_table_is_kept_as_csv_and_shown_by_its_first_rows(context: CallContext, payloads: SealedPayloads) -> None:
    @tool
    def rows() -> Table:
        """Give them."""
        return Table(["n", "text"], [[n, "x" * 40] for n in range(5000)])

    result = await rows.call({}, context)
    (part,) = result.parts
    assert part.kind == "table" and part.json_value is None
    assert result.text.count("\n") == TABLE_ROWS + 2
    assert (await payloads.get(str(part.ref), tenant=TENANT)).count(b"\r\n") == 5001


async def test_without_a_store_nothing_refers_to_bytes() -> None:
    @tool
    def draw() -> Image:
        """Draw it."""
        return Image(png())

    result = await draw.call({}, CallContext(tenant=TENANT, run="r", user="u"))
    assert result.parts[0].ref is None and result.text.endswith("(not kept)")


class Away:
    async def __call__(self, data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        raise Unreachable("The store is away.")


async def test_a_read_whose_bytes_cannot_be_kept_is_tried_again_and_a_write_is_done() -> None:
    @tool
    def draw() -> Image:
        """Draw it."""
        return Image(png())

    @tool(effect="write")
    def photograph() -> Image:
        """Take one."""
        return Image(png())

    context = CallContext(tenant=TENANT, run="r", user="u", keep=Away())
    with pytest.raises(ToolUnavailable):
        await draw.call({}, context)
    result = await photograph.call({}, context)
    assert result.parts == () and "was done" in result.text


async def test_a_file_that_is_not_there_is_a_typed_error(context: CallContext, tmp_path: Path) -> None:
    @tool
    def scan() -> File:
        """Scan it."""
        return File(tmp_path / "missing.pdf")

    with pytest.raises(InvalidResult, match="cannot be read"):
        await scan.call({}, context)


# --- what is taken --------------------------------------------------------------------------------


async def test_a_reference_reaches_a_later_tool_as_what_it_stands_for(context: CallContext) -> None:
    @tool
    def draw() -> Image:
        """Draw it."""
        return Image(png(9, 8))

    @tool
    def measure(picture: Image, others: list[File] | None = None, raw: bytes = b"") -> str:
        """Measure it."""
        return f"{size_of(picture.data)} {len(others or [])} {len(raw)}"

    ref = str((await draw.call({}, context)).parts[0].ref)
    assert measure.card.parameters["properties"]["picture"]["type"] == "string"  # type: ignore[index]
    result = await measure.call({"picture": ref, "others": [ref, ref], "raw": ref}, context)
    assert result.text == f"(9, 8) 2 {len(png(9, 8))}"


@pytest.mark.parametrize("given", ["/etc/passwd", "https://example.com/a.png", "payload:abc", "payload:" + "0" * 64])
async def test_nothing_else_than_a_kept_reference_is_opened(context: CallContext, given: str) -> None:
    @tool
    def measure(picture: Image) -> str:
        """Measure it."""
        raise AssertionError("it was called")

    with pytest.raises(InvalidArguments):
        await measure.call({"picture": given}, context)


async def test_a_sound_is_no_picture(context: CallContext, payloads: SealedPayloads) -> None:
    @tool
    def measure(picture: Image) -> str:
        """Measure it."""
        raise AssertionError("it was called")

    ref = await payloads.put(b"RIFF....WAVEfmt", tenant=TENANT, datakey=None)
    with pytest.raises(InvalidArguments):
        await measure.call({"picture": ref}, context)


async def test_the_class_form_gives_and_takes_wrappers(context: CallContext) -> None:
    class Turn(Tool):
        name = "turn"
        description = "Turn a picture."
        parameters = ({"name": "image", "description": "the picture", "required": False},)

        def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
            given = kwargs.get("image")
            if given is None:
                return {"result": ImageWrapper(png(2, 1))}
            assert isinstance(given, ImageWrapper)
            turned = PIL.Image.open(io.BytesIO(given.raw_data)).rotate(90, expand=True)
            return {"result": ImageWrapper(turned)}

    first = await Turn().call({}, context)
    second = await Turn().call({"image": str(first.parts[0].ref)}, context)
    assert "PNG 2x1" in first.text and "PNG 1x2" in second.text


# --- media by themselves --------------------------------------------------------------------------


def test_what_bytes_are_is_told_by_the_bytes_then_by_the_name() -> None:
    assert File(png(), name="report.pdf").media_type == "image/png"
    assert File(b"a,b", name="report.csv").media_type == "text/csv"
    assert (Audio(b"?").media_type, Video(b"?").media_type, File(b"?").media_type) == (
        "audio/wav", "video/mp4", "application/octet-stream",
    )  # fmt: skip
    assert type(media_of(b"....ftypisom")) is Video
    with pytest.raises(InvalidTool):
        Image(b"x", media_type="no type\r\nX: y")
    with pytest.raises(InvalidTool):
        Image(12)  # type: ignore[arg-type]


def test_sizes_of_pictures() -> None:
    jpeg, gif = io.BytesIO(), io.BytesIO()
    PIL.Image.new("RGB", (640, 480)).save(jpeg, format="JPEG", progressive=True)
    PIL.Image.new("P", (5, 6)).save(gif, format="GIF")
    assert (size_of(jpeg.getvalue()), size_of(gif.getvalue())) == ((640, 480), (5, 6))
    assert size_of(b"\x89PNG\r\n\x1a\n") is None
    assert size_of(b"\xff\xd8\xff" + struct.pack(">H", 0) * 8) is None
    assert (amount(999), amount(340_000), amount(1_500_000)) == ("999 bytes", "340 KB", "1.5 MB")


def test_bytes_have_a_path_for_those_who_want_one() -> None:
    image = Image(png())
    assert image.path.suffix == ".png" and image.path.read_bytes() == png()
    assert Image(image.path) == image
    assert isinstance(image, Media) and hash(image) == hash(Image(png()))


# --- threads --------------------------------------------------------------------------------------


async def test_functions_that_never_end_do_not_take_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_free", threading.BoundedSemaphore(2))
    end = threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> str:
        """Hang."""
        end.wait()
        return "ended"

    context = CallContext(tenant=TENANT, run="r", user="u", timeout_s=0.05)
    for _ in range(2):
        with pytest.raises(ToolUnavailable, match="reached"):
            await hang.call({}, context)
    with pytest.raises(ToolUnavailable, match="still running"):
        await hang.call({}, context)
    end.set()
    async with asyncio.timeout(10):
        while not await ended(hang.call({}, context)):
            await asyncio.sleep(0)


async def ended(call: Awaitable[ToolResult]) -> bool:
    try:
        return (await call).text == "ended"
    except ToolUnavailable:
        return False
