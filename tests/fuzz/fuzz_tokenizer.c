/* A prompt of any bytes: ids, back to text, expanded, and read with weights. */
#include <stdlib.h>

#include "text/prompt.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

static struct tokenizer *open_tokenizer(void)
{
    static const char *const words[] = { "<x>", "<x>_1", "<x>_2", "<X y>" };
    struct tokenizer *plain, *tok;
    styx_error err;

    if (tokenizer_open(STYX_TEST_DATA "/data/text", &plain, &err) ||
        tokenizer_with_tokens(plain, words, 4, &tok, &err))
        abort();
    tokenizer_free(plain);
    return tok;
}

static void bug_if(int wrong)
{
    if (wrong)
        abort();
}

static void check_ids(const struct tokenizer *tok, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bug_if(ids[i] < 0 || ids[i] >= tokenizer_vocab_size(tok));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    static struct tokenizer *tok;
    const char *text = (const char *)data;
    struct tokens all = { 0 };
    struct token_report report;
    struct prompt prompt;
    int32_t ids[77];
    char *out;

    if (!tok)
        tok = open_tokenizer();
    int bad = tokenizer_check(text, bytes, NULL);
    bug_if(tokenizer_append(tok, text, bytes, &all, NULL) != bad);
    check_ids(tok, all.v, all.count);
    if (!bad) {
        bug_if(tokenizer_encode(tok, text, bytes, ids, 77, &report, NULL));
        bug_if(report.count != all.count || (all.count > 75) != !!report.cut);
        check_ids(tok, ids, 77);
        free(report.cut);
        bug_if(tokenizer_decode(tok, all.v, all.count, &out, NULL));
        free(out);
        bug_if(tokenizer_expand(tok, text, bytes, &out, NULL));
        free(out);
    }
    if (!prompt_parse(tok, text, bytes, &prompt, NULL)) {
        check_ids(tok, prompt.ids, (size_t)prompt.nchunks * (size_t)prompt.length);
        prompt_free(&prompt);
    }
    tokens_free(&all);
    return 0;
}
