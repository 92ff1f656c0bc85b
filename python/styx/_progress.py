"""Progress bars: tqdm's if it is installed, else plain ones with the same texts."""

import sys
import time
import warnings


def bar(total, **config):
    """A bar with update(n=1), set_description and close, also for `with`."""
    try:
        with warnings.catch_warnings():  # without ipywidgets, tqdm tells whoever imports it
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError:
        return _Bar(total, **config)
    return tqdm(total=total, **config)


class _Bar:
    def __init__(self, total, desc=None, disable=False, file=None, leave=True, ncols=None,
                 **ignored):
        self.total, self.n, self.desc, self.disable = total, 0, desc, disable
        self.file = file or sys.stderr
        self.leave = leave
        self.start = time.monotonic()
        self._draw()

    def set_description(self, desc=None, refresh=True):
        self.desc = desc
        if refresh:
            self._draw()

    def update(self, n=1):
        self.n += n
        self._draw()

    def close(self):
        if not self.disable:
            self.file.write("\n" if self.leave else "\r\x1b[K")
            self.file.flush()
        self.disable = True

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _draw(self):
        if self.disable:
            return
        seconds = time.monotonic() - self.start
        rate = self.n / seconds if self.n and seconds > 0 else None
        left = _clock((self.total - self.n) / rate) if rate else "?"
        speed = ("?it/s" if not rate else f"{rate:5.2f}it/s" if rate >= 1
                 else f"{1 / rate:5.2f}s/it")
        done = int(20 * self.n / self.total) if self.total else 20
        percent = 100 * self.n // self.total if self.total else 100
        head = f"{self.desc}: " if self.desc else ""
        self.file.write(f"\r{head}{percent:3d}%|{'█' * done}{' ' * (20 - done)}| "
                        f"{self.n}/{self.total} [{_clock(seconds)}<{left}, {speed}]")
        self.file.flush()


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
