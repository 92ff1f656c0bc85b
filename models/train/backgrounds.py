"""Paints the backgrounds of scenes on the device, a batch at a time.

Every painter takes the number of pictures n and a Canvas (pixel coordinates, random numbers) and
returns [n,3,S,S] in [0,1]. Heights and lines are 1-D noise, clouds and lava 2-D noise, so no two
pictures are alike; `horizon` ([n] in [-1,1]) says where the ground begins.
"""

import math

import torch
import torch.nn.functional as F

from catalogue import COLOURS
from scenes import KINDS

SIZE = 256


class Canvas:
    """Coordinates in [-1,1] and sources of randomness for one device."""

    def __init__(self, device, seed):
        self.device = device
        self.gen = torch.Generator(device).manual_seed(seed)
        line = (torch.arange(SIZE, device=device) + 0.5) * (2 / SIZE) - 1
        self.x, self.y = line.view(1, 1, 1, SIZE), line.view(1, 1, SIZE, 1)
        self.palette = (
            torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=device) / 255
        )

    def rand(self, *shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, device=self.device, generator=self.gen)

    def one(self, n, low=0.0, high=1.0):
        """A random number a picture, [n,1,1,1]."""
        return self.rand(n, 1, 1, 1, low=low, high=high)

    def noise(self, n, cells, octaves=4, stretch=1):
        """Fractal noise in about [0,1]: [n,1,S,S]; `stretch` makes it wider than high."""
        out, weight = 0.0, 0.5
        for k in range(octaves):
            grid = self.rand(n, 1, cells * stretch << k, cells << k)
            out = out + weight * F.interpolate(
                grid, (SIZE, SIZE), mode="bilinear", align_corners=True
            )
            weight *= 0.5
        return out / (1 - 0.5**octaves)

    def ridge(self, n, cells, octaves=3, mode="linear"):
        """A fractal line over x in about [-1,1]: [n,1,1,S]."""
        out, weight = 0.0, 0.5
        for k in range(octaves):
            grid = self.rand(n, 1, cells << k, low=-1.0)
            extra = {"align_corners": True} if mode == "linear" else {}
            out = out + weight * F.interpolate(grid, SIZE, mode=mode, **extra)
            weight *= 0.5
        return (out / (1 - 0.5**octaves)).unsqueeze(2)


def colour(*rgb):
    """An RGB triple in 0..255 as a function of the device."""
    return lambda c: torch.tensor(rgb, dtype=torch.float32, device=c.device).view(1, 3, 1, 1) / 255


def blend(below, above, mask):
    return below + (above - below) * mask


def soft(x, width=0.012):
    """A step from 0 to 1 where x crosses 0, smooth over about a pixel and a half."""
    return (x / width + 0.5).clamp(0, 1)


def ramp(c, n, top, bottom):
    """A vertical gradient between two colours, shaded a little differently each time."""
    t = ((c.y + 1) / 2) ** c.one(n, 0.7, 1.4)
    shade = c.one(n, 0.92, 1.05)
    return (blend(top(c), bottom(c), t) * shade).expand(n, 3, SIZE, SIZE).clone()


def day_sky(n, c):
    """Bright blue with white clouds."""
    out = ramp(c, n, colour(70, 150, 240), colour(200, 232, 255))
    clouds = c.noise(n, 2, 4, 2) + 0.12 * (c.noise(n, 12, 2) - 0.5)
    return blend(out, colour(255, 255, 255)(c), soft(clouds - c.one(n, 0.54, 0.7), 0.16) * 0.9)


def sky(n, c, horizon):
    return day_sky(n, c)


def sunset(n, c, horizon):
    """Purple over orange, a low sun, and its path on dark water."""
    h = horizon.view(n, 1, 1, 1) * 0.4 + 0.5
    t = ((c.y + 1) / (h + 1)).clamp(0, 1)
    out = blend(colour(84, 54, 140)(c), colour(250, 120, 60)(c), (t * 1.5).clamp(0, 1))
    out = blend(out, colour(255, 205, 90)(c), ((t - 0.6) * 2.5).clamp(0, 1))
    bands = soft(c.noise(n, 2, 4, 4) - 0.58, 0.2) * 0.45
    out = blend(out, colour(190, 70, 110)(c), bands)
    sx, r = c.one(n, -0.5, 0.5), c.one(n, 0.14, 0.22)
    d = ((c.x - sx) ** 2 + (c.y - h + 0.5 * r) ** 2).sqrt()
    out = blend(out, colour(255, 240, 180)(c), soft(r - d))
    water = blend(colour(90, 50, 110)(c), colour(40, 26, 70)(c), ((c.y - h) / (1 - h)).clamp(0, 1))
    path = torch.exp(-(((c.x - sx) / (0.12 + 0.3 * (c.y - h).clamp(min=0))) ** 2))
    glint = path * soft(c.noise(n, 4, 3, 6) - 0.45, 0.2)
    water = blend(water, colour(255, 170, 90)(c), glint * 0.9)
    return blend(out, water, soft(c.y - h))


