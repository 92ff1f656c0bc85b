/* sampler.c - the arithmetic that the samplers share. */
#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void combine(const struct scheduler *s, float *out, int nterms, const struct term *terms)
{
    for (size_t i = 0; i < s->n; i++) {
        float sum = (float)terms[0].factor * terms[0].values[i];
        for (int k = 1; k < nterms; k++)
            sum += (float)terms[k].factor * terms[k].values[i];
        out[i] = sum;
    }
}

void predict_x0(const struct scheduler *s, double alpha, double sigma, const float *sample,
                const float *output, float *x0)
{
    float a = (float)alpha, b = (float)sigma;
    switch (s->k.prediction_type) {
    case PREDICT_EPSILON: /* divided, not multiplied by 1 / a: with a = 0 clipping still works */
        for (size_t i = 0; i < s->n; i++)
            x0[i] = (sample[i] - b * output[i]) / a;
        break;
    case PREDICT_V: /* Salimans and Ho 2022, appendix D: v = a noise - b x0 */
        for (size_t i = 0; i < s->n; i++)
            x0[i] = a * sample[i] - b * output[i];
        break;
    case PREDICT_SAMPLE:
        memcpy(x0, output, s->n * sizeof *x0);
        break;
    }
}

void predict_eps(const struct scheduler *s, double alpha, double sigma, const float *sample,
                 const float *output, float *eps)
{
    float a = (float)alpha, b = (float)sigma;
    switch (s->k.prediction_type) {
    case PREDICT_EPSILON:
        memcpy(eps, output, s->n * sizeof *eps);
        break;
    case PREDICT_V:
        for (size_t i = 0; i < s->n; i++)
            eps[i] = a * output[i] + b * sample[i];
        break;
    case PREDICT_SAMPLE:
        for (size_t i = 0; i < s->n; i++)
            eps[i] = (sample[i] - a * output[i]) / b;
        break;
    }
}

void predict_x0_sigma(const struct scheduler *s, double sigma, const float *sample,
                      const float *output, float *x0)
{
    float a = (float)sigma, b = a * a + 1, c = -a / sqrtf(b);
    switch (s->k.prediction_type) {
    case PREDICT_EPSILON:
        for (size_t i = 0; i < s->n; i++)
            x0[i] = sample[i] - a * output[i];
        break;
    case PREDICT_V:
        for (size_t i = 0; i < s->n; i++)
            x0[i] = output[i] * c + sample[i] / b;
        break;
    case PREDICT_SAMPLE:
        memcpy(x0, output, s->n * sizeof *x0);
        break;
    }
}

void slope_of(const struct scheduler *s, double sigma, const float *sample, const float *x0,
              float *slope)
{
    float a = (float)sigma;
    for (size_t i = 0; i < s->n; i++)
        slope[i] = (sample[i] - x0[i]) / a;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static inline float clamp(float x, float most)
{
    return x < -most ? -most : x > most ? most : x; /* NaN stays */
}

static void threshold(const struct scheduler *s, float *x0, size_t n, float *sorted)
{
    double place = s->k.dynamic_thresholding_ratio * (double)(n - 1);
    size_t low = (size_t)place, high = low + 1 < n ? low + 1 : low;
    for (size_t i = 0; i < n; i++)
        sorted[i] = fabsf(x0[i]);
    qsort(sorted, n, sizeof *sorted, by_size);
    double quantile = sorted[low] + (place - (double)low) * (sorted[high] - sorted[low]);
    float most = (float)quantile; /* may be NaN, and then stays so */
    most = most < 1 ? 1 : most;
    most = most > s->k.sample_max_value ? (float)s->k.sample_max_value : most;
    for (size_t i = 0; i < n; i++)
        x0[i] = clamp(x0[i], most) / most;
}

void limit_x0(const struct scheduler *s, const struct step_args *args, float *x0)
{
    float range = (float)s->k.clip_sample_range;
    if (s->k.thresholding) {
        for (size_t row = 0; row < args->rows; row++)
            threshold(s, x0 + row * args->per_row, args->per_row, s->noise);
    } else if (s->k.clip_sample) {
        for (size_t i = 0; i < s->n; i++)
            x0[i] = clamp(x0[i], range);
    }
}

int draw_noise(struct scheduler *s, const struct step_args *args, bool f32, styx_error *err)
{
    if (!args->noise.normal)
        return fail(err, STYX_ERR_INVALID, "%s draws noise in its steps, but there is no source",
                    s->ops->class.name);
    return args->noise.normal(args->noise.user, f32, s->noise, s->n, err);
}

float *push_history(struct scheduler *s)
{
    float *slot = s->history[HISTORY - 1];
    memmove(s->history + 1, s->history, (HISTORY - 1) * sizeof *s->history);
    s->history[0] = slot;
    if (s->nhistory < HISTORY)
        s->nhistory++;
    return slot;
}

int check_timestep(const struct scheduler *s, double t, styx_error *err)
{
    if (t >= 0 && t < s->k.num_train_timesteps)
        return STYX_OK;
    return fail(err, STYX_ERR_INVALID, "%s: timestep %g is not in 0 to %d", s->ops->class.name, t,
                s->k.num_train_timesteps - 1);
}

float alpha_at(const struct scheduler *s, int t)
{
    if (t >= 0)
        return s->abar[t];
    return s->k.set_alpha_to_one ? 1 : s->abar[0];
}

struct level level_at(const struct scheduler *s, int i)
{
    struct level level;
    double sigma = s->sigmas[i];
    level.alpha = 1 / sqrt(sigma * sigma + 1);
    level.sigma = sigma * level.alpha;
    level.lambda = -log(sigma); /* ln alpha - ln (alpha sigma) */
    return level;
}
