/* tiling.c - decoding in tiles, so that memory does not grow with the picture.
 *
 * The tile program is the decoder at the size the VAE was trained for; tiles overlap by a quarter
 * and are blended linearly over the overlap, rows first, then columns: diffusers' tiled_decode. */
#include "engine/job.h"
#include <stdlib.h>

struct tiles {
    int side, stride;   /* latents */
    int blend, limit;   /* pixels: width of the blend, pixels kept of a tile */
    int rows, columns;
};

static struct tiles cut(const struct vae_config *m, int lh, int lw)
{
    int scale = vae_scale(m);
    struct tiles t = { .side = m->sample_size / scale };
    if (t.side < 4)
        t.side = 4;
    t.stride = (int)(t.side * (1 - 0.25));
    t.blend = (int)(m->sample_size * 0.25);
    t.limit = m->sample_size - t.blend;
    t.rows = (lh + t.stride - 1) / t.stride;
    t.columns = (lw + t.stride - 1) / t.stride;
    return t;
}

struct tile {
    float *pixels; /* [3,h,w] */
    int h, w;
};

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* The first rows of b fade from the last rows of a. */
static void blend_down(const struct tile *a, struct tile *b, int extent)
{
    extent = min(extent, min(a->h, b->h));
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < extent; y++)
            for (int x = 0; x < min(a->w, b->w); x++) {
                float k = (float)y / (float)extent;
                float *to = b->pixels + ((size_t)c * b->h + y) * b->w + x;
                *to = a->pixels[((size_t)c * a->h + a->h - extent + y) * a->w + x] * (1 - k) +
                      *to * k;
            }
}

static void blend_right(const struct tile *a, struct tile *b, int extent)
{
    extent = min(extent, min(a->w, b->w));
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < min(a->h, b->h); y++)
            for (int x = 0; x < extent; x++) {
                float k = (float)x / (float)extent;
                float *to = b->pixels + ((size_t)c * b->h + y) * b->w + x;
                *to = a->pixels[((size_t)c * a->h + y) * a->w + a->w - extent + x] * (1 - k) +
                      *to * k;
            }
}

static int decode_tile(styx_session *s, const styx_component *vae, enum dtype type, int lh, int lw,
                       const float *z, int top, int left, int side, struct tile *t, styx_error *err)
{
    int c = vae->vae.latent, scale = vae_scale(&vae->vae);
    int h = min(side, lh - top), w = min(side, lw - left);
    float *in = malloc((size_t)c * h * w * sizeof *in);
    t->h = h * scale;
    t->w = w * scale;
    t->pixels = malloc((size_t)3 * t->h * t->w * sizeof(float));
    int code = in && t->pixels ? 0 : fail_nomem(err, (size_t)3 * t->h * t->w * sizeof(float));
    for (int k = 0; k < c && !code; k++)
        for (int y = 0; y < h; y++)
            memcpy(in + ((size_t)k * h + y) * w, z + ((size_t)k * lh + top + y) * lw + left,
                   (size_t)w * sizeof *in);
    if (!code)
        code = run_vae_decode(s, vae, type, h, w, in, t->pixels, err);
    free(in);
    return code;
}

static void paste(const struct tile *t, int limit, float *pixels, int h, int w, int top, int left)
{
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < min(t->h, limit) && top + y < h; y++)
            memcpy(pixels + ((size_t)c * h + top + y) * w + left,
                   t->pixels + ((size_t)c * t->h + y) * t->w,
                   (size_t)min(min(t->w, limit), w - left) * sizeof *pixels);
}

/* Row by row: only the tiles above and to the left are needed for blending. */
static int decode_tiled(styx_session *s, const styx_component *vae, enum dtype type, int lh, int lw,
                        const float *z, float *pixels, styx_error *err)
{
    struct tiles t = cut(&vae->vae, lh, lw);
    int scale = vae_scale(&vae->vae), code = 0;
    struct tile *above = calloc((size_t)t.columns, sizeof *above);
    struct tile *row = calloc((size_t)t.columns, sizeof *row);
    if (!above || !row)
        code = fail_nomem(err, (size_t)t.columns * sizeof *row);
    for (int i = 0; i < t.rows && !code; i++) {
        for (int k = 0; k < t.columns && !code; k++) {
            code = decode_tile(s, vae, type, lh, lw, z, i * t.stride, k * t.stride, t.side, &row[k],
                               err);
            if (code)
                break;
            if (i)
                blend_down(&above[k], &row[k], t.blend);
            if (k)
                blend_right(&row[k - 1], &row[k], t.blend);
            paste(&row[k], t.limit, pixels, lh * scale, lw * scale, i * t.limit, k * t.limit);
        }
        for (int k = 0; k < t.columns; k++) {
            free(above[k].pixels);
            above[k] = row[k];
            row[k].pixels = NULL;
        }
    }
    for (int k = 0; k < t.columns; k++) {
        free(above ? above[k].pixels : NULL);
        free(row ? row[k].pixels : NULL);
    }
    free(above);
    free(row);
    return code;
}

/* Would the whole decode exceed the session's memory limit? */
static bool too_large(styx_session *s, const styx_component *vae, enum dtype type, int lh, int lw)
{
    struct program_key key = { .component = vae, .network = NET_VAE_DECODE, .type = type, .n = 1,
                               .h = lh, .w = lw };
    struct footprint need;
    tape *t;
    if (!s->max_memory || program_record(&key, s->backend->halo, &t, NULL))
        return false;
    s->backend->measure(s->device, t, 0, &need);
    tape_free(t);
    return need.weights + need.arena + need.workspace > s->max_memory;
}

int decode_latents(styx_session *s, const styx_component *vae, enum dtype type, int lh, int lw,
                   const float *z, enum styx_tiling tiling, float *pixels, styx_error *err)
{
    int side = cut(&vae->vae, lh, lw).side;
    bool larger = lh > side || lw > side;
    bool tiled = tiling == STYX_TILING_DIFFUSERS || tiling == STYX_TILING_SEAMLESS ||
                 (tiling == STYX_TILING_AUTO && larger && too_large(s, vae, type, lh, lw));
    if (!tiled || !larger)
        return run_vae_decode(s, vae, type, lh, lw, z, pixels, err);
    if (tiling == STYX_TILING_AUTO)
        session_warn(s, "The VAE is run in tiles to stay under the memory limit.");
    return decode_tiled(s, vae, type, lh, lw, z, pixels, err);
}
