/* studio.h - the session and the open models of one run of the command, and Ctrl-C. */
#ifndef STYX_APP_STUDIO_H
#define STYX_APP_STUDIO_H
#include <jansson.h>

#include "options.h"

struct studio {
    styx_session *session;
};

/* Exit codes. Opens the session that the options ask for and takes over SIGINT and SIGTERM. */
int studio_begin(struct studio *s, const struct options *o);
void studio_end(struct studio *s);
/* Was Ctrl-C pressed? */
bool studio_interrupted(void);

/* A component of another model to put into this one. */
struct part {
    const char *name;
    styx_component *component; /* owned */
};
enum { MAX_PARTS = 8 };
struct parts {
    struct part list[MAX_PARTS];
    size_t count;
    const char *config; /* a folder of configs, for a single file; may be NULL */
};

/* Adds the component in folder, or the one that a model has of that name (nothing if it has none).
 */
int parts_open(struct parts *p, const char *name, const char *folder, const char *variant);
int parts_borrow(struct parts *p, const char *name, const styx_model *model, const char *its_name);
/* The model is to do without it. */
int parts_leave_out(struct parts *p, const char *name);
void parts_free(struct parts *p);

/* "FILE" or "FILE:SCALE", "FILE:WORD": *path is yours, *rest (in text) what stands behind the last
 * colon, or NULL. A file whose own name holds a colon is meant whole. */
int extra_split(const char *text, char **path, const char **rest);
/* loras, embeddings: "FILE" or "FILE:SCALE", "FILE:WORD"; each may be NULL. */
int model_open(const char *path, const char *variant, const struct parts *parts,
               const struct texts *loras, const struct texts *embeddings, styx_model **model);
/* What --model, --variant, --vae, --text-encoder-2 and --tokenizer say. */
int model_of_options(const struct options *o, styx_model **model);
/* --refiner, which shares the second text encoder and the VAE of an SDXL model. */
int refiner_of_options(const struct options *o, const styx_model *model, styx_model **refiner);

/* "sd", "sdxl" or "refiner", and the side of its own pictures. */
struct model_facts {
    char family[16];
    int side;
};
int model_facts(const styx_model *model, struct model_facts *facts);
/* New objects, or NULL with the reason on stderr. */
json_t *model_info(const styx_model *model);
json_t *session_info(const styx_session *session);

#endif
