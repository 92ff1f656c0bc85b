/* launch.h - our own kernels on the card, one function each.
 *
 * All of them run in the stream of the device, return at once, allocate nothing and may be captured
 * into a graph. Sums are f32 whatever the type of the values. Values are float, __half or
 * __nv_bfloat16 (DT_F32, DT_F16, DT_BF16); all views of one call have one type unless said
 * otherwise. The kernels themselves are src/cuda/kernels/NAME.cu. */
#ifndef STYX_CUDA_LAUNCH_H
#define STYX_CUDA_LAUNCH_H
#include "cuda/gpu.h"

/* A value on the card: n images of h*w pixels of c numbers. From pixel to pixel it is `row` numbers
 * (more than c when the value is a slice of a wider one), from image to image h*w*row. */
struct gview {
    CUdeviceptr data;
    enum dtype type;
    int n, h, w, c;
    long row;
};

static inline long gview_pixels(const struct gview *x)
{
    return (long)x->n * x->h * x->w;
}

/* Group norm of x, or of [x | second] (channels side by side; second NULL: x alone), then act
 * (ACT_NONE or ACT_SILU). bias: [c] of the values' type, added to every pixel before the norm, 0 if
 * there is none; shift: [n,1,1,c], the same for every image, or NULL. gamma, beta: f32 [c]. out is
 * dense in c but not x or second. scratch: launch_group_norm_scratch bytes. */
CUresult launch_group_norm(const struct gpu *g, const struct gview *x, const struct gview *second,
                           CUdeviceptr bias, const struct gview *shift, int groups, float eps,
                           CUdeviceptr gamma, CUdeviceptr beta, enum act act,
                           const struct gview *out, CUdeviceptr scratch);
size_t launch_group_norm_scratch(int n, long pixels, int channels, int groups);

/* Layer norm over c. gamma, beta: f32 [c], or both 0 where launch_fold had them. With scales (not
 * 0) the result is written as launch_eight writes it, to out->data and scales; c is at most
 * NORM_EIGHT_MOST then. */
CUresult launch_layer_norm(const struct gpu *g, const struct gview *x, CUdeviceptr gamma,
                           CUdeviceptr beta, float eps, const struct gview *out,
                           CUdeviceptr scales);

/* out[c] = x[c] * gelu(x[c + out->c]), with the exact erf. x has 2 * out->c channels. scales: as
 * above, up to GEGLU_EIGHT_MOST channels. */
CUresult launch_geglu(const struct gpu *g, const struct gview *x, const struct gview *out,
                      CUdeviceptr scales);
enum { NORM_EIGHT_MOST = 2048, GEGLU_EIGHT_MOST = 6144 };

/* out = act(x + bias + shift) + residual; each of bias (0), shift and residual (NULL) may be
 * absent, shift is [n,1,1,c]. out may be x or residual. */
CUresult launch_finish(const struct gpu *g, const struct gview *x, CUdeviceptr bias,
                       const struct gview *shift, enum act act, const struct gview *residual,
                       const struct gview *out);

/* out = x weight^T + bias (+ residual), or GEGLU of x weight^T + bias, on the tensor cores of 9.0.
 * All of one type, F16 or BF16; rows, and the weight's (weight_row numbers apart), at multiples of
 * 16 bytes; 16, for some ways 32, divides out.c. bias may be 0, residual.data too; out may be the
 * residual. There are several ways, numbered from 0; none for what is not so, and on other cards.
 */
struct linear {
    struct gview x, out, residual;
    CUdeviceptr weight, bias;
    long weight_row;
    bool geglu;  /* weight and bias: values, then gates; no residual */
    bool normed; /* x is first layer-normed with eps; weight and bias are what launch_fold made */
    float eps;
    int phases; /* more than 1: so many products without bias and residual, whose rows of x, of the
                 * weight and of out, as given for one, follow each other */
};
int launch_linear_ways(const struct gpu *g, const struct linear *l);
CUresult launch_linear(const struct gpu *g, const struct linear *l, int way);

