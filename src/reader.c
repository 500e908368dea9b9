/*
** reader.c - reads one HTTP/1.1 reply from bytes as they come.
**
** It is fed pieces of any size and tells when the reply is complete, when it is refused
** and whether the connection may carry another request. The outcome depends on the
** bytes alone, never on where they were cut. It sees no socket; heads are judged by
** head.c. Both transports read with it.
*/
#include <string.h>

#include "reader.h"

#define CHUNK_LINE_MAX   4096u
#define CHUNK_DIGITS_MAX 15u

void ksms_reader_release(ksms_reader *r)
{
    ksms_buffer_free(&r->line);
    ksms_buffer_free(&r->body);
}

static void fail(ksms_reader *r, int state, const char *text)
{
    ksms_reader_release(r);
    r->state = state;
    r->text = text;
    r->reusable = 0;
}

static void refuse(ksms_reader *r, const char *text)
{
    fail(r, KSMS_REFUSED, text);
}

static void finish(ksms_reader *r)
{
    r->state = KSMS_DONE;
    r->reusable = !r->head.close;
}

/* The head is complete: what kind of body follows? */
static void begin_body(ksms_reader *r)
{
    const ksms_head *h = &r->head;
    if (ksms_head_bodyless(h)) {
        finish(r);
        /* The peer may think otherwise and send the body it announced. */
        if (h->chunked || h->length > 0)
            r->reusable = 0;
    } else if (h->chunked) {
        r->state = KSMS_CHUNK_LINE;
    } else if (h->length < 0) {
        r->state = KSMS_UNTIL_CLOSE;
        r->left = r->cap;
    } else if (h->length > (double)r->cap) {
        refuse(r, "reply body too large");
    } else if (h->length > 0) {
        r->state = KSMS_LENGTH;
        r->left = (size_t)h->length;
    } else {
        finish(r);
    }
}

static int is_empty(const char *line)
{
    return line[0] == '\n' || line[0] == '\r';
}

