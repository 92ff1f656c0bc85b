#!/usr/bin/env python3
"""Makes the picture fixtures beside this script: small files of every kind, NAME.rgb with what PIL
reads out of NAME (convert("RGB") after exif_transpose; 16 bits cut to their high byte), NAME.alpha
with the alpha channel, and resize.h with hashes of PIL's resized pictures.

    pip install 'pillow==12.1.1' && python3 make.py

Pillow before 12.2, because later ones resample very tall pictures in another order.
"""
import hashlib
import os
import struct
import zlib

from PIL import Image, ImageOps, PngImagePlugin

W, H = 24, 17
HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = "a red \u00e4pple, \u96ea \U0001f34e\nNegative prompt: blurry\nSteps: 20, Seed: 1, Size: 8x8"
LATIN = "caf\u00e9"


def noise(n, seed=1):
    """The generator that the C tests repeat: Knuth's MMIX constants, top byte."""
    out, x = bytearray(n), seed
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out[i] = x >> 56
    return bytes(out)


def smooth(w=W, h=H):
    """Slow colours, so that lossy decoders that round otherwise stay close."""
    data = bytearray()
    for y in range(h):
        for x in range(w):
            data += bytes((40 + 7 * x, 60 + 8 * y, 200 - 4 * x - 2 * y))
    return Image.frombytes("RGB", (w, h), bytes(data))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, w, h, depth, colour, rows, extra=b"", interlace=0):
    """PNGs that PIL does not write. rows are packed, without filter bytes."""
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)
    raw = b"".join(b"\0" + r for r in rows)
    with open(name, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra)
        f.write(chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def adam7(data, w, h):
    """The rows of the seven passes of an interlaced 8-bit RGB picture."""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                           (1, 0, 2, 2), (0, 1, 1, 2)):
        for y in range(y0, h, dy):
            yield b"".join(data[3 * (y * w + x):][:3] for x in range(x0, w, dx))


def expect(name, image=None, rgb=None):
    image = image or Image.open(name)
    turned = ImageOps.exif_transpose(image)
    with open(name + ".rgb", "wb") as f:
        f.write(rgb or turned.convert("RGB").tobytes())
    if "A" in turned.getbands() or "transparency" in turned.info:
        with open(name + ".alpha", "wb") as f:
            f.write(turned.convert("RGBA").getchannel("A").tobytes())


def tiff(comment, big_endian=True, code=b"UNICODE\0", orientation=None):
    order = ">" if big_endian else "<"
    entries = [(0x112, 3, 1, orientation << 16 if big_endian else orientation)] \
        if orientation else []
    second = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries.append((0x8769, 4, 1, second))
    out = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8)
    out += struct.pack(order + "H", len(entries))
    for entry in entries:
        out += struct.pack(order + "HHII", *entry)
    data = code + comment
    out += struct.pack(order + "I", 0)
    out += struct.pack(order + "HHHII", 1, 0x9286, 7, len(data), second + 18)
    return out + struct.pack(order + "I", 0) + data