/* A 3x3 convolution with a border of zeros, on the tensor cores of 9.0: of x, with weight
 * [cout][9][c]; or `doubled`, of x upsampled by two (nearest), with what launch_pack_doubled made
 * of that, and no residual. Plus bias, or 0, plus residual, whose data may be 0; out may be the
 * residual. All of one type, F16 or BF16; rows at multiples of 16 bytes; 16, for some ways 32,
 * divides out.c. There are several ways, numbered from 0; none for what is not so, and on other
 * cards.
 *
 * Instead of a residual a 1x1 convolution may be added, of shortcut[0], or of that and shortcut[1]
 * side by side (data 0: none), maps of out's size, with shortcut_weight [cout][channels of both].
 *
 * `pairs`: by Winograd's algorithm along rows, 2/3 of the products, with what launch_pack_pairs
 * made of the weight, and not doubled. workspace holds, of as many rows as are computed at once and
 * two more, twice as many numbers as x has there; of three rows at least.
 */
struct conv3 {
    struct gview x, out, residual, shortcut[2];
    CUdeviceptr weight, bias, shortcut_weight, shortcut_bias;
    bool doubled, pairs;
    CUdeviceptr workspace;
    size_t bytes; /* of the workspace */
};
int launch_conv3_ways(const struct gpu *g, const struct conv3 *c);
CUresult launch_conv3(const struct gpu *g, const struct conv3 *c, int way);

/* The same, but not doubled and without a shortcut, by Winograd's algorithm: 4/9 of the products,
 * and three to four times the error that rounding the result makes. weight: what
 * launch_pack_winograd made. workspace holds the numbers of as many tiles of 2x2 pixels as are
 * computed at once, 32 bytes for each channel of x and of out. */
struct winograd {
    struct gview x, out, residual;
    CUdeviceptr weight, bias, workspace;
    size_t bytes; /* of the workspace */
};
int launch_winograd_ways(const struct gpu *g, const struct winograd *c);
CUresult launch_winograd(const struct gpu *g, const struct winograd *c, int way);

/* Nearest: out pixel (y, x) is in pixel (y * h / out.h, x * w / out.w). */
CUresult launch_upsample(const struct gpu *g, const struct gview *x, const struct gview *out);
/* Pixel p is pixel p mod x.n * x.h * x.w; out is a multiple of x. */
CUresult launch_repeat(const struct gpu *g, const struct gview *x, const struct gview *out);
CUresult launch_concat(const struct gpu *g, const struct gview *a, const struct gview *b,
                       const struct gview *out);

/* x: f32 [n,1,1,k]; out [n,1,1,k*dim]: for each number [sin | cos] of x * 10000^(-i / (dim/2 -
 * shift)), i < dim/2, or [cos | sin] if flip. As src/ref/ref.c has it. */
CUresult launch_timestep(const struct gpu *g, const struct gview *x, int dim, bool flip,
                         float shift, const struct gview *out);

/* ids: i32 [n,1,w,1]; table [vocabulary][c] of out's type. Ids are valid (checked by the host). */
CUresult launch_embed(const struct gpu *g, const struct gview *ids, CUdeviceptr table,
                      const struct gview *out);
/* out = x + table[position], the same for every image; table of out's type. out may be x. */
CUresult launch_position(const struct gpu *g, const struct gview *x, CUdeviceptr table,
                         const struct gview *out);
/* out = [token | x's pixels]: one more pixel in front; token [c] of out's type. */
CUresult launch_prepend(const struct gpu *g, const struct gview *x, CUdeviceptr token,
                        const struct gview *out);
/* out[n] = x[n][index[n]]; index: i32 [n,1,1,1] */
CUresult launch_row(const struct gpu *g, const struct gview *x, const struct gview *index,
                    const struct gview *out);

