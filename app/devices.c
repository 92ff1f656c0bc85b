/* devices.c - styx devices: what there is to compute on. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "say.h"
#include "small.h"
#include "studio.h"

static double gigabytes(const json_t *object, const char *key)
{
    return (double)json_integer_value(json_object_get(object, key)) * 1e-9;
}

/* "cpu, avx2, 2 threads" begins with the backend's name. */
static void print_backend(const json_t *backend)
{
    const char *name = text_at(backend, "name"), *device = text_at(backend, "device");
    size_t n = strlen(name);
    if (strncmp(device, name, n) == 0 && device[n] == ',')
        device += n + 2;
    if (json_object_get(backend, "why"))
        printf("%-5s not usable: %s\n", name, text_at(backend, "why"));
    else
        printf("%-5s %s\n", name, device);
}

static void print_card(const json_t *card)
{
    const char *blas = text_at(card, "cublaslt"), *dnn = text_at(card, "cudnn");
    printf("  %lld  %s, %.1f GB, %.1f GB free, compute capability %s\n",
           (long long)json_integer_value(json_object_get(card, "index")), text_at(card, "name"),
           gigabytes(card, "memory"), gigabytes(card, "free"), text_at(card, "compute_capability"));
    printf("     driver for CUDA %s, cuBLASLt %s, cuDNN %s\n", text_at(card, "driver"),
           *blas ? blas : "not found", *dnn ? dnn : "not found");
    if (json_object_get(card, "why"))
        printf("     not usable: %s\n", text_at(card, "why"));
}

int run_devices(struct options *o)
{
    char *text = NULL;
    styx_error err;
    json_t *entry;
    size_t i;
    if (styx_devices(&text, &err))
        return complain_of(&err);
    json_t *root = json_loads(text, 0, NULL);
    if (o->json)
        puts(text);
    styx_text_free(text);
    if (!root)
        return complain_memory();
    json_array_foreach(json_object_get(root, "backends"), i, entry)
    {
        if (!o->json)
            print_backend(entry);
    }
    json_array_foreach(json_object_get(root, "cards"), i, entry)
    {
        if (!o->json)
            print_card(entry);
    }
    json_decref(root);
    return EXIT_OK;
}
