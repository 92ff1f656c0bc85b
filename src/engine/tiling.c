/* tiling.c - the autoencoder in tiles, so that memory does not grow with the picture.
 *
 * Tiles of one size overlap and are blended linearly over the overlap, with the tile above, then
 * with the one to the left: diffusers' tiled_encode and tiled_decode (a quarter of overlap). What
 * Styx does by itself under a memory limit overlaps by half, which hides the tiles' own
 * normalisation better. */
#include "engine/job.h"
#include <stdlib.h>

/* A plane of `channels` maps on either side of the network. */
struct plane {
    float *data;
    int channels, h, w;
};

struct tiles {
    const struct vae_call *call;
    bool decode;
    int side, stride; /* of the input */
    int blend, limit; /* of the output: width of the blend, how much of a tile is kept */
};

static int min(int a, int b)
{
    return a < b ? a : b;
}

static int tile_pixels(const struct vae_call *call)
{
    int scale = vae_scale(&call->vae->vae),
        pixels = call->tile ? call->tile : call->vae->vae.sample_size;
    return pixels / scale < 4 ? 4 * scale : pixels;
}

static struct tiles cut(const struct vae_call *call, bool decode)
{
    double overlap = call->tiling == STYX_TILING_DIFFUSERS ? 0.25 : 0.5;
    int pixels = tile_pixels(call), latents = pixels / vae_scale(&call->vae->vae);
    int in = decode ? latents : pixels, out = decode ? pixels : latents;
    struct tiles t = { call, decode, in, (int)(in * (1 - overlap)), (int)(out * overlap), 0 };
    t.limit = out - t.blend;
    return t;
}

static float *at(const struct plane *p, int c, int y, int x)
{
    return p->data + ((size_t)c * (size_t)p->h + (size_t)y) * (size_t)p->w + x;
}

/* The first rows of b fade from the last rows of a. */
static void blend_down(const struct plane *a, struct plane *b, int extent)
{
    extent = min(extent, min(a->h, b->h));
    for (int c = 0; c < b->channels; c++)
        for (int y = 0; y < extent; y++)
            for (int x = 0; x < min(a->w, b->w); x++) {
                float k = (float)y / (float)extent, *to = at(b, c, y, x);
                *to = *at(a, c, a->h - extent + y, x) * (1 - k) + *to * k;
            }
}

static void blend_right(const struct plane *a, struct plane *b, int extent)
{
    extent = min(extent, min(a->w, b->w));
    for (int c = 0; c < b->channels; c++)
        for (int y = 0; y < min(a->h, b->h); y++)
            for (int x = 0; x < extent; x++) {
                float k = (float)x / (float)extent, *to = at(b, c, y, x);
                *to = *at(a, c, y, a->w - extent + x) * (1 - k) + *to * k;
            }
}

static int run_whole(const struct vae_call *c, bool decode, int h, int w, const float *in,
                     float *out, styx_error *err)
{
    return decode ? run_vae_decode(c->s, c->vae, c->type, h, w, in, out, err)
                  : run_vae_encode(c->s, c->vae, c->type, h, w, in, out, err);
}

static int run_tile(const struct tiles *t, const struct plane *from, int top, int left,
                    struct plane *to, styx_error *err)
{
    int scale = vae_scale(&t->call->vae->vae);
    struct plane in = { NULL, from->channels, min(t->side, from->h - top),
                        min(t->side, from->w - left) };
    to->h = t->decode ? in.h * scale : in.h / scale;
    to->w = t->decode ? in.w * scale : in.w / scale;
    size_t nin = (size_t)in.channels * (size_t)in.h * (size_t)in.w;
    size_t nout = (size_t)to->channels * (size_t)to->h * (size_t)to->w;
    in.data = malloc(nin * sizeof *in.data);
    to->data = malloc(nout * sizeof *to->data);
    int code = in.data && to->data ? 0 : fail_nomem(err, nout * sizeof *to->data);
    for (int c = 0; c < in.channels && !code; c++)
        for (int y = 0; y < in.h; y++)
            memcpy(at(&in, c, y, 0), at(from, c, top + y, left), (size_t)in.w * sizeof(float));
    if (!code)
        code = run_whole(t->call, t->decode, in.h, in.w, in.data, to->data, err);
    free(in.data);
    return code;
}

/* The tile's first rows and columns; the rest is another's. */
static void paste(const struct plane *tile, int rows, int columns, const struct plane *to, int top,
                  int left)
{
    int h = min(min(tile->h, rows), to->h - top), w = min(min(tile->w, columns), to->w - left);
    for (int c = 0; c < to->channels; c++)
        for (int y = 0; y < h; y++)
            memcpy(at(to, c, top + y, left), at(tile, c, y, 0), (size_t)w * sizeof(float));
}

