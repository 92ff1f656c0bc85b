/* save.h - writing safetensors and GGUF files, whole or in pieces, never half: the file appears
 * under its name when it is complete. */
#ifndef STYX_WEIGHTS_SAVE_H
#define STYX_WEIGHTS_SAVE_H
#include "base/dtype.h"
#include "base/file.h"

struct saved {
    const char *name;
    enum dtype type;
    int dims, shape[4];
    const void *data; /* for save_file */
};

/* Orders tensors as files should hold them: wide types first, so that all are aligned, then by
 * name. */
void save_sort(struct saved *tensors, int ntensors);

/* metadata: key, value, key, value, ..., NULL; or NULL. */
int save_file(const char *path, const struct saved *tensors, int ntensors,
              const char *const *metadata, enum file_flags flags, styx_error *err);

/* In pieces: save_open writes the header, save_put the data of the tensors one after the other in
 * their order, each followed by save_pad, save_close gives the file its name. save_drop in any
 * case, NULL too. */
struct saver;
int save_open(const char *path, const struct saved *tensors, int ntensors,
              const char *const *metadata, enum file_flags flags, struct saver **out,
              styx_error *err);
/* The same as GGUF, where I8 stands for Q8_0 and its data are blocks of a scale and 32 integers. */
int save_open_gguf(const char *path, const struct saved *tensors, int ntensors,
                   const char *const *metadata, enum file_flags flags, struct saver **out,
                   styx_error *err);
int save_put(struct saver *s, const void *data, size_t bytes, styx_error *err);
int save_pad(struct saver *s, styx_error *err); /* after each tensor; nothing in safetensors */
int save_close(struct saver *s, styx_error *err);
void save_drop(struct saver *s);

#endif
