/* networks.h - configs of the published networks, and the same topologies made narrow. */
#ifndef TESTS_PLAN_NETWORKS_H
#define TESTS_PLAN_NETWORKS_H

#define SD15_BLOCKS                                                                                \
    "\"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\","                   \
    " \"CrossAttnDownBlock2D\", \"DownBlock2D\"],"                                                 \
    "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\","          \
    " \"CrossAttnUpBlock2D\"]"

#define SDXL_BLOCKS                                                                                \
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"]," \
    "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"]"

#define REFINER_BLOCKS                                                                             \
    "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\","  \
    " \"DownBlock2D\"],"                                                                           \
    "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\","          \
    " \"UpBlock2D\"]"

static const char *const SD15_UNET =
    "{" SD15_BLOCKS ", \"block_out_channels\": [320, 640, 1280, 1280], \"attention_head_dim\": 8,"
    "\"cross_attention_dim\": 768}";

static const char *const SDXL_UNET =
    "{" SDXL_BLOCKS ", \"block_out_channels\": [320, 640, 1280],"
    "\"attention_head_dim\": [5, 10, 20], \"transformer_layers_per_block\": [1, 2, 10],"
    "\"use_linear_projection\": true, \"cross_attention_dim\": 2048,"
    "\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256,"
    "\"projection_class_embeddings_input_dim\": 2816, \"sample_size\": 128}";

static const char *const REFINER_UNET =
    "{" REFINER_BLOCKS ", \"block_out_channels\": [384, 768, 1536, 1536],"
    "\"attention_head_dim\": [6, 12, 24, 24], \"transformer_layers_per_block\": 4,"
    "\"use_linear_projection\": true, \"cross_attention_dim\": 1280,"
    "\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256,"
    "\"projection_class_embeddings_input_dim\": 2560, \"sample_size\": 128}";

static const char *const VAE =
    "{\"block_out_channels\": [128, 256, 512, 512], \"layers_per_block\": 2,"
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
    " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\","
    " \"UpDecoderBlock2D\"]}";

static const char *const CLIP_L =
    "{\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_hidden_layers\": 12,"
    "\"num_attention_heads\": 12, \"hidden_act\": \"quick_gelu\"}";

static const char *const BIG_G =
    "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"hidden_size\": 1280,"
    "\"intermediate_size\": 5120, \"num_hidden_layers\": 32, \"num_attention_heads\": 20,"
    "\"hidden_act\": \"gelu\", \"projection_dim\": 1280}";

static const char *const NARROW_SD15 =
    "{" SD15_BLOCKS ", \"block_out_channels\": [16, 24, 32, 32], \"attention_head_dim\": 4,"
    "\"cross_attention_dim\": 20, \"norm_num_groups\": 8}";

static const char *const NARROW_SDXL =
    "{" SDXL_BLOCKS ", \"block_out_channels\": [16, 24, 32], \"attention_head_dim\": [1, 2, 4],"
    "\"transformer_layers_per_block\": [1, 2, 10], \"use_linear_projection\": true,"
    "\"cross_attention_dim\": 28, \"norm_num_groups\": 8, \"addition_embed_type\": \"text_time\","
    "\"addition_time_embed_dim\": 6, \"projection_class_embeddings_input_dim\": 48}";

static const char *const NARROW_REFINER =
    "{" REFINER_BLOCKS ", \"block_out_channels\": [16, 24, 32, 32],"
    "\"attention_head_dim\": [2, 3, 4, 4], \"transformer_layers_per_block\": 4,"
    "\"use_linear_projection\": true, \"cross_attention_dim\": 20, \"norm_num_groups\": 8,"
    "\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 6,"
    "\"projection_class_embeddings_input_dim\": 42}";

static const char *const NARROW_VAE =
    "{\"block_out_channels\": [8, 12, 16, 16], \"layers_per_block\": 2, \"norm_num_groups\": 4,"
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
    " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
    "\"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", \"UpDecoderBlock2D\","
    " \"UpDecoderBlock2D\"]}";

static const char *const NARROW_CLIP =
    "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"hidden_size\": 24,"
    "\"intermediate_size\": 40, \"num_hidden_layers\": 3, \"num_attention_heads\": 4,"
    "\"hidden_act\": \"gelu\", \"projection_dim\": 16, \"vocab_size\": 50,"
    "\"max_position_embeddings\": 9}";

#endif