def stars(n, c, density=0.0011):
    """White dots of several strengths, [n,1,S,S]."""
    points = (c.rand(n, 1, SIZE, SIZE) < density).float() * c.rand(n, 1, SIZE, SIZE, low=0.5)
    return (F.max_pool2d(points, 3, 1, 1) * 0.55 + points).clamp(0, 1)


def night(n, c, horizon):
    """Dark blue with stars, often a moon, over dark hills."""
    out = ramp(c, n, colour(8, 10, 36), colour(46, 48, 110))
    out = blend(out, colour(255, 255, 240)(c), stars(n, c))
    mx, my, r = c.one(n, -0.7, 0.7), c.one(n, -0.75, -0.4), c.one(n, 0.1, 0.18)
    d = ((c.x - mx) ** 2 + (c.y - my) ** 2).sqrt()
    moon = soft(r - d) * (c.one(n) < 0.6)
    out = blend(out, colour(250, 244, 210)(c), moon)
    hill = 0.78 + 0.12 * c.ridge(n, 3)
    return blend(out, colour(12, 14, 30)(c), soft(c.y - hill))


def sea(n, c, horizon):
    """Blue water with waves under a bright sky."""
    h = horizon.view(n, 1, 1, 1)
    depth = ((c.y - h) / (1 - h)).clamp(0, 1)
    water = blend(colour(70, 150, 210)(c), colour(16, 84, 160)(c), depth)
    waves = soft(c.noise(n, 5, 3, 5) - 0.56, 0.12) * (0.25 + 0.5 * depth)
    water = blend(water, colour(190, 228, 248)(c), waves * 0.6)
    return blend(day_sky(n, c), water, soft(c.y - h))


def hill_layers(n, c, out, h, colours, rough=0.22, cells=2):
    """Layers of hills from far to near, each with its colour."""
    for k, rgb in enumerate(colours):
        base = h + (k - 0.6) * 0.28
        line = base + rough * (1 - 0.2 * k) * c.ridge(n, cells + k)
        shade = 1 - 0.22 * ((c.y - line) / 0.8).clamp(0, 1)
        out = blend(out, rgb(c) * shade, soft(c.y - line))
    return out


def lake(n, c, horizon):
    """A calm lake that mirrors the hills and the sky."""
    h = horizon.view(n, 1, 1, 1) + 0.05
    line = h - 0.16 - 0.24 * c.ridge(n, 3).abs()
    land = blend(day_sky(n, c), colour(120, 140, 180)(c), soft(c.y - line))
    near = h - 0.05 - 0.1 * c.ridge(n, 4).abs()
    land = blend(land, colour(84, 160, 90)(c), soft(c.y - near))
    mirror = (2 * h - c.y - 0.0).expand(n, 1, SIZE, SIZE)
    grid = torch.stack([c.x.expand(n, 1, SIZE, SIZE)[:, 0], mirror[:, 0]], -1)
    water = F.grid_sample(land, grid, padding_mode="border", align_corners=False)
    tint = colour(70, 150, 200)(c)
    water = blend(water, tint, 0.35 + 0.25 * ((c.y - h) / (1 - h)).clamp(0, 1))
    return blend(land, water, soft(c.y - h))


def hills(n, c, horizon):
    greens = (colour(140, 196, 120), colour(100, 176, 84), colour(66, 148, 64))
    return hill_layers(n, c, day_sky(n, c), horizon.view(n, 1, 1, 1), greens)


def snow(n, c, horizon):
    """White hills, a pale sky, dark pines far away, falling flakes."""
    h = horizon.view(n, 1, 1, 1)
    out = ramp(c, n, colour(150, 180, 215), colour(225, 236, 246))
    out = pines(n, c, out, h - 0.02, colour(70, 100, 104), 22, 0.2)
    out = hill_layers(n, c, out, h + 0.1, (colour(222, 232, 244), colour(240, 246, 252)), 0.12)
    return blend(out, colour(255, 255, 255)(c), stars(n, c, 0.0022))


