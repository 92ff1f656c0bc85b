/* A file of any bytes as a LoRA and as a textual inversion, merged into small networks. */
#include "fuzz_folder.h"
#include "fuzz_store.h"
#include "weights/embedding.h"
#include "weights/lora.h"

static struct store *networks[2];

static void make_networks(void)
{
    static const float numbers[108];
    const struct saved unet[] = {
        { "conv_in.weight", DT_F32, 4, { 4, 3, 3, 3 }, numbers },
        { "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
          DT_F32,
          2,
          { 4, 6 },
          numbers },
    };
    const struct saved text[] = {
        { "text_model.embeddings.token_embedding.weight", DT_F32, 2, { 5, 4 }, numbers },
        { "text_model.encoder.layers.0.self_attn.q_proj.weight", DT_F32, 2, { 4, 4 }, numbers },
    };
    put_weights(0, "unet.safetensors", unet, 2);
    put_weights(1, "text.safetensors", text, 2);
    for (int i = 0; i < 2; i++)
        if (store_open_file(fuzz_files[i], &networks[i], NULL))
            abort();
}

static void as_lora(const char *path)
{
    static const char *const parts[] = { "unet", "text_encoder" };
    struct lora_use use = { NULL, 0.5f };
    char *keys = NULL;
    int n;
    if (lora_open(path, &use.lora, NULL))
        return;
    for (int i = 0; i < 2; i++) {
        struct store *merged = NULL;
        if (!lora_merge(networks[i], parts[i], &use, 1, DT_F32, 1, &merged, NULL))
            read_all(merged);
        store_unref(merged);
    }
    lora_unmatched(use.lora, &keys, &n, NULL);
    free(keys);
    lora_free(use.lora);
}

static void as_words(const char *path)
{
    struct embedding *e = NULL;
    struct store *merged = NULL;
    if (embedding_open(path, NULL, &e, NULL))
        return;
    if (!embedding_merge(networks[1], "text_encoder", &e, 1, DT_F32, &merged, NULL))
        read_all(merged);
    store_unref(merged);
    embedding_free(e);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    if (!networks[0])
        make_networks();
    const char *path = put_bytes(2, "input.safetensors", data, bytes);
    as_lora(path);
    as_words(path);
    return 0;
}
