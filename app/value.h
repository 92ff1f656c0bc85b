/* value.h - one value of a flag: from text, to JSON. */
#ifndef STYX_APP_VALUE_H
#define STYX_APP_VALUE_H
#include "options.h"

/* Replaces *field. On failure *field is as it was, and the reason is on stderr. */
int value_parse(const struct flag *f, const char *what, const char *text, void *field);
void value_free(const struct flag *f, void *field);
/* NULL without memory, or for text that is not UTF-8. */
json_t *value_to_json(const struct flag *f, const void *field);
/* jansson's integers are signed; a larger seed becomes a string, which value_parse takes too. */
json_t *seed_to_json(uint64_t seed);
/* A JSON value as the text that value_parse takes (free it), or NULL if it is none. */
char *value_text_of_json(const json_t *value);

#endif