/* Tiles along a side of the input. diffusers goes on from stride to stride, though the last tiles
 * may lie wholly in the one before. */
static int tiles_along(const struct tiles *t, int length)
{
    if (t->call->tiling == STYX_TILING_DIFFUSERS)
        return (length + t->stride - 1) / t->stride;
    return length <= t->side ? 1 : 1 + (length - t->side + t->stride - 1) / t->stride;
}

/* Row by row: blending needs only the tiles above and to the left. */
static int run_tiles(const struct tiles *t, const struct plane *from, const struct plane *to,
                     styx_error *err)
{
    int rows = tiles_along(t, from->h), columns = tiles_along(t, from->w), code = 0;
    struct plane *above = calloc((size_t)columns, sizeof *above);
    struct plane *row = calloc((size_t)columns, sizeof *row);
    if (!above || !row)
        code = fail_nomem(err, (size_t)columns * sizeof *row);
    for (int i = 0; i < rows && !code; i++) {
        for (int k = 0; k < columns && !code; k++) {
            row[k].channels = to->channels;
            if ((code = run_tile(t, from, i * t->stride, k * t->stride, &row[k], err)))
                break;
            if (i)
                blend_down(&above[k], &row[k], t->blend);
            if (k)
                blend_right(&row[k - 1], &row[k], t->blend);
            if (i * t->limit < to->h && k * t->limit < to->w)
                paste(&row[k], i + 1 < rows ? t->limit : row[k].h,
                      k + 1 < columns ? t->limit : row[k].w, to, i * t->limit, k * t->limit);
        }
        for (int k = 0; k < columns; k++) {
            free(above[k].data);
            above[k] = row[k];
            row[k].data = NULL;
        }
    }
    for (int k = 0; k < columns && above; k++)
        free(above[k].data);
    free(above);
    free(row);
    return code;
}

/* Does a run at this size exceed the session's memory limit? Weights that are streamed cost nothing
 * here: each is used once. */
static bool too_large(const struct vae_call *c, bool decode, int h, int w)
{
    struct program_key key = { .component = c->vae,
                               .type = c->type,
                               .n = 1,
                               .h = h,
                               .w = w,
                               .network = decode ? NET_VAE_DECODE : NET_VAE_ENCODE };
    struct footprint need;
    tape *t;
    if (!c->s->max_memory || program_record(&key, c->s->backend, &t, NULL))
        return false;
    c->s->backend->measure(c->s->device, t, 1, &need);
    tape_free(t);
    return need.weights + need.arena + need.workspace > session_room(c->s);
}

/* Under a memory limit: the largest tile that fits, halving the VAE's own size. */
static void fit(struct vae_call *c, bool decode, int h, int w)
{
    enum { LEAST = 128 }; /* smaller tiles would be all seams */
    int scale = vae_scale(&c->vae->vae), pixels = tile_pixels(c);
    if (!too_large(c, decode, h, w))
        return;
    for (; pixels > LEAST; pixels /= 2) {
        int side = decode ? pixels / scale : pixels;
        if ((h > side || w > side) && !too_large(c, decode, side, side))
            break;
    }
    c->tile = pixels;
    c->tiling = STYX_TILING_SEAMLESS;
    session_warn(c->s, "The VAE is run in tiles of %d pixels to stay under the memory limit.",
                 pixels);
}

static int run(const struct vae_call *asked, bool decode, int h, int w, const float *in, float *out,
               styx_error *err)
{
    struct vae_call c = *asked;
    const struct vae_config *m = &c.vae->vae;
    int scale = vae_scale(m);
    if (c.tiling == STYX_TILING_AUTO)
        fit(&c, decode, h, w);
    struct tiles t = cut(&c, decode);
    bool tiled = c.tiling == STYX_TILING_DIFFUSERS || c.tiling == STYX_TILING_SEAMLESS;
    if (!tiled || (h <= t.side && w <= t.side))
        return run_whole(&c, decode, h, w, in, out, err);
    struct plane from = { (float *)in, decode ? m->latent : m->in, h, w };
    struct plane to = { out, decode ? m->out : 2 * m->latent, decode ? h * scale : h / scale,
                        decode ? w * scale : w / scale };
    return run_tiles(&t, &from, &to, err);
}

int vae_call_decode(const struct vae_call *c, int h, int w, const float *z, float *pixels,
                    styx_error *err)
{
    return run(c, true, h, w, z, pixels, err);
}

int vae_call_encode(const struct vae_call *c, int h, int w, const float *pixels, float *moments,
                    styx_error *err)
{
    return run(c, false, h, w, pixels, moments, err);
}