def exact_files():
    data, grey = noise(3 * W * H), noise(W * H, 2)
    rgb, alpha = Image.frombytes("RGB", (W, H), data), Image.frombytes("L", (W, H), grey)
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    la = alpha.copy()
    la.putalpha(alpha.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    palette = rgb.quantize(13)
    rgb.save("rgb.png")
    rgba.save("rgba.png")
    alpha.save("grey.png")
    la.save("grey_alpha.png")
    alpha.point(lambda v: 255 * (v > 99)).convert("1").save("bits.png")
    palette.save("palette.png", bits=4)
    palette.save("palette_alpha.png", bits=4, transparency=bytes(range(0, 260, 20)))
    rgba.save("lossless.webp", lossless=True, exact=True)
    for name in ("rgb.png", "rgba.png", "grey.png", "grey_alpha.png", "bits.png", "palette.png",
                 "palette_alpha.png", "lossless.webp"):
        expect(name)

    png("interlaced.png", W, H, 8, 2, adam7(data, W, H), interlace=1)
    expect("interlaced.png")
    key = struct.pack(">HHH", *data[:3])
    png("key.png", W, H, 8, 2, [data[y * 3 * W:][:3 * W] for y in range(H)], chunk(b"tRNS", key))
    expect("key.png")
    deep = noise(6 * W * H, 3)
    png("rgb16.png", W, H, 16, 2, [deep[y * 6 * W:][:6 * W] for y in range(H)])
    expect("rgb16.png", rgb=deep[::2])
    png("grey16.png", W, H, 16, 0, [deep[y * 2 * W:][:2 * W] for y in range(H)])
    expect("grey16.png", rgb=bytes(v for v in deep[0:2 * W * H:2] for _ in range(3)))
    png("turned.png", W, H, 8, 2, [data[y * 3 * W:][:3 * W] for y in range(H)],
        chunk(b"eXIf", tiff(b"", orientation=6)))
    expect("turned.png")


def lossy_files():
    image = smooth()
    image.save("rgb.jpg", quality=90)
    image.save("progressive.jpg", quality=95, progressive=True, subsampling=0)
    image.convert("L").save("grey.jpg", quality=90)
    image.convert("CMYK").save("cmyk.jpg", quality=95)
    image.save("lossy.webp", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        image.save(f"turned{orientation}.jpg", quality=90, exif=exif)
    image.save("turned.webp", quality=90, exif=tiff(b"", big_endian=False, orientation=8))
    for name in ["rgb.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "lossy.webp",
                 "turned.webp"] + [f"turned{i}.jpg" for i in range(1, 9)]:
        expect(name)
    image.save("animated.webp", save_all=True, append_images=[Image.new("RGB", (W, H))])


def text_files():
    image = Image.new("RGB", (2, 2))
    for name, add in (("text_latin1.png", lambda i: i.add_text("parameters", LATIN)),
                      ("text_utf8.png", lambda i: i.add_text("parameters", TEXT)),
                      ("text_ztxt.png", lambda i: i.add_text("parameters", LATIN, zip=True)),
                      ("text_itxt.png", lambda i: i.add_itxt("parameters", TEXT, zip=True))):
        info = PngImagePlugin.PngInfo()
        info.add_text("other", "something else")
        add(info)
        image.save(name, pnginfo=info)
    late = chunk(b"tEXt", b"parameters\0" + TEXT.encode())  # UTF-8 where Latin-1 belongs
    with open("text_utf8.png", "rb") as f:
        plain = f.read()
    with open("text_late.png", "wb") as f:
        at = plain.index(b"IEND") - 4
        start, end = 33, plain.index(b"IDAT") - 4
        f.write(plain[:start] + plain[end:at] + late + plain[at:])
    utf16 = TEXT.encode("utf-16-be"), TEXT.encode("utf-16-le")
    exifs = {"text_be.jpg": tiff(utf16[0]), "text_le.jpg": tiff(utf16[1], False),
             "text_be_in_le.jpg": tiff(utf16[0], False),
             "text_bom.jpg": tiff(b"\xff\xfe" + utf16[1]),
             "text_ascii.jpg": tiff(b"plain words\0\0", True, b"ASCII\0\0\0"),
             "text_be.webp": tiff(utf16[0])}
    for name, exif in exifs.items():
        image.save(name, exif=b"Exif\0\0" + exif)


def resize_cases():
    """Sizes and hashes; the C test makes the same noise."""
    filters = (Image.NEAREST, Image.BOX, Image.BILINEAR, Image.BICUBIC, Image.LANCZOS)
    lines, dice = [], noise(7 * 200, 4)
    for i in range(200):
        a = dice[7 * i:]
        w, h, ow, oh = (1 + (a[j] * a[j] >> 9 if a[4] & 1 << j else a[j] >> 2) for j in range(4))
        if a[4] & 16 and i % 7 == 0:
            oh = h
        channels, f = (1, 3)[a[4] >> 5 & 1], i % 5
        data = noise(w * h * channels, i + 5)
        if a[5] & 1:  # black and white, where overshoot must be clipped
            data = bytes(255 * (v >> 7) for v in data)
        image = Image.frombytes("L" if channels == 1 else "RGB", (w, h), data)
        out = image.resize((ow, oh), filters[f]).tobytes()
        digest = hashlib.sha256(out).hexdigest()[:16]
        lines.append(f"{{ {w}, {h}, {channels}, {ow}, {oh}, {f}, {a[5] & 1}, \"{digest}\" }},\n")
    with open("resize.h", "w") as f:
        f.write("/* Made by make.py: w, h, channels, new w, new h, filter, black and white, the\n"
                " * start of the SHA-256 of PIL's picture. */\n")
        f.writelines(lines)


os.chdir(HERE)
exact_files()
lossy_files()
text_files()
resize_cases()
