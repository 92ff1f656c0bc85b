/* recordings.h - networks of every kind, narrow, and nets of arbitrary instructions, for
 * programs.h.
 */
#ifndef STYX_TESTS_RECORDINGS_H
#define STYX_TESTS_RECORDINGS_H
#include "base/json.h"
#include "model/model.h"
#include "plan/networks.h"
#include "plan/programs.h"

static json_t *parse(const char *text)
{
    json_t *root = NULL;
    styx_error err;
    if (json_bytes(text, strlen(text), "a test config", &root, &err))
        fail_msg("%s", err.text);
    return root;
}

static void record_unet(tape *t, const char *config, int h, int w, int ids)
{
    struct unet_config m;
    json_t *c = parse(config);
    assert_int_equal(unet_read(c, "test", &m, NULL), 0);
    unet(t, &m, 2, h, w, 5, ids);
    json_decref(c);
    t->copies = 2; /* as under guidance */
    t->in[0]->repeats = t->in[1]->repeats = true;
}

static void narrow_sd15(tape *t, unsigned seed)
{
    record_unet(t, NARROW_SD15, 8 + (int)seed % 3, 9, 0); /* odd sides: upsampling to the skip */
}

static void narrow_sdxl(tape *t, unsigned seed)
{
    record_unet(t, NARROW_SDXL, 8, 6 + (int)seed % 3, 6);
}

static void narrow_refiner(tape *t, unsigned seed)
{
    record_unet(t, NARROW_REFINER, 8 + (int)seed % 2, 8, 5);
}

static void narrow_vae(tape *t, unsigned seed)
{
    struct vae_config m;
    json_t *c = parse(NARROW_VAE);
    assert_int_equal(vae_read(c, "test", &m, NULL), 0);
    if (seed % 2)
        vae_encode(t, &m, 1, 24, 17);
    else
        vae_decode(t, &m, 2, 3, 4);
    json_decref(c);
}

static void narrow_clip(tape *t, unsigned seed)
{
    struct clip_config m;
    json_t *c = parse(NARROW_CLIP);
    assert_int_equal(clip_text_read(c, "test", &m, NULL), 0);
    clip_text(t, &m, 2, 9, (int)seed % 4, seed % 3 == 0);
    json_decref(c);
}

/* A net of arbitrary instructions over one shape, with values read late and twice. Of most nets the
 * rows of two inputs repeat: then those of all values do until the third is read. */
static void random_net(tape *t, unsigned seed)
{
    enum { C = 12, MAX = 40 };
    int n = 0, h = 5, w = 4, copies = 1 + (int)seed % 3, rows = copies == 2 ? 4 : 3;
    tensor *v[MAX], *once = input(t, "once", rows, 1, 1, C, DT_F32, true);
    tensor *time = input(t, "time", rows, 1, 1, C, DT_F32, false);
    v[n++] = input(t, "x", rows, h, w, C, DT_F32, false);
    t->copies = copies;
    v[0]->repeats = time->repeats = true;
    while (n < MAX) {
        char at[24];
        tensor *a = v[next(&seed) % (unsigned)n], *b = v[n - 1], *y;
        snprintf(at, sizeof at, "layer%d", n);
        switch (next(&seed) % 10) {
        case 0:
            y = conv2d(t, a, at, C, 3, 1);
            break;
        case 1:
            y = act(t, group_norm(t, a, at, 3, 1e-5f), ACT_SILU);
            break;
        case 2:
            y = add(t, a, b);
            break;
        case 3:
            y = add(t, linear(t, a, at, C), linear(t, once, "once", C));
            break;
        case 4:
            y = linear(t, concat(t, a, b), at, C);
            break;
        case 5:
            y = geglu(t, linear(t, a, at, 2 * C));
            break;
        case 6:
            y = attention(t, a, b, a, 3, false);
            break;
        case 7:
            y = conv2d(t, upsample(t, conv2d(t, b, at, C, 3, 2), h, w), "up", C, 3, 1);
            break;
        case 8:
            y = add(t, conv2d(t, a, at, C, 3, 1), act(t, linear(t, time, "time", C), ACT_SILU));
            break;
        default:
            y = act(t, layer_norm(t, a, at, 1e-5f), ACT_GELU);
        }
        v[n++] = y;
    }
    output(t, v[n - 1]);
    output(t, v[n / 2]);
}

#endif
