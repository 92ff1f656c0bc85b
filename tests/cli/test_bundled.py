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


class Bundled(CommandTest):
    def draw(self, prompt, name="a.png"):
        self.styx("generate", prompt, *SOME_STEPS, "-o", name, "--force",
                  environment={"STYX_MODEL": str(MODEL)})
        return self.read(name)

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
        self.assertGreater(red, green + 40)
        self.assertGreater(red, blue + 40)
        red, green, blue = mean(self.read("a.png"), 0, 0, 1, 0.06)
        self.assertGreater(green, red)
        self.assertGreater(green, blue)

    def test_night_is_darker_than_day(self):
        day, night = (sum(mean(self.draw(f"a house, {when}"), 0, 0, 1, 0.3))
                      for when in ("bright sky", "night with stars"))
        self.assertGreater(day, night + 100)

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
