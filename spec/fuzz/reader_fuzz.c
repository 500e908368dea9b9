/*
** reader_fuzz.c - libFuzzer target over head.c and reader.c; see `make fuzz`. What it found that
** is worth keeping stands in corpus/, from which each run begins.
**
** The small bound is there for short inputs to reach it. The first byte says how the
** rest is cut. Beside memory errors the target finds outcomes that depend on the cuts,
** and replies that are held to be complete against the rules.
*/
#include "../../src/reader.c"

#include <stdint.h>

#define CAP 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int truth)
{
    if (!truth)
        abort();
}

static void check(const ksms_reader *r)
{
    must(r->body.n <= r->cap && r->body.n <= r->body.size);
    must(r->line.n <= r->line.size && r->line.size <= 2 * CHUNK_LINE_MAX);
    must(r->state >= KSMS_LOST ? r->text != NULL && r->body.bytes == NULL : r->text == NULL);
    if (r->state < KSMS_DONE || r->head.done)
        must(r->head.bytes <= KSMS_HEAD_MAX || r->state == KSMS_REFUSED);
    if (r->state != KSMS_DONE)
        return;
    must(r->head.done && r->head.status >= 200 && r->head.status <= 599);
    must(!(r->head.chunked && r->head.length >= 0));
    if (!ksms_head_bodyless(&r->head) && r->head.length >= 0)
        must(r->head.length == (double)r->body.n);
    if (r->reusable)
        must(!r->head.close && (r->head.chunked || r->head.length >= 0 ||
                                ksms_head_bodyless(&r->head)));
}

static void start_reader(ksms_reader *r)
{
    memset(r, 0, sizeof *r);
    ksms_head_reset(&r->head);
    r->cap = CAP;
}

/* Each piece is a copy of its own, so that a read past it is seen. */
static void feed_copy(ksms_reader *r, const char *s, size_t n)
{
    char *copy = malloc(n ? n : 1);
    must(copy != NULL);
    memcpy(copy, s, n);
    ksms_reader_feed(r, copy, n);
    free(copy);
    check(r);
}

static void compare(const ksms_reader *a, const ksms_reader *b)
{
    must(a->state == b->state && a->reusable == b->reusable);
    must(a->text == NULL ? b->text == NULL : strcmp(a->text, b->text) == 0);
    must(a->body.n == b->body.n);
    must(a->body.n == 0 || memcmp(a->body.bytes, b->body.bytes, a->body.n) == 0);
    if (a->state == KSMS_DONE) {
        must(a->head.status == b->head.status);
        must(strcmp(a->head.retry_after, b->head.retry_after) == 0);
        must(strcmp(a->head.date, b->head.date) == 0);
    }
}

/* What libcurl's header callback would do with the same bytes. */
static void feed_lines(const char *s, size_t n)
{
    ksms_head h;
    ksms_head_reset(&h);
    while (n > 0) {
        const char *lf = memchr(s, '\n', n);
        size_t used = lf ? (size_t)(lf - s) + 1 : n;
        if (ksms_head_line(&h, s, used) != NULL)
            return;
        must(h.bytes <= KSMS_HEAD_MAX);
        must(memchr(h.date, 0, sizeof h.date) && memchr(h.retry_after, 0, sizeof h.date));
        s += used;
        n -= used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ksms_reader whole, cut;
    const char *s = (const char *)data + 1;
    size_t n, at = 0;
    unsigned step;
    if (size == 0)
        return 0;
    n = size - 1;
    step = data[0];
    start_reader(&whole);
    feed_copy(&whole, s, n);
    start_reader(&cut);
    while (at < n) {
        size_t piece = 1 + step % 17;
        if (piece > n - at)
            piece = n - at;
        feed_copy(&cut, s + at, piece);
        at += piece;
        step = step % 2 ? step * 29 + 7 : step; /* even: pieces of one size */
    }
    compare(&whole, &cut);
    ksms_reader_end(&whole);
    ksms_reader_end(&cut);
    check(&whole);
    compare(&whole, &cut);
    ksms_reader_release(&whole);
    ksms_reader_release(&cut);
    feed_lines(s, n);
    return 0;
}
