"""The programs in examples/ do what they say, on tiny models."""
import os
import pathlib
import subprocess
import unittest

from command import REFINER, SD, SDXL, STYX, CommandTest, png, png_pixels

BUILD = pathlib.Path(STYX).parent


class Examples(CommandTest):
    def example(self, name, *words, code=0):
        done = subprocess.run([BUILD / f"example_{name}", *map(str, words)], cwd=self.folder,
                              capture_output=True, text=True, timeout=300,
                              env=dict(os.environ, XDG_CACHE_HOME=str(self.folder / "cache")))
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_generate(self):
        done = self.example("generate", SD, "a red apple", "a.png")
        self.assertIn("denoise 50/50", done.stderr)
        seed = done.stdout.split()[-1]
        self.styx("generate", "a red apple", "--model", SD, "--seed", seed, "-o", "b.png")
        self.assertEqual(png_pixels(self.read("a.png")), png_pixels(self.read("b.png")))
        self.example("generate", "nowhere", "a", "c.png", code=1)

    def test_loop_by_hand_is_the_pipeline(self):
        """The hand-written loop and styx_generate agree to one level."""
        self.example("loop", SD, "a red apple", 4, "a.png")
        self.styx("generate", "a red apple", "--model", SD, "--seed", 1, "--steps", 4, "--size",
                  "64x64", "--dtype", "f32", "-o", "b.png")
        rows = [png_pixels(self.read(name))[2] for name in ("a.png", "b.png")]
        worst = max(abs(p - q) for a, b in zip(*rows) for p, q in zip(a, b))
        self.assertLessEqual(worst, 1)

    def test_inpaint(self):
        self.path("a.png").write_bytes(png(64, 64, lambda x, y: (x, y, 9)))
        self.path("m.png").write_bytes(
            png(64, 64, lambda x, y: (255,) * 3 if x < 32 else (0,) * 3))
        self.example("inpaint", SD, "a.png", "m.png", "a pear", "b.png")
        old, new = (png_pixels(self.read(name))[2] for name in ("a.png", "b.png"))
        self.assertTrue(all(a[96:] == b[96:] for a, b in zip(old, new)))

    def test_notebook(self):
        """The executed UNet calls are those of diffusers for the same cells."""
        done = self.example("notebook", SD, SDXL, REFINER, ".")
        self.assertEqual([line.split()[1] for line in done.stdout.splitlines()],
                         ["126", "15", "25", "25"])


if __name__ == "__main__":
    unittest.main()
