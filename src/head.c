/*
** head.c - the strict judge of one reply's head (see head.h).
**
** It knows lines and fields and the rules of RFC 9112 about them. It never sees a body
** and never decides what a status means for a message.
*/
#include "head.h"

#include <stdint.h>
#include <string.h>

#include "chars.h"

enum { START, FIELDS, TRAILERS, END };

/* 2^53 - 1: every length up to here is exact as a double. */
#define LENGTH_MAX 9007199254740991.0

/* A character of a field's name (RFC 9110, 5.6.2): a bit each. */
static int is_name(char c)
{
    static const uint32_t names[4] = {0, 0x03FF6CFA, 0xC7FFFFFE, 0x57FFFFFF};
    unsigned char u = (unsigned char)c;
    return u < 128 && (names[u >> 5] >> (u & 31) & 1) != 0;
}

/* `word` is lower case. */
static int equals(const char *s, size_t n, const char *word)
{
    size_t i;
    if (n != strlen(word))
        return 0;
    for (i = 0; i < n; i++) {
        if (ksms_lower(s[i]) != word[i])
            return 0;
    }
    return 1;
}

static void trim(const char **s, size_t *n)
{
    while (*n > 0 && (**s == ' ' || **s == '\t')) {
        (*s)++;
        (*n)--;
    }
    while (*n > 0 && ((*s)[*n - 1] == ' ' || (*s)[*n - 1] == '\t'))
        (*n)--;
}

/* The length of a line without its line end. A CR alone stays, to be refused. */
static size_t strip(const char *line, size_t n)
{
    if (n > 0 && line[n - 1] == '\n') {
        n--;
        if (n > 0 && line[n - 1] == '\r')
            n--;
    }
    return n;
}

/* Whether a line ends with LF alone. RFC 9112 lets one read it so (2.2), and another may not:
   such a connection does not serve a second time. */
static int is_lone(const char *line, size_t n)
{
    return n > 0 && line[n - 1] == '\n' && (n == 1 || line[n - 2] != '\r');
}

static const char *check_bytes(const char *line, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c >= 0x20 && c != 0x7f)
            continue;
        if (c == '\r')
            return "bare carriage return in the header";
        if (c != '\t')
            return "control character in the header";
    }
    return NULL;
}

/* What is wrong with a line whose name ends at `i` without a colon. */
static const char *field_fault(const char *line, size_t n, size_t i)
{
    const char *refusal = check_bytes(line, n);
    if (refusal)
        return refusal;
    if (n > 0 && (line[0] == ' ' || line[0] == '\t'))
        return "folded header line";
    if (i == n)
        return "header line without a colon";
    if (line[i] == ' ' || line[i] == '\t')
        return "blank in or after a header name";
    return line[i] == ':' ? "empty header name" : "bad character in a header name";
}

/* The form of a field line; `name_length` becomes the offset of its colon. */
static const char *check_field(const char *line, size_t n, size_t *name_length)
{
    size_t i = 0;
    while (i < n && is_name(line[i]))
        i++;
    if (i == 0 || i == n || line[i] != ':')
        return field_fault(line, n, i);
    *name_length = i;
    return check_bytes(line + i, n - i);
}

static const char *read_status(ksms_head *h, const char *line, size_t n)
{
    const char *refusal = check_bytes(line, n);
    if (refusal)
        return refusal;
    if (n < 9 || memcmp(line, "HTTP/1.", 7) != 0 || !ksms_is_digit(line[7]))
        return "not an HTTP status line";
    if (n < 12 || line[8] != ' ' || !ksms_is_digit(line[9]) || !ksms_is_digit(line[10])
        || !ksms_is_digit(line[11]) || (n > 12 && line[12] != ' '))
        return "malformed HTTP status line";
    h->minor = line[7] - '0';
    h->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    if (h->status < 100 || h->status > 599)
        return "HTTP status out of range";
    if (h->status == 101)
        return "switch of protocols that was not asked for";
    return NULL;
}

/* ---- the fields that matter: each takes a trimmed value ---- */

static const char *read_length(ksms_head *h, const char *value, size_t n)
{
    double length = 0;
    size_t i;
    if (h->length >= 0)
        return "more than one Content-Length";
    if (h->chunked)
        return "Content-Length together with Transfer-Encoding";
    if (n == 0)
        return "empty Content-Length";
    for (i = 0; i < n; i++) {
        if (!ksms_is_digit(value[i]))
            return "Content-Length is not a number";
        length = length * 10 + (value[i] - '0');
        if (length > LENGTH_MAX)
            return "Content-Length is too large";
    }
    h->length = length;
    return NULL;
}

