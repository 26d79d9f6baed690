"""Pictures with their labels: annotated copies, and a contact sheet."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LARGEST = 2048  # pixels: a longer side is scaled down
TILE, GAP, COLUMNS = 192, 8, 6  # of a sheet: pixels, pixels, tiles a row
ON_A_SHEET = 96  # tiles


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


def contact_sheet(tiles: Sequence[tuple[Image.Image, Sequence[str]]]) -> Image.Image:
    """Small copies of pictures in rows, each with lines of text."""
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    step = TILE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * step + GAP), "white")
    for number, (picture, lines) in enumerate(tiles):
        tile = picture.copy()
        tile.thumbnail((TILE, TILE))
        row, column = divmod(number, columns)
        corner = (GAP + column * step + (TILE - tile.width) // 2, GAP + row * step + (TILE - tile.height) // 2)
        sheet.paste(annotated(tile, lines), corner)
    return sheet
