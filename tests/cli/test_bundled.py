"""The model that comes with Styx: found without a flag, and it draws what it is asked for."""
import json
import os
import shutil
import unittest

from command import ROOT, STYX, CommandTest, png_pixels

MODEL = ROOT / "models" / "styx-emoji"
SOME_STEPS = ["--steps", "20", "--seed", "1"]


def mean(data, x0=0, y0=0, x1=1, y1=1):
    """The mean colour of a part of a picture, sides in parts of one."""
    width, height, rows = png_pixels(data)
    part = [row[3 * int(x0 * width):3 * int(x1 * width)]
            for row in rows[int(y0 * height):int(y1 * height)]]
    count = sum(map(len, part)) / 3
    return tuple(sum(sum(row[c::3]) for row in part) / count for c in range(3))


def difference(a, b):
    """The mean difference of two pictures in levels."""
    pairs = [(x, y) for p, q in zip(png_pixels(a)[2], png_pixels(b)[2]) for x, y in zip(p, q)]
    return sum(abs(x - y) for x, y in pairs) / len(pairs)


class Bundled(CommandTest):
    def draw(self, prompt, name="a.png"):
        self.styx("generate", prompt, *SOME_STEPS, "-o", name, "--force",
                  environment={"STYX_MODEL": str(MODEL)})
        return self.read(name)

    def test_tiles_show_no_seams(self):
        """Two tiles, of which the second is no full one: near to the picture of one piece."""
        for tiling in "off", "seamless":
            self.styx("generate", "a house, night with stars", "--steps", 4, "--seed", 3, "--size",
                      "264x520", "--dtype", "f32", "--vae-tiling", tiling, "-o", tiling + ".png",
                      environment={"STYX_MODEL": str(MODEL)})
        rows = [png_pixels(self.read(name))[2] for name in ("off.png", "seamless.png")]
        largest = max(abs(x - y) for p, q in zip(*rows) for x, y in zip(p, q))
        self.assertLess(largest, 32)

    def test_found_from_where_the_command_lies(self):
        """Beside a build folder, and under PREFIX/share."""
        for binary, models in ("build/styx", "models"), ("bin/styx", "share/styx/models"):
            os.makedirs(self.path(binary).parent)
            os.makedirs(self.path(models))
            shutil.copy(STYX, self.path(binary))
            os.symlink(MODEL, self.path(models) / "styx-emoji")
            out = self.styx("tokenize", "a", "--json", binary=self.path(binary)).stdout
            self.assertEqual(len(json.loads(out)["ids"]), 77)
            shutil.rmtree(self.path(models))
            done = self.styx("tokenize", "a", binary=self.path(binary), code=1)
            self.assertIn("--model", done.stderr)

    def test_background_and_object_follow_the_prompt(self):
        red, green, blue = mean(self.draw("a red apple on a green background"), 0.4, 0.4, 0.6, 0.6)
        self.assertGreater(red, green + 100)
        self.assertGreater(red, blue + 100)
        red, green, blue = mean(self.read("a.png"), 0, 0, 1, 0.06)
        self.assertGreater(green, red + 40)
        self.assertGreater(green, blue + 40)

    def test_night_is_darker_than_day(self):
        day, night = (sum(mean(self.draw(f"a house {when}"), 0, 0, 1, 0.3))
                      for when in ("in a bright sky", "at night"))
        self.assertGreater(day, night + 250)

    def test_strength_decides_how_much_is_redrawn(self):
        """A little keeps object and layout, much follows the new words alone."""
        before, changed = self.draw("a mushroom on green hills"), []
        for strength in "0.3", "0.5", "0.8":
            self.styx("edit", "a.png", "a mushroom at night with stars", "--strength", strength,
                      *SOME_STEPS, "-o", "b.png", "--force", environment={"STYX_MODEL": str(MODEL)})
            changed.append(difference(before, self.read("b.png")))
        self.assertEqual(changed, sorted(changed))
        self.assertLess(changed[0], 35)
        self.assertGreater(changed[2], 3 * changed[0])
        self.assertGreater(sum(mean(before, 0, 0, 1, 0.2)),
                           sum(mean(self.read("b.png"), 0, 0, 1, 0.2)) + 300)

    def test_the_chain_of_the_notebook(self):
        recipe = json.loads((ROOT / "examples" / "notebook-bundled.json").read_text())
        for step in recipe["steps"]:
            step["steps"] = 10
        self.path("r.json").write_text(json.dumps(recipe))
        done = self.styx("run", "r.json", environment={"STYX_MODEL": str(MODEL)})
        self.assertEqual(done.stdout.split(),
                         ["underworld.png", "landscape.png", "night.png", "city.png"])
        chain = json.loads(self.styx("log", "city.png", "--json").stdout)
        self.assertEqual([link["path"] for link in chain], done.stdout.split()[::-1])
        self.assertIn("equal", self.styx("replay", "city.png",
                                         environment={"STYX_MODEL": str(MODEL)}).stdout)


if __name__ == "__main__":
    unittest.main()
