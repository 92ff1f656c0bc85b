/* safety.c - SD 1.x's safety checker: CLIP's view of the picture against 17 concepts and 3 special
 * ones, by cosine (diffusers' StableDiffusionSafetyChecker). */
#include "base/file.h"
#include "engine/job.h"
#include "image/clipvision.h"
#include <math.h>
#include <stdlib.h>

enum { MAX_CONCEPTS = 64 };

struct concepts {
    float *embeds; /* [n, width] */
    float thresholds[MAX_CONCEPTS];
    int n;
};

static int read_tensor(struct store *weights, const char *name, struct span *span, styx_error *err)
{
    const struct entry *e = store_find(weights, name);
    if (!e)
        return fail(err, STYX_ERR_FORMAT, "%s: no tensor '%s'; a safety checker has one",
                    store_path(weights), name);
    return store_span(weights, e, span, err);
}

static int read_concepts(const styx_component *c, const char *name, struct concepts *to,
                         styx_error *err)
{
    char weights[64];
    struct span embeds, limits;
    int code, width = c->clip.projection;
    snprintf(weights, sizeof weights, "%s_weights", name);
    if ((code = read_tensor(c->weights, name, &embeds, err)) ||
        (code = read_tensor(c->weights, weights, &limits, err)))
        return code;
    if (embeds.dims != 2 || embeds.shape[1] != width || limits.dims != 1 ||
        limits.shape[0] != embeds.shape[0] || embeds.shape[0] > MAX_CONCEPTS)
        return fail(err, STYX_ERR_FORMAT, "%s: '%s' is not [n, %d] with n thresholds beside it",
                    c->path, name, width);
    to->n = embeds.shape[0];
    to->embeds = malloc((size_t)to->n * (size_t)width * sizeof(float));
    if (!to->embeds)
        return fail_nomem(err, (size_t)to->n * (size_t)width * sizeof(float));
    span_read(&embeds, 0, (size_t)to->n * (size_t)width, to->embeds);
    span_read(&limits, 0, (size_t)to->n, to->thresholds);
    return 0;
}

static double cosine(const float *a, const float *b, int n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / (fmax(sqrt(aa), 1e-12) * fmax(sqrt(bb), 1e-12)); /* torch's normalize */
}

/* Scores are rounded to three decimals before they are compared with 0. */
static bool above(const struct concepts *c, int i, const float *seen, int width, double adjust)
{
    double score = cosine(seen, c->embeds + (size_t)i * (size_t)width, width);
    return nearbyint((score - c->thresholds[i] + adjust) * 1000) > 0;
}

/* A special concept that is seen makes the later ones and all others 0.01 easier to find. */
static bool judge(const struct concepts *special, const struct concepts *bad, const float *seen,
                  int width)
{
    double adjust = 0;
    for (int i = 0; i < special->n; i++)
        if (above(special, i, seen, width, adjust))
            adjust = 0.01;
    for (int i = 0; i < bad->n; i++)
        if (above(bad, i, seen, width, adjust))
            return true;
    return false;
}

static int processor(const styx_model *m, const styx_component *checker, struct clip_processor *p,
                     styx_error *err)
{
    const styx_component *c = m->part[SLOT_FEATURE_EXTRACTOR];
    *p = CLIP_PROCESSOR;
    if (c) {
        char *path = path_join(c->path, "preprocessor_config.json");
        int code = path ? clip_processor_load(path, p, err) : fail_nomem(err, 256);
        free(path);
        if (code)
            return code;
    } else {
        p->shortest_edge = p->crop_w = p->crop_h = checker->clip.image;
    }
    if (p->crop_w != checker->clip.image || p->crop_h != checker->clip.image)
        return fail(err, STYX_ERR_FORMAT,
                    "%s: the feature extractor makes %d x %d, the safety checker wants %d x %d",
                    m->path, p->crop_w, p->crop_h, checker->clip.image, checker->clip.image);
    return 0;
}

int check_picture(styx_session *s, const styx_model *m, enum dtype type,
                  const struct styx_image *image, bool *nsfw, styx_error *err)
{
    const styx_component *c = m->part[SLOT_SAFETY_CHECKER];
    struct concepts special = { 0 }, bad = { 0 };
    struct clip_processor p;
    struct image in = { image->width, image->height, image->channels, image->pixels };
    float *pixels = NULL, *seen = malloc((size_t)c->clip.projection * sizeof *seen);
    int code = seen ? 0 : fail_nomem(err, (size_t)c->clip.projection * sizeof *seen);
    if (code || (code = processor(m, c, &p, err)))
        goto done;
    pixels = malloc(3 * (size_t)p.crop_w * (size_t)p.crop_h * sizeof *pixels);
    if (!pixels) {
        code = fail_nomem(err, 3 * (size_t)p.crop_w * (size_t)p.crop_h * sizeof *pixels);
        goto done;
    }
    if ((code = clip_preprocess(&p, &in, pixels, err)) ||
        (code = run_vision(s, c, type, pixels, seen, err)) ||
        (code = read_concepts(c, "special_care_embeds", &special, err)) ||
        (code = read_concepts(c, "concept_embeds", &bad, err)))
        goto done;
    *nsfw = judge(&special, &bad, seen, c->clip.projection);
done:
    free(special.embeds);
    free(bad.embeds);
    free(pixels);
    free(seen);
    return code;
}

int styx_safety_check(styx_session *session, const styx_model *model,
                      const struct styx_image *images, size_t count, unsigned char *nsfw,
                      styx_error *err)
{
    int code;
    if (!model->part[SLOT_SAFETY_CHECKER])
        return fail(err, STYX_ERR_INVALID, "%s has no safety checker", model->path);
    if ((code = session_enter(session, err)))
        return code;
    for (size_t i = 0; i < count && !code; i++) {
        bool bad = false;
        code =
            check_picture(session, model, resolve_dtype(session, STYX_AUTO), &images[i], &bad, err);
        nsfw[i] = bad;
    }
    session_leave(session);
    return code;
}
