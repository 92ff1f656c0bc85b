#include "image/infotext.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"

static const char PROMPT[] = "Prompt", NEGATIVE[] = "Negative prompt";

/* Fewer pairs than that and the last line is a line of the prompt, as A1111 decides it. */
enum { MIN_PAIRS = 3 };

static struct infotext_item *find(const struct infotext *info, const char *key)
{
    for (int i = 0; i < info->nitems; i++)
        if (!strcasecmp(info->items[i].key, key))
            return &info->items[i];
    return NULL;
}

const char *infotext_get(const struct infotext *info, const char *key)
{
    const struct infotext_item *item = find(info, key);

    return item ? item->value : NULL;
}

int infotext_set(struct infotext *info, const char *key, const char *value, styx_error *err)
{
    struct infotext_item *item = find(info, key);
    char *new_value = strdup(value), *new_key = item ? NULL : strdup(key);

    if (!new_value || (!item && !new_key))
        goto nomem;
    if (!item) {
        if (info->nitems == info->capacity) {
            int capacity = info->capacity ? 2 * info->capacity : 16;
            void *items = realloc(info->items, (size_t)capacity * sizeof *info->items);
            if (!items)
                goto nomem;
            info->items = items;
            info->capacity = capacity;
        }
        item = &info->items[info->nitems++];
        *item = (struct infotext_item){ new_key, NULL };
    }
    free(item->value);
    item->value = new_value;
    return STYX_OK;
nomem:
    free(new_key);
    free(new_value);
    return fail_nomem(err, strlen(key) + strlen(value));
}

void infotext_free(struct infotext *info)
{
    for (int i = 0; i < info->nitems; i++) {
        free(info->items[i].key);
        free(info->items[i].value);
    }
    free(info->items);
    *info = (struct infotext){ 0 };
}

/* Values that would end early are written as JSON strings. */
static void write_value(const char *value, struct buffer *out)
{
    if (!strpbrk(value, ",:\n\"")) {
        buffer_text(out, value);
        return;
    }
    buffer_byte(out, '"');
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n')
            buffer_text(out, "\\n");
        else if (c < ' ')
            buffer_printf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            buffer_printf(out, "\\%c", c);
        else
            buffer_byte(out, c);
    }
    buffer_byte(out, '"');
}

int infotext_write(const struct infotext *info, char **text, styx_error *err)
{
    struct buffer out = { 0 };
    const char *prompt = infotext_get(info, PROMPT), *negative = infotext_get(info, NEGATIVE);
    bool first = true;

    if (prompt)
        buffer_text(&out, prompt);
    if (negative && *negative) {
        buffer_text(&out, "\nNegative prompt: ");
        buffer_text(&out, negative);
    }
    for (int i = 0; i < info->nitems; i++) {
        const struct infotext_item *item = &info->items[i];
        if (item->value == prompt || item->value == negative)
            continue;
        buffer_text(&out, first ? "\n" : ", ");
        buffer_text(&out, item->key);
        buffer_text(&out, ": ");
        write_value(item->value, &out);
        first = false;
    }
    return buffer_take_text(&out, text, err);
}

/* One "key: value," of the last line. */
struct pair {
    const char *key, *value;
    size_t key_bytes, value_bytes;
};

static bool is_key_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == ' ' || c == '-' || c == '/' || c & 0x80;
}

/* A JSON string's length with its quotes, 0 if it does not end. */
static size_t quoted_bytes(const char *p)
{
    for (size_t i = 1; p[i]; i++) {
        if (p[i] == '"')
            return i + 1;
        if (p[i] == '\\' && p[i + 1])
            i++;
    }
    return 0;
}

/* Reads the next pair and returns what follows it, or NULL at the end. Words that are no pair are
 * passed over. */
