"""Runs the command for the tests in this folder, which need nothing but Python itself."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

STYX = os.environ["STYX"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "golden" / "models"
SD = str(MODELS / "tiny_sd15")
SDXL = str(MODELS / "tiny_sdxl")
REFINER = str(MODELS / "tiny_refiner")
INPAINT = str(MODELS / "tiny_inpaint")

QUICK = ["--steps", "2", "--size", "64x64"]


class CommandTest(unittest.TestCase):
    """Each test runs in an empty folder of its own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="styx-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def styx(self, *words, code=0, environment=None, text=True, binary=None,
             timeout=300):
        """Runs the command and returns the finished process; any crash fails the test."""
        variables = dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache"), LC_ALL="C.UTF-8")
        variables.pop("STYX_MODEL", None)
        variables["STYX_BACKEND"] = "cpu"
        variables.update(environment or {})
        done = subprocess.run([str(binary or STYX), *map(str, words)], cwd=self.folder,
                              capture_output=True, text=text, env=variables,
                              timeout=timeout)
        self.assertEqual(done.returncode, code, f"{words}: {done.stderr}")
        return done

    def generate(self, *words, model=SD, code=0, **more):
        return self.styx("generate", *words, "--model", model, *QUICK, code=code, **more)

    def refused(self, *words, says, code=2, environment=None):
        """Fails with one sentence that holds every text of says, and leaves no file behind."""
        before = self.files()
        done = self.styx(*words, code=code, environment=environment)
        self.assertEqual(done.stdout, "")
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, lines[0])
        self.assertEqual(self.files(), before)
        return lines[0]

    def files(self):
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*")
                      if "cache" not in p.parts)

    def whole_model(self, name, path, lender):
        """A copy of a model with the components that it borrows put into its folder."""
        shutil.copytree(path, self.path(name))
        for part in json.loads((pathlib.Path(path) / "model_index.json").read_text()):
            lent = pathlib.Path(lender) / part
            if lent.is_dir() and not (self.path(name) / part).exists():
                shutil.copytree(lent, self.path(name) / part)
        return name

    def path(self, name):
        return self.folder / name

    def read(self, name):
        return self.path(name).read_bytes()


def png(width, height, pixel):
    """An 8-bit picture; pixel(x, y) is (r, g, b) or (r, g, b, a)."""
    channels = len(pixel(0, 0))

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width))
                    for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) +
            chunk(b"IEND", b""))


def png_pixels(data):
    """Width, height and rows of the RGB pictures that Styx writes."""
    at, idat = 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if name == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 2)
        elif name == b"IDAT":
            idat += body
        at += 12 + length
    raw, stride, rows = zlib.decompress(idat), 3 * width, []
    above = bytearray(stride)
    for y in range(height):
        line = raw[y * (stride + 1):(y + 1) * (stride + 1)]
        row = bytearray(line[1:])
        for x in range(stride):
            left, up = row[x - 3] if x >= 3 else 0, above[x]
            corner = above[x - 3] if x >= 3 else 0
            p = left + up - corner
            paeth = min((abs(p - left), 0, left), (abs(p - up), 1, up),
                        (abs(p - corner), 2, corner))[2]
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[line[0]]) & 255
        rows.append(row)
        above = row
    return width, height, rows


def read_safetensors(data):
    """Name: (shape, list of floats), for float32 files."""
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        body = data[8 + length + begin:8 + length + end]
        tensors[name] = (entry["shape"], list(struct.unpack(f"<{len(body) // 4}f", body)))
    return tensors


def write_safetensors(tensors):
    """The reverse of read_safetensors."""
    header, body = {}, b""
    for name, (shape, values) in tensors.items():
        data = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