def desert(n, c, horizon):
    out = ramp(c, n, colour(96, 170, 230), colour(252, 226, 180))
    sand = (colour(226, 178, 110), colour(236, 190, 116), colour(214, 156, 84))
    return hill_layers(n, c, out, horizon.view(n, 1, 1, 1), sand, 0.16)


def pines(n, c, out, base, rgb, count, height):
    """A row of triangular trees standing on the line `base`."""
    u = (c.x + 1) * (count / 2) + c.one(n)
    tall = F.interpolate(c.rand(n, 1, count + 2, low=0.45), SIZE, mode="nearest").unsqueeze(2)
    tip = (1 - 2 * (u - u.floor() - 0.5).abs()) * tall
    return blend(out, rgb(c), soft(c.y - (base - height * tip)))


def forest(n, c, horizon):
    """Three rows of trees, darker and taller towards the front, and a mossy ground."""
    h = horizon.view(n, 1, 1, 1)
    out = ramp(c, n, colour(150, 205, 215), colour(206, 232, 190))
    out = pines(n, c, out, h, colour(120, 176, 130), 20, 0.55)
    out = pines(n, c, out, h + 0.12, colour(66, 130, 84), 13, 0.9)
    out = pines(n, c, out, h + 0.22, colour(34, 92, 56), 8, 1.2)
    ground = colour(58, 110, 52)(c) * (0.85 + 0.3 * c.noise(n, 6, 3))
    return blend(out, ground, soft(c.y - h - 0.26 - 0.05 * c.ridge(n, 4)))


def city(n, c, horizon):
    """Rows of buildings with lit windows under a day or an evening sky, and a street."""
    h = horizon.view(n, 1, 1, 1) * 0.5 + 0.4
    dusk = (c.one(n) < 0.4).float()
    evening = ramp(c, n, colour(40, 40, 90), colour(250, 150, 110))
    out = blend(day_sky(n, c), evening, dusk)
    for k, (count, tall) in enumerate(((14, 1.15), (9, 0.85))):
        height = (
            F.interpolate(c.rand(n, 1, count, low=0.25), SIZE, mode="nearest").unsqueeze(2) * tall
        )
        hue = F.interpolate(c.rand(n, 3, count), SIZE, mode="nearest").unsqueeze(2)
        day = (0.48 + 0.3 * hue) if k else (0.62 + 0.2 * hue)
        wall = blend(day, day * colour(70, 70, 130)(c) * 1.3, dusk)
        u, v = (c.x + 1) * count * 2, (c.y + 1) * 16
        pane = ((u - u.floor() - 0.5).abs() < 0.27) & ((v - v.floor() - 0.5).abs() < 0.27)
        lit = F.interpolate(c.rand(n, 1, 32, count * 4), (SIZE, SIZE), mode="nearest") < 0.6
        glass = blend(colour(90, 120, 160)(c), colour(255, 220, 120)(c), dusk * lit)
        wall = blend(wall, glass, pane.float() * 0.8)
        out = blend(out, wall, soft(c.y - (h - height)))
    street = blend(colour(128, 130, 138)(c), colour(64, 62, 84)(c), dusk)
    return blend(out, street, soft(c.y - h))


def crystals(n, c, out, base, count=7):
    """Glowing crystals: tall kites with a light and a dark side, growing from the line `base`."""
    hues = torch.stack(
        [
            colour(*rgb)(c)[0]
            for rgb in (
                (90, 230, 250),
                (220, 110, 250),
                (130, 150, 255),
                (120, 250, 190),
                (255, 140, 210),
            )
        ]
    )
    for _ in range(count):
        pick = torch.randint(0, 5, (n,), device=c.device, generator=c.gen)
        rgb = hues[pick]
        x0, tall = c.one(n, -0.95, 0.95), c.one(n, 0.14, 0.42)
        y0 = base + c.one(n, 0.0, 0.3)
        lean = c.one(n, -0.35, 0.35)
        u = (c.x - x0 - lean * (y0 - c.y)) / (tall * 0.3)
        v = (y0 - c.y) / tall  # 0 at the foot, 1 at the tip
        inside = torch.minimum(1 - u.abs() - (v - 0.72).clamp(min=0) / 0.28, v * 6)
        glow = torch.exp(
            -((c.x - x0 - lean * tall * 0.5) ** 2 + (c.y - y0 + tall * 0.5) ** 2)
            / (tall * tall * 0.35)
        )
        out = blend(out, rgb, glow * 0.4)
        side = torch.where(u < 0, 1.12, 0.74) + 0.25 * (v - 0.4)
        out = blend(out, (rgb * side).clamp(0, 1), soft(inside, 0.12))
    return out


