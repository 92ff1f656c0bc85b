/* devices.c - what there is to compute on. */
#include "engine/engine.h"
#include <stdlib.h>
#ifdef STYX_HAVE_CUDA
#include "cuda/gpu.h"
#endif

/* A backend as an object: what it is, or why it cannot be used. */
static json_t *describe(const struct backend *b, json_t *object)
{
    struct device_options o = { 0 };
    char text[128];
    void *dev;
    styx_error err;
    if (b->open(&o, &dev, &err)) {
        json_object_set_new(object, "why", json_string(err.text));
        return object;
    }
    b->describe(dev, text, sizeof text);
    b->close(dev);
    json_object_set_new(object, "device", json_string(text));
    return object;
}

#ifdef STYX_HAVE_CUDA
enum { MAX_CARDS = 64 };

static json_t *describe_card(const struct gpu_info *g, int index)
{
    char compute[16];
    snprintf(compute, sizeof compute, "%d.%d", g->major, g->minor);
    return json_pack("{s:i, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s}", "index", index, "name",
                     g->name, "memory", (json_int_t)g->memory, "free", (json_int_t)g->free,
                     "compute_capability", compute, "driver", g->driver, "cublaslt", g->cublas,
                     "cudnn", g->cudnn, "device", g->device);
}

static json_t *describe_cuda(json_t *cards)
{
    struct gpu_info list[MAX_CARDS];
    char text[32];
    styx_error err;
    int n = 0;
    if (gpu_list(list, MAX_CARDS, &n, &err))
        return json_pack("{s:s, s:s}", "name", "cuda", "why", err.text);
    for (int i = 0; i < n; i++)
        json_array_append_new(cards, describe_card(&list[i], i));
    snprintf(text, sizeof text, "%d card%s", n, n == 1 ? "" : "s");
    return json_pack("{s:s, s:s}", "name", "cuda", "device", text);
}
#else
static json_t *describe_cuda(json_t *cards)
{
    (void)cards;
    return json_pack("{s:s, s:s}", "name", "cuda", "why", "this Styx was built without CUDA");
}
#endif

int styx_devices(char **json, styx_error *err)
{
    json_t *cards = json_array(), *list = json_array();
    json_array_append_new(list, describe(&backend_cpu, json_pack("{s:s}", "name", "cpu")));
    json_array_append_new(list, describe_cuda(cards));
    json_t *root = json_pack("{s:o, s:o}", "backends", list, "cards", cards);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return fail_nomem(err, 256);
    *json = text;
    return 0;
}