static const char *read_coding(ksms_head *h, const char *value, size_t n)
{
    if (h->minor == 0)
        return "Transfer-Encoding in an HTTP/1.0 reply";
    if (h->chunked)
        return "more than one Transfer-Encoding";
    if (h->length >= 0)
        return "Content-Length together with Transfer-Encoding";
    if (!equals(value, n, "chunked"))
        return "Transfer-Encoding is not chunked";
    h->chunked = 1;
    return NULL;
}

static const char *read_connection(ksms_head *h, const char *value, size_t n)
{
    size_t from = 0, i;
    for (i = 0; i <= n; i++) {
        if (i == n || value[i] == ',') {
            const char *option = value + from;
            size_t length = i - from;
            trim(&option, &length);
            if (equals(option, length, "close"))
                h->close = 1;
            else if (equals(option, length, "keep-alive"))
                h->keep_alive = 1;
            from = i + 1;
        }
    }
    return NULL;
}

/* The first one counts. A text that does not fit is left out: a truncated value would be wrong. */
static void keep(char *to, size_t size, const char *value, size_t n)
{
    if (to[0] == '\0' && n < size) {
        memcpy(to, value, n);
        to[n] = '\0';
    }
}

static const char *read_retry_after(ksms_head *h, const char *value, size_t n)
{
    keep(h->retry_after, sizeof h->retry_after, value, n);
    return NULL;
}

static const char *read_date(ksms_head *h, const char *value, size_t n)
{
    keep(h->date, sizeof h->date, value, n);
    return NULL;
}

static const struct {
    const char *name;
    const char *(*read)(ksms_head *h, const char *value, size_t n);
} fields[] = {
    {"content-length", read_length},
    {"transfer-encoding", read_coding},
    {"connection", read_connection},
    {"retry-after", read_retry_after},
    {"date", read_date},
};

static const char *read_field(ksms_head *h, const char *line, size_t n)
{
    size_t name_length = 0, value_length, i;
    const char *value;
    const char *refusal = check_field(line, n, &name_length);
    if (refusal)
        return refusal;
    value = line + name_length + 1;
    value_length = n - name_length - 1;
    trim(&value, &value_length);
    for (i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (equals(line, name_length, fields[i].name))
            return fields[i].read(h, value, value_length);
    }
    return NULL;
}

/* Forgets what a head said, not how many bytes there were. */
static void start(ksms_head *h)
{
    size_t bytes = h->bytes;
    memset(h, 0, sizeof *h);
    h->bytes = bytes;
    h->length = -1;
    h->state = START;
}

static const char *end_of_head(ksms_head *h)
{
    if (h->status < 200) {
        h->state = START; /* the fields go when the next status line comes */
        return NULL;
    }
    if (h->minor == 0 && !h->keep_alive)
        h->close = 1;
    h->done = 1;
    h->state = TRAILERS;
    return NULL;
}

/* ---- what the other files call ---- */

void ksms_head_reset(ksms_head *h)
{
    h->bytes = 0;
    start(h);
}

const char *ksms_head_line(ksms_head *h, const char *line, size_t n)
{
    size_t name_length = 0;
    int lone;
    if (h->bytes > KSMS_HEAD_MAX || n > KSMS_HEAD_MAX - h->bytes)
        return "header too large";
    h->bytes += n;
    lone = is_lone(line, n);
    n = strip(line, n);
    switch (h->state) {
    case START:
        start(h);
        h->close = lone;
        h->state = FIELDS;
        return read_status(h, line, n);
    case FIELDS: h->close |= lone; return n == 0 ? end_of_head(h) : read_field(h, line, n);
    case TRAILERS:
        if (n == 0) {
            h->state = END;
            return NULL;
        }
        if (n >= 5 && memcmp(line, "HTTP/", 5) == 0)
            return "second reply that was not asked for";
        return check_field(line, n, &name_length);
    default: return "header line after the end of the reply";
    }
}

int ksms_head_bodyless(const ksms_head *h)
{
    return h->status < 200 || h->status == 204 || h->status == 304;
}