def cave(n, c, horizon):
    """A dark hollow of rock, lit by the crystals in it."""
    d = (c.x**2 + (c.y * 1.05 + 0.05) ** 2).sqrt() + 0.45 * (c.noise(n, 3, 4) - 0.5)
    rock = blend(colour(60, 50, 84)(c), colour(34, 28, 50)(c), c.noise(n, 5, 4))
    hollow = blend(colour(52, 60, 130)(c), colour(16, 16, 44)(c), (d * 1.2).clamp(0, 1))
    out = blend(hollow, rock, soft(d - c.one(n, 0.74, 0.9), 0.05))
    floor = 0.62 + 0.1 * c.ridge(n, 4)
    out = blend(out, colour(50, 44, 78)(c) * (0.8 + 0.4 * c.noise(n, 6, 3)), soft(c.y - floor))
    return crystals(n, c, out, 0.55, 9)


def underworld(n, c, horizon):
    """A dark red sky with smoke, jagged rocks, and a winding river of lava."""
    h = horizon.view(n, 1, 1, 1)
    out = ramp(c, n, colour(48, 6, 12), colour(196, 44, 20))
    smoke = soft(c.noise(n, 2, 4, 2) - 0.5, 0.3)
    out = blend(out, colour(28, 8, 12)(c), smoke * 0.7)
    for k, rgb in enumerate((colour(92, 26, 22), colour(54, 18, 20))):
        line = h + 0.05 * k - (0.34 - 0.12 * k) * c.ridge(n, 6 + 3 * k).abs()
        out = blend(out, rgb(c), soft(c.y - line))
    ground = blend(colour(44, 22, 24)(c), colour(84, 36, 30)(c), c.noise(n, 6, 4))
    depth = ((c.y - h) / (1 - h)).clamp(0, 1)
    out = blend(out, ground, soft(c.y - h - 0.04))
    bend = (
        c.one(n, -0.25, 0.25)
        * torch.sin(depth * c.one(n, 2.0, 5.0) * math.pi / 2 + c.one(n, 0, 6.28))
        * (0.3 + depth)
    )
    width = 0.05 + c.one(n, 0.35, 0.6) * depth**1.3
    across = width - (c.x - bend).abs() + 0.12 * depth * (c.noise(n, 5, 3) - 0.5)
    flow = c.noise(n, 4, 4, 2)
    lava = blend(colour(240, 80, 16)(c), colour(255, 214, 70)(c), soft(flow - 0.5, 0.35))
    river = soft(c.y - h - 0.04)
    out = blend(
        out, colour(255, 90, 20)(c), torch.exp(-((across.clamp(max=0) / 0.12) ** 2)) * 0.45 * river
    )
    out = blend(out, lava, soft(across, 0.03) * river)
    return blend(out, colour(255, 170, 60)(c), stars(n, c, 0.0012))


PAINTERS = {
    "sky": sky,
    "sunset": sunset,
    "night": night,
    "sea": sea,
    "lake": lake,
    "hills": hills,
    "snow": snow,
    "desert": desert,
    "forest": forest,
    "city": city,
    "cave": cave,
    "underworld": underworld,
}


def paint(ground, c):
    """The backgrounds of packed scenes, [n,3,S,S] in [0,1]. `ground` is on the device: see
    scenes.pack.
    """
    n = len(ground)
    top, bottom = (c.palette[ground[:, k].long()].view(n, 3, 1, 1) for k in (1, 2))
    out = blend(top, bottom, (c.y + 1) / 2).expand(n, 3, SIZE, SIZE).clone()
    kinds = ground[:, 0].long()
    for k, name in enumerate(KINDS):
        if name in PAINTERS:
            m = (kinds == k).nonzero()[:, 0]
            if len(m):
                out[m] = PAINTERS[name](len(m), c, ground[m, 3]).clamp(0, 1)
    m = (ground[:, 4] > 0).nonzero()[:, 0]
    if len(m):
        out[m] = crystals(len(m), c, out[m], ground[m, 3].view(-1, 1, 1, 1) + 0.25).clamp(0, 1)
    return out
