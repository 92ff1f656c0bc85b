"""The tensors of every network as (name, shape, role), computed from its config.

Roles say how a random model fills a tensor: "weight" (spread 1/sqrt(fan in), so that activations
keep their size), "sharp" (queries and keys: a little larger, so that attention is not flat),
"branch" (what a residual branch adds), "gain", "bias" and "table" (embeddings).
"""


def lin(p, out, fan_in, bias=True, role="weight"):
    yield f"{p}.weight", (out, fan_in), role
    if bias:
        yield f"{p}.bias", (out,), "bias"


def conv(p, out, fan_in, k, role="weight"):
    yield f"{p}.weight", (out, fan_in, k, k), role
    yield f"{p}.bias", (out,), "bias"


def norm(p, channels):
    yield f"{p}.weight", (channels,), "gain"
    yield f"{p}.bias", (channels,), "bias"


def resnet(p, fan_in, out, temb):
    yield from norm(f"{p}.norm1", fan_in)
    yield from conv(f"{p}.conv1", out, fan_in, 3)
    if temb:
        yield from lin(f"{p}.time_emb_proj", out, temb)
    yield from norm(f"{p}.norm2", out)
    yield from conv(f"{p}.conv2", out, out, 3, "branch")
    if fan_in != out:
        yield from conv(f"{p}.conv_shortcut", out, fan_in, 1)


def attention(p, c, context):
    yield from lin(f"{p}.to_q", c, c, False, "sharp")
    yield from lin(f"{p}.to_k", c, context, False, "sharp")
    yield from lin(f"{p}.to_v", c, context, False)
    yield from lin(f"{p}.to_out.0", c, c, True, "branch")


def transformer(p, c, depth, context, linear):
    def project(name, role):
        return lin(name, c, c, True, role) if linear else conv(name, c, c, 1, role)

    yield from norm(f"{p}.norm", c)
    yield from project(f"{p}.proj_in", "weight")
    for k in range(depth):
        q = f"{p}.transformer_blocks.{k}"
        for i, size in enumerate((c, context), 1):
            yield from norm(f"{q}.norm{i}", c)
            yield from attention(f"{q}.attn{i}", c, size)
        yield from norm(f"{q}.norm3", c)
        yield from lin(f"{q}.ff.net.0.proj", 8 * c, c)
        yield from lin(f"{q}.ff.net.2", c, 4 * c, True, "branch")
    yield from project(f"{p}.proj_out", "branch")


def depths(config):
    """Transformer blocks of each down block; 0 where the block has no attention."""
    given = config.get("transformer_layers_per_block", 1)
    kinds = config["down_block_types"]
    given = given if isinstance(given, list) else [given] * len(kinds)
    return [d if kind.startswith("CrossAttn") else 0 for d, kind in zip(given, kinds)]


def middle_depth(config):
    given = config.get("transformer_layers_per_block", 1)
    return given[-1] if isinstance(given, list) else given


def unet(config):
    ch = config["block_out_channels"]
    temb, layers, depth = 4 * ch[0], config["layers_per_block"], depths(config)

    def attend(p, c, d):
        return transformer(p, c, d, config["cross_attention_dim"],
                           config.get("use_linear_projection", False))

    yield from conv("conv_in", ch[0], config["in_channels"], 3)
    if config.get("time_cond_proj_dim"):
        yield from lin("time_embedding.cond_proj", ch[0], config["time_cond_proj_dim"], False)
    yield from lin("time_embedding.linear_1", temb, ch[0])
    yield from lin("time_embedding.linear_2", temb, temb)
    if config.get("addition_embed_type"):
        yield from lin("add_embedding.linear_1", temb,
                       config["projection_class_embeddings_input_dim"])
        yield from lin("add_embedding.linear_2", temb, temb)
    skips, now = [ch[0]], ch[0]
    for b, c in enumerate(ch):
        for j in range(layers):
            yield from resnet(f"down_blocks.{b}.resnets.{j}", now, c, temb)
            if depth[b]:
                yield from attend(f"down_blocks.{b}.attentions.{j}", c, depth[b])
            now = c
            skips.append(c)
        if b < len(ch) - 1:
            yield from conv(f"down_blocks.{b}.downsamplers.0.conv", c, c, 3)
            skips.append(c)
    if config["mid_block_type"]:
        yield from resnet("mid_block.resnets.0", now, now, temb)
        yield from attend("mid_block.attentions.0", now, middle_depth(config))
        yield from resnet("mid_block.resnets.1", now, now, temb)
    for b, c in enumerate(reversed(ch)):
        for j in range(layers + 1):
            yield from resnet(f"up_blocks.{b}.resnets.{j}", now + skips.pop(), c, temb)
            if depth[-1 - b]:
                yield from attend(f"up_blocks.{b}.attentions.{j}", c, depth[-1 - b])
            now = c
        if b < len(ch) - 1:
            yield from conv(f"up_blocks.{b}.upsamplers.0.conv", c, c, 3)
    yield from norm("conv_norm_out", now)
    yield from conv("conv_out", config["out_channels"], now, 3, "branch")