static const char *next_pair(const char *p, struct pair *pair)
{
    for (;;) {
        p += strspn(p, " ,");
        if (!*p)
            return NULL;
        size_t n = 0;
        while (is_key_byte(p[n]))
            n++;
        if (n >= 2 && p[n] == ':')
            break;
        p += n ? n : 1;
        p += strcspn(p, ",");
    }
    pair->key = p;
    pair->key_bytes = strcspn(p, ":");
    p += pair->key_bytes + 1;
    p += strspn(p, " ");
    size_t n = *p == '"' ? quoted_bytes(p) : 0;
    if (!n || (p[n] && p[n] != ','))
        n = strcspn(p, ",");
    pair->value = p;
    pair->value_bytes = n;
    return p + n;
}

static int count_pairs(const char *line)
{
    struct pair pair;
    int n = 0;

    while ((line = next_pair(line, &pair)))
        n++;
    return n;
}

/* A value in quotes that is a JSON string becomes what it says. */
static void read_value(const struct pair *pair, struct buffer *out)
{
    size_t n = pair->value_bytes;
    json_t *string = NULL;

    if (n >= 2 && pair->value[0] == '"' && pair->value[n - 1] == '"')
        string = json_loadb(pair->value, n, JSON_DECODE_ANY, NULL);
    if (json_is_string(string)) {
        buffer_text(out, json_string_value(string));
    } else {
        while (n && pair->value[n - 1] == ' ')
            n--;
        buffer_add(out, pair->value, n);
    }
    json_decref(string);
}

static int add_pairs(const char *line, struct infotext *info, styx_error *err)
{
    struct pair pair;
    int rc = STYX_OK;

    while (!rc && (line = next_pair(line, &pair))) {
        struct buffer key = { 0 }, value = { 0 };
        char *key_text = NULL, *value_text = NULL;
        buffer_add(&key, pair.key, pair.key_bytes);
        read_value(&pair, &value);
        if (!(rc = buffer_take_text(&key, &key_text, err)) &&
            !(rc = buffer_take_text(&value, &value_text, err)))
            rc = infotext_set(info, key_text, value_text, err);
        buffer_free(&value);
        free(key_text);
        free(value_text);
    }
    return rc;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Lines up to end go to the prompt, and from "Negative prompt:" on to the negative one, each
 * without the blanks around it. */
static int add_prompts(const char *p, const char *end, struct infotext *info, styx_error *err)
{
    static const char mark[] = "Negative prompt:";
    struct buffer texts[2] = { { 0 }, { 0 } };
    char *text = NULL;
    int which = 0, nlines = 0, rc = STYX_OK;

    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        const char *next = line_end ? line_end + 1 : end;
        line_end = line_end ? line_end : end;
        while (p < line_end && is_space(*p))
            p++;
        if ((size_t)(line_end - p) >= sizeof mark - 1 && !strncmp(p, mark, sizeof mark - 1)) {
            which = 1;
            nlines = 0;
            p += sizeof mark - 1;
            while (p < line_end && is_space(*p))
                p++;
        }
        while (line_end > p && is_space(line_end[-1]))
            line_end--;
        if (nlines++)
            buffer_byte(&texts[which], '\n');
        buffer_add(&texts[which], p, (size_t)(line_end - p));
        p = next;
    }
    for (int i = 0; i <= which && !rc; i++) {
        if (!(rc = buffer_take_text(&texts[i], &text, err)))
            rc = infotext_set(info, i ? NEGATIVE : PROMPT, text, err);
        free(text);
        text = NULL;
    }
    buffer_free(&texts[0]);
    buffer_free(&texts[1]);
    return rc;
}

int infotext_parse(const char *text, struct infotext *info, styx_error *err)
{
    const char *end, *last;

    *info = (struct infotext){ 0 };
    while (is_space(*text))
        text++;
    end = text + strlen(text);
    while (end > text && is_space(end[-1]))
        end--;
    last = end;
    while (last > text && last[-1] != '\n')
        last--;
    char *line = strndup(last, (size_t)(end - last));
    if (!line)
        return fail_nomem(err, (size_t)(end - last));
    bool settings = count_pairs(line) >= MIN_PAIRS;
    int rc = add_prompts(text, settings ? last : end, info, err);
    if (!rc && settings)
        rc = add_pairs(line, info, err);
    free(line);
    if (rc)
        infotext_free(info);
    return rc;
}
