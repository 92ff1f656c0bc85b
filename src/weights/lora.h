/* lora.h - low-rank changes of weights (Hu et al. 2021, arXiv:2106.09685), merged when they are
 * loaded:  W' = W + scale * alpha / r * up @ down,  r being the rows of down.
 *
 * Reads the keys of kohya's scripts (lora_unet_..., with diffusers' or generative-models' block
 * names), of PEFT (unet....lora_A.weight) and of older diffusers (...processor.to_q_lora.down...).
 * DoRA, LoHa, LoKr and Tucker-decomposed files are refused by name. */
#ifndef STYX_WEIGHTS_LORA_H
#define STYX_WEIGHTS_LORA_H
#include "weights/store.h"

struct lora;
int lora_open(const char *path, struct lora **out, styx_error *err);
void lora_free(struct lora *l);
const char *lora_path(const struct lora *l);

/* What it changes: modules of the UNet and of both text encoders. */
struct lora_facts {
    int modules[3];
    int least_rank, most_rank;
    int context; /* the width of the text that the UNet's cross-attention reads; 0: not told */
};
void lora_describe(const struct lora *l, struct lora_facts *facts);

struct lora_use {
    struct lora *lora;
    float scale;
};

/* base with the changes of all uses, applied in their order; component is "unet", "text_encoder" or
 * "text_encoder_2". Changed tensors are computed in f32 and kept as `type` (F32, F16 or BF16) in
 * memory of the result, all others stay where they are. If nothing is changed, *out is base itself.
 * threads 0: all. Marks in each lora what it found, so one caller at a time may merge it. */
int lora_merge(struct store *base, const char *component, const struct lora_use *uses, int nuses,
               enum dtype type, int threads, struct store **out, styx_error *err);

/* After merging into all components: the keys that changed nothing, one a line, in new memory
 * (free). *text is NULL if there are none. */
int lora_unmatched(const struct lora *l, char **text, int *nkeys, styx_error *err);

#endif
