"""styx bench: what it measures and refuses. The smallest network is enough."""
import json
import pathlib
import signal
import subprocess
import time
import unittest

from command import STYX, CommandTest

DECODER = ("bench", "sd15", "--network", "vae.decode", "--size", "64x64", "--dtype", "f32")


def catches_interrupt(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return int(line.split()[1], 16) >> signal.SIGINT - 1 & 1
    return False


class Bench(CommandTest):
    def test_table(self):
        lines = self.styx(*DECODER, "--runs", 1, "--json").stdout.splitlines()
        self.assertEqual(1, len(lines))
        info = json.loads(lines[0])
        self.assertEqual(49490199, info["parameters"])
        self.assertEqual(("F32", 64, 64), (info["dtype"], info["width"], info["height"]))
        total = sum(kernel["seconds"] for kernel in info["kernels"])
        self.assertLess(total, 1.01 * info["seconds"])  # of the same, single run
        self.assertGreater(total, 0.5 * info["seconds"])
        self.assertAlmostEqual(sum(kernel["gflop"] for kernel in info["kernels"]), info["gflop"], 3)
        self.assertGreater(info["load_seconds"], 0)
        text = self.styx(*DECODER, "--runs", 1).stdout
        self.assertIn("conv 3x3 512 -> 512 @ 8x8, batch 1", text)
        self.assertEqual("% of peak" in text, info["peak_gflops"] > 0)

    def test_memory_limit(self):
        """Streamed weights; and a limit that cannot be kept."""
        self.styx(*DECODER, "--runs", 1, "--max-memory", "100M")
        self.refused(*DECODER, "--max-memory", "45M", says="the limit is", code=1)

    def test_refusals(self):
        self.refused("bench", "sd3", says="'sd3'")
        self.refused("bench", "sd15", "--network", "brain", says="'brain'")
        self.refused("bench", "sd15", "--size", "60x64", says="60 x 64")
        self.refused("bench", "sd15", "--runs", "0", says="--runs")

    def test_interrupt(self):
        process = subprocess.Popen([STYX, *DECODER, "--runs", "1000"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd=self.folder)
        while not catches_interrupt(process.pid):
            self.assertIsNone(process.poll())
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
        self.assertEqual(130, process.returncode)


if __name__ == "__main__":
    unittest.main()