static void head_line(ksms_reader *r, const char *line, size_t n)
{
    const char *text = ksms_head_line(&r->head, line, n);
    if (text != NULL)
        refuse(r, text);
    else if (r->state == KSMS_TRAILERS && is_empty(line))
        finish(r);
    else if (r->state == KSMS_FIELDS && is_empty(line) && r->head.done)
        begin_body(r);
    else if (r->state == KSMS_FIELDS && is_empty(line))
        r->state = KSMS_STATUS;
    else if (r->state == KSMS_STATUS)
        r->state = KSMS_FIELDS;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/*
** Extensions mean nothing here, but are held to the form of a header line and count
** as one: without a bound a peer could send any number of bytes that are not body.
*/
static const char *chunk_size(ksms_reader *r, const char *line, size_t n, double *size)
{
    size_t i, digits;
    *size = 0;
    for (i = 0; i < n && hex_digit(line[i]) >= 0; i++)
        *size = *size * 16 + hex_digit(line[i]);
    digits = i;
    if (digits == 0)
        return "malformed chunk size";
    if (digits > CHUNK_DIGITS_MAX)
        return "chunk size too large";
    while (i < n && (line[i] == ' ' || line[i] == '\t'))
        i++;
    if (i < n && line[i] != ';')
        return "malformed chunk size";
    for (; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return "control character in a chunk extension";
    }
    r->head.bytes += n - digits;
    if (r->head.bytes > KSMS_HEAD_MAX)
        return "header too large";
    return NULL;
}

static void chunk_line(ksms_reader *r, const char *line, size_t n)
{
    const char *text;
    double size;
    if (n < 2 || line[n - 2] != '\r') {
        refuse(r, "chunk line without carriage return");
        return;
    }
    text = chunk_size(r, line, n - 2, &size);
    if (text != NULL) {
        refuse(r, text);
    } else if (size > (double)(r->cap - r->body.n)) {
        refuse(r, "reply body too large");
    } else if (size > 0) {
        r->state = KSMS_CHUNK;
        r->left = (size_t)size;
    } else {
        r->state = KSMS_TRAILERS;
    }
}

static void full_line(ksms_reader *r, const char *line, size_t n)
{
    if (r->state == KSMS_CHUNK_LINE)
        chunk_line(r, line, n);
    else if (r->state == KSMS_CHUNK_END)
        r->state = KSMS_CHUNK_LINE;
    else
        head_line(r, line, n);
}

/* How much longer the line at hand, with its end, may become. */
static size_t line_room(const ksms_reader *r)
{
    if (r->state == KSMS_CHUNK_LINE)
        return CHUNK_LINE_MAX - r->line.n;
    return KSMS_HEAD_MAX - r->head.bytes - r->line.n;
}

/* Some lines have a fixed beginning: what differs is refused without its line end. */
static const char *wrong_start(const ksms_reader *r, const char *s, size_t n)
{
    const char *start = r->state == KSMS_CHUNK_END ? "\r\n" : "HTTP/";
    size_t length = strlen(start), at = r->line.n, i;
    if (r->state != KSMS_STATUS && r->state != KSMS_CHUNK_END)
        return NULL;
    for (i = 0; i < n && at + i < length; i++) {
        if (s[i] != start[at + i])
            return r->state == KSMS_STATUS ? "not an HTTP status line"
                                           : "chunk longer than its size";
    }
    return NULL;
}

static void gather(ksms_reader *r, const char *s, size_t n, int complete)
{
    if (!ksms_buffer_add(&r->line, s, n)) {
        refuse(r, "no memory for the reply");
    } else if (complete) {
        full_line(r, r->line.bytes, r->line.n);
        r->line.n = 0;
    }
}

/* Takes bytes up to a line end; returns how many. */
static size_t take_line(ksms_reader *r, const char *s, size_t n)
{
    const char *lf = memchr(s, '\n', n);
    size_t used = lf ? (size_t)(lf - s) + 1 : n;
    const char *text = wrong_start(r, s, used);
    if (text != NULL)
        refuse(r, text);
    else if (used > line_room(r))
        refuse(r, r->state == KSMS_CHUNK_LINE ? "chunk line too long" : "header too large");
    else if (lf != NULL && r->line.n == 0)
        full_line(r, s, used);
    else
        gather(r, s, used, lf != NULL);
    return used;
}

/* Takes bytes of the body; returns how many. */
static size_t take_body(ksms_reader *r, const char *s, size_t n)
{
    size_t used = n < r->left ? n : r->left;
    if (r->state == KSMS_UNTIL_CLOSE && n > r->left) {
        refuse(r, "reply body too large");
        return n;
    }
    if (!ksms_buffer_add(&r->body, s, used)) {
        refuse(r, "no memory for the reply");
        return n;
    }
    r->left -= used;
    if (r->left == 0 && r->state == KSMS_LENGTH)
        finish(r);
    else if (r->left == 0 && r->state == KSMS_CHUNK)
        r->state = KSMS_CHUNK_END;
    return used;
}

static int in_body(const ksms_reader *r)
{
    return r->state == KSMS_LENGTH || r->state == KSMS_UNTIL_CLOSE || r->state == KSMS_CHUNK;
}

void ksms_reader_feed(ksms_reader *r, const char *s, size_t n)
{
    while (n > 0 && r->state < KSMS_DONE) {
        size_t used = in_body(r) ? take_body(r, s, n) : take_line(r, s, n);
        s += used;
        n -= used;
    }
    if (n > 0) /* more than one reply to one request */
        r->reusable = 0;
}

void ksms_reader_end(ksms_reader *r)
{
    if (r->state == KSMS_UNTIL_CLOSE)
        finish(r);
    else if (r->state == KSMS_STATUS && r->head.bytes == 0 && r->line.n == 0)
        fail(r, KSMS_LOST, "connection closed before a reply");
    else if (r->state == KSMS_STATUS || r->state == KSMS_FIELDS)
        fail(r, KSMS_LOST, "connection closed in the reply's header");
    else if (r->state < KSMS_DONE)
        fail(r, KSMS_LOST, "connection closed in the reply's body");
    r->reusable = 0;
}

void ksms_reader_start(ksms_reader *r, size_t cap)
{
    ksms_head_reset(&r->head);
    r->state = KSMS_STATUS;
    r->reusable = 0;
    r->text = NULL;
    r->cap = cap;
    r->left = 0;
    r->line.n = r->body.n = 0;
}
