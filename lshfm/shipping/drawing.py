"""Pictures with their labels or boxes: annotated copies, and a contact sheet."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LARGEST = 2048  # pixels: a longer side is scaled down
TILE, GAP, COLUMNS = 192, 8, 6  # of a sheet: pixels, pixels, tiles a row
ON_A_SHEET = 96  # tiles
# Of boxes, by class; white letters can be read on each.
COLOURS = (
    "#0a6ebd", "#c9480e", "#16803c", "#8b3fc7", "#9a6312", "#c2255c", "#0b757b", "#5b6470", "#3b5bdb", "#a61e4d",
)  # fmt: skip
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def annotated(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """A copy of the picture with lines of text in its upper left corner."""
    copy = picture.copy()
    copy.thumbnail((LARGEST, LARGEST))
    if not lines:
        return copy
    draw, font = ImageDraw.Draw(copy, "RGBA"), ImageFont.load_default(max(11, min(copy.size) // 24))
    text = "\n".join(lines)
    left, top, right, bottom = draw.multiline_textbbox((6, 4), text, font=font)
    draw.rectangle((0, 0, right + 6, bottom + 5), fill=(0, 0, 0, 170))
    draw.multiline_text((left, top), text, font=font, fill=(255, 255, 255, 255), anchor=None)
    return copy


def boxed(
    picture: Image.Image, boxes: Sequence[tuple[Sequence[float], int, str]], most: int = LARGEST
) -> Image.Image:  # fmt: skip
    """A copy of the picture with boxes, the best one on top. boxes: best first, each with its class and a text."""
    copy = picture.copy()
    copy.thumbnail((most, most))
    scale = copy.width / picture.width, copy.height / picture.height
    thick = max(1, round(min(copy.size) / 160))
    draw, font = ImageDraw.Draw(copy), ImageFont.load_default(max(10, min(copy.size) // 28))
    for box, number, text in reversed(boxes):
        colour = COLOURS[number % len(COLOURS)]
        left, top, right, bottom = (edge * scale[place % 2] for place, edge in enumerate(box))
        draw.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=colour, width=thick)
        _tag(draw, font, (left, top), text, colour)
    return copy


def _tag(draw: ImageDraw.ImageDraw, font: Font, corner: tuple[float, float], text: str, colour: str) -> None:
    """A text on its colour, above the corner where there is room, else below it, and within the picture."""
    width, height = (round(side) + 4 for side in draw.textbbox((0, 0), text, font=font)[2:])
    across, down = draw.im.size
    left = max(min(corner[0], across - width), 0)
    top = corner[1] - height if corner[1] >= height else min(corner[1], down - height)
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + 2, top + 1), text, font=font, fill="white")


def contact_sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    """Small pictures, TILE pixels at most, in rows."""
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step = TILE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * step + GAP), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        corner = (GAP + column * step + (TILE - tile.width) // 2, GAP + row * step + (TILE - tile.height) // 2)
        sheet.paste(tile, corner)
    return sheet