def vae_middle(p, c):
    yield from resnet(f"{p}.resnets.0", c, c, 0)
    yield from norm(f"{p}.attentions.0.group_norm", c)
    yield from lin(f"{p}.attentions.0.to_q", c, c, True, "sharp")
    yield from lin(f"{p}.attentions.0.to_k", c, c, True, "sharp")
    yield from lin(f"{p}.attentions.0.to_v", c, c)
    yield from lin(f"{p}.attentions.0.to_out.0", c, c, True, "branch")
    yield from resnet(f"{p}.resnets.1", c, c, 0)


def vae(config):
    ch, layers = config["block_out_channels"], config["layers_per_block"]
    z = config["latent_channels"]
    now = ch[0]
    yield from conv("encoder.conv_in", now, config["in_channels"], 3)
    for b, c in enumerate(ch):
        for j in range(layers):
            yield from resnet(f"encoder.down_blocks.{b}.resnets.{j}", now, c, 0)
            now = c
        if b < len(ch) - 1:
            yield from conv(f"encoder.down_blocks.{b}.downsamplers.0.conv", c, c, 3)
    yield from vae_middle("encoder.mid_block", now)
    yield from norm("encoder.conv_norm_out", now)
    yield from conv("encoder.conv_out", 2 * z, now, 3)
    yield from conv("quant_conv", 2 * z, 2 * z, 1)
    yield from conv("post_quant_conv", z, z, 1)
    yield from conv("decoder.conv_in", now, z, 3)
    yield from vae_middle("decoder.mid_block", now)
    for b, c in enumerate(reversed(ch)):
        for j in range(layers + 1):
            yield from resnet(f"decoder.up_blocks.{b}.resnets.{j}", now, c, 0)
            now = c
        if b < len(ch) - 1:
            yield from conv(f"decoder.up_blocks.{b}.upsamplers.0.conv", c, c, 3)
    yield from norm("decoder.conv_norm_out", now)
    yield from conv("decoder.conv_out", config["out_channels"], now, 3, "branch")


def clip_layers(p, config):
    h, ff = config["hidden_size"], config["intermediate_size"]
    for i in range(config["num_hidden_layers"]):
        q = f"{p}.layers.{i}"
        yield from norm(f"{q}.layer_norm1", h)
        yield from lin(f"{q}.self_attn.q_proj", h, h, True, "sharp")
        yield from lin(f"{q}.self_attn.k_proj", h, h, True, "sharp")
        yield from lin(f"{q}.self_attn.v_proj", h, h)
        yield from lin(f"{q}.self_attn.out_proj", h, h, True, "branch")
        yield from norm(f"{q}.layer_norm2", h)
        yield from lin(f"{q}.mlp.fc1", ff, h)
        yield from lin(f"{q}.mlp.fc2", h, ff, True, "branch")


def clip_text(config):
    h = config["hidden_size"]
    yield "text_model.embeddings.token_embedding.weight", (config["vocab_size"], h), "table"
    yield ("text_model.embeddings.position_embedding.weight",
           (config["max_position_embeddings"], h), "table")
    yield from clip_layers("text_model.encoder", config)
    yield from norm("text_model.final_layer_norm", h)
    if config["architectures"] == ["CLIPTextModelWithProjection"]:
        yield from lin("text_projection", config["projection_dim"], h, False)


def clip_vision(config, prefix="vision_model"):
    h, patch = config["hidden_size"], config["patch_size"]
    positions = (config["image_size"] // patch) ** 2 + 1
    yield f"{prefix}.embeddings.class_embedding", (h,), "table"
    yield f"{prefix}.embeddings.patch_embedding.weight", (h, 3, patch, patch), "weight"
    yield f"{prefix}.embeddings.position_embedding.weight", (positions, h), "table"
    yield from norm(f"{prefix}.pre_layrnorm", h)
    yield from clip_layers(f"{prefix}.encoder", config)
    yield from norm(f"{prefix}.post_layernorm", h)


def safety_checker(config):
    vision, dim = config["vision_config"], config["projection_dim"]
    yield from clip_vision(vision, "vision_model.vision_model")
    yield from lin("visual_projection", dim, vision["hidden_size"], False)
    yield "concept_embeds", (17, dim), "table"
    yield "special_care_embeds", (3, dim), "table"
    yield "concept_embeds_weights", (17,), "threshold"
    yield "special_care_embeds_weights", (3,), "threshold"