/* Dense f32 at `from` to x, and x to dense f32 at `to`. */
CUresult launch_from_f32(const struct gpu *g, CUdeviceptr from, const struct gview *x);
CUresult launch_to_f32(const struct gpu *g, const struct gview *x, CUdeviceptr to);

/* softmax(scale * q k^T) v for each of heads heads of q.c / heads channels; k and v have pixels of
 * their own number. causal: query i sees keys 0..i. Any head width; F16 and BF16 with widths that
 * are multiples of 8 up to 160 use the tensor cores on sm_80 and later. */
CUresult launch_attention(const struct gpu *g, const struct gview *q, const struct gview *k,
                          const struct gview *v, int heads, bool causal, const struct gview *out);
/* Are the kernels for these heads made for the card, and so no slower than a library's? */
bool launch_attention_leads(const struct gpu *g, enum dtype type, int width, bool causal);

/* out[r] = softmax of row r of scores times scale: rows of `columns` numbers, f32 in, out of the
 * given type, both dense. For heads too wide for the kernel above. */
CUresult launch_softmax(const struct gpu *g, CUdeviceptr scores, long rows, int columns,
                        float scale, CUdeviceptr out, enum dtype type);

/* The plain convolution, for channels too few or filters too odd for the library: k x k taps,
 * stride, `pad` zeros before; what lies outside x is zero. weight: [cout][k][k][c] of the values'
 * type; bias [cout] or 0; shift [n,1,1,cout] or NULL; residual or NULL. */
CUresult launch_conv(const struct gpu *g, const struct gview *x, CUdeviceptr weight, int k,
                     int stride, int pad, CUdeviceptr bias, const struct gview *shift,
                     const struct gview *residual, const struct gview *out);

/* Rows of x to e4m3: out[r][c] = x[r][c] / scales[r], dense, with f32 scales[r] that bring the
 * row's greatest magnitude to the greatest e4m3, 448. x of F32, F16 or BF16, its channels a
 * multiple of 16, on cards of 8.9 and later. */
CUresult launch_eight(const struct gpu *g, const struct gview *x, CUdeviceptr out,
                      CUdeviceptr scales);

/* Weights as a file has them to the type and order of the kernels. from: dense [cout][cin][taps] of
 * F32, F16 or BF16; to: [cout][taps][cin] of type (taps 1: only the type changes). */
CUresult launch_pack(const struct gpu *g, CUdeviceptr from, enum dtype from_type, CUdeviceptr to,
                     enum dtype type, long cout, long cin, int taps);

/* Filters of 3x3 taps, [cout][cin][9], to those of a map that is upsampled by two, nearest:
 * [cout][DOUBLED_TAPS][cin] of type, as hopper_conv.cu reads them. */
CUresult launch_pack_doubled(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                             CUdeviceptr to, enum dtype type, long cout, long cin);

/* The same to those of a convolution in pairs: [cout][PAIRS_TAPS][cin]. */
CUresult launch_pack_pairs(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                           CUdeviceptr to, enum dtype type, long cout, long cin);

/* The same to those of launch_winograd, [WINOGRAD_TAPS][all][cin]; to: where the first of these
 * cout of all goes. */
CUresult launch_pack_winograd(const struct gpu *g, CUdeviceptr from, enum dtype from_type,
                              CUdeviceptr to, enum dtype type, long cout, long cin, long all);

/* A layer norm's gamma and beta (f32 [cin]) into the layer that reads its result: each row of
 * weight [cout][cin], in place, times gamma, less its mean; shift[cout] = weight beta + bias (f32,
 * or 0). Both have the values' type. The layer of a norm without gamma and beta is then what it
 * was. */
CUresult launch_fold(const struct gpu *g, CUdeviceptr weight, enum dtype type, long cout, long cin,
                     CUdeviceptr gamma, CUdeviceptr beta, CUdeviceptr bias, CUdeviceptr shift);

#endif
