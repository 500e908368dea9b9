/*
** http1.c - reads one HTTP/1.1 reply from bytes as they come.
**
** It is fed pieces of any size and tells when the reply is complete, when it is refused
** and whether the connection may carry another request. The outcome depends on the
** bytes alone, never on where they were cut. It sees no socket; heads are judged by
** head.c. The first part is plain C (a fuzzer includes it with KSMS_HTTP1_PURE set),
** the second shows it to Lua.
*/
#include <stdlib.h>
#include <string.h>

#include "head.h"

#define CHUNK_LINE_MAX 4096u
#define CHUNK_DIGITS_MAX 15u

/* The order matters: all states before DONE want more bytes. */
enum {
    STATUS,      /* the status line, again after each 1xx */
    FIELDS,      /* header lines, to the empty one */
    LENGTH,      /* a body of known length */
    UNTIL_CLOSE, /* a body that ends with the connection */
    CHUNK_LINE,  /* the size of a chunk and its extensions */
    CHUNK,       /* the bytes of a chunk */
    CHUNK_END,   /* the line end after them */
    TRAILERS,    /* header lines after the last chunk */
    DONE,
    LOST,
    REFUSED
};

typedef struct buffer {
    char *bytes;
    size_t n;
    size_t size;
} buffer;

typedef struct reader {
    ksms_head head;
    int state;
    int reusable;     /* nothing speaks against another request */
    const char *text; /* of the failure, static */
    size_t cap;       /* of the body */
    size_t left;      /* bytes of the body, or of this chunk, that may come */
    buffer line;      /* a line whose end has not come yet */
    buffer body;
} reader;

static void release(reader *r)
{
    free(r->line.bytes);
    free(r->body.bytes);
    memset(&r->line, 0, sizeof r->line);
    memset(&r->body, 0, sizeof r->body);
}

static void fail(reader *r, int state, const char *text)
{
    release(r);
    r->state = state;
    r->text = text;
    r->reusable = 0;
}

static void refuse(reader *r, const char *text)
{
    fail(r, REFUSED, text);
}

/* Callers bound what they add, so that the sizes here cannot overflow. */
static int add(buffer *b, const char *s, size_t n)
{
    if (n > b->size - b->n) {
        size_t size = b->size ? b->size * 2 : 512;
        char *bytes;
        while (size < b->n + n)
            size *= 2;
        bytes = realloc(b->bytes, size);
        if (bytes == NULL)
            return 0;
        b->bytes = bytes;
        b->size = size;
    }
    memcpy(b->bytes + b->n, s, n);
    b->n += n;
    return 1;
}

static void finish(reader *r)
{
    r->state = DONE;
    r->reusable = !r->head.close;
}

/* The head is complete: what kind of body follows? */
static void begin_body(reader *r)
{
    const ksms_head *h = &r->head;
    if (ksms_head_bodyless(h)) {
        finish(r);
        /* The peer may think otherwise and send the body it announced. */
        if (h->chunked || h->length > 0)
            r->reusable = 0;
    } else if (h->chunked) {
        r->state = CHUNK_LINE;
    } else if (h->length < 0) {
        r->state = UNTIL_CLOSE;
        r->left = r->cap;
    } else if (h->length > (double)r->cap) {
        refuse(r, "reply body too large");
    } else if (h->length > 0) {
        r->state = LENGTH;
        r->left = (size_t)h->length;
    } else {
        finish(r);
    }
}

static int is_empty(const char *line)
{
    return line[0] == '\n' || line[0] == '\r';
}

static void head_line(reader *r, const char *line, size_t n)
{
    const char *text = ksms_head_line(&r->head, line, n);
    if (text != NULL)
        refuse(r, text);
    else if (r->head.is_h2)
        refuse(r, "HTTP/2 status line on an HTTP/1.1 connection");
    else if (r->state == TRAILERS && is_empty(line))
        finish(r);
    else if (r->state == FIELDS && is_empty(line) && r->head.done)
        begin_body(r);
    else if (r->state == FIELDS && is_empty(line))
        r->state = STATUS;
    else if (r->state == STATUS)
        r->state = FIELDS;
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
static const char *chunk_size(reader *r, const char *line, size_t n, double *size)
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

static void chunk_line(reader *r, const char *line, size_t n)
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
        r->state = CHUNK;
        r->left = (size_t)size;
    } else {
        r->state = TRAILERS;
    }
}

static void full_line(reader *r, const char *line, size_t n)
{
    if (r->state == CHUNK_LINE)
        chunk_line(r, line, n);
    else if (r->state == CHUNK_END)
        r->state = CHUNK_LINE;
    else
        head_line(r, line, n);
}

/* How much longer the line at hand, with its end, may become. */
static size_t line_room(const reader *r)
{
    if (r->state == CHUNK_LINE)
        return CHUNK_LINE_MAX - r->line.n;
    return KSMS_HEAD_MAX - r->head.bytes - r->line.n;
}

/* Some lines have a fixed beginning: what differs is refused without its line end. */
static const char *wrong_start(const reader *r, const char *s, size_t n)
{
    const char *start = r->state == CHUNK_END ? "\r\n" : "HTTP/";
    size_t length = strlen(start), at = r->line.n, i;
    if (r->state != STATUS && r->state != CHUNK_END)
        return NULL;
    for (i = 0; i < n && at + i < length; i++) {
        if (s[i] != start[at + i])
            return r->state == STATUS ? "not an HTTP status line"
                                      : "chunk longer than its size";
    }
    return NULL;
}

static void gather(reader *r, const char *s, size_t n, int complete)
{
    if (!add(&r->line, s, n)) {
        refuse(r, "no memory for the reply");
    } else if (complete) {
        full_line(r, r->line.bytes, r->line.n);
        r->line.n = 0;
    }
}

/* Takes bytes up to a line end; returns how many. */
static size_t take_line(reader *r, const char *s, size_t n)
{
    const char *lf = memchr(s, '\n', n);
    size_t used = lf ? (size_t)(lf - s) + 1 : n;
    const char *text = wrong_start(r, s, used);
    if (text != NULL)
        refuse(r, text);
    else if (used > line_room(r))
        refuse(r, r->state == CHUNK_LINE ? "chunk line too long" : "header too large");
    else if (lf != NULL && r->line.n == 0)
        full_line(r, s, used);
    else
        gather(r, s, used, lf != NULL);
    return used;
}

/* Takes bytes of the body; returns how many. */
static size_t take_body(reader *r, const char *s, size_t n)
{
    size_t used = n < r->left ? n : r->left;
    if (r->state == UNTIL_CLOSE && n > r->left) {
        refuse(r, "reply body too large");
        return n;
    }
    if (!add(&r->body, s, used)) {
        refuse(r, "no memory for the reply");
        return n;
    }
    r->left -= used;
    if (r->left == 0 && r->state == LENGTH)
        finish(r);
    else if (r->left == 0 && r->state == CHUNK)
        r->state = CHUNK_END;
    return used;
}

static int in_body(const reader *r)
{
    return r->state == LENGTH || r->state == UNTIL_CLOSE || r->state == CHUNK;
}

static void feed(reader *r, const char *s, size_t n)
{
    while (n > 0 && r->state < DONE) {
        size_t used = in_body(r) ? take_body(r, s, n) : take_line(r, s, n);
        s += used;
        n -= used;
    }
    if (n > 0) /* more than one reply to one request */
        r->reusable = 0;
}

/* The peer has closed, or the caller gives up. */
static void end(reader *r)
{
    if (r->state == UNTIL_CLOSE)
        finish(r);
    else if (r->state == STATUS && r->head.bytes == 0 && r->line.n == 0)
        fail(r, LOST, "connection closed before a reply");
    else if (r->state == STATUS || r->state == FIELDS)
        fail(r, LOST, "connection closed in the reply's header");
    else if (r->state < DONE)
        fail(r, LOST, "connection closed in the reply's body");
    r->reusable = 0;
}

#ifndef KSMS_HTTP1_PURE

#include "http1.h"
#include "koresms.h"

#define CLASS "koresms.reader"
#define CAP_DEFAULT 1048576.0 /* 1 MiB */
#define CAP_MAX 1073741824.0  /* 1 GiB: fits size_t and leaves room to double */

/* Expects the reader at 1. */
static reader *self(lua_State *L)
{
    return (reader *)luaL_checkudata(L, 1, CLASS);
}

/* Leaves "more" or "done", or nil, text and code of the failure. */
static int answer(lua_State *L, const reader *r)
{
    if (r->state < DONE) {
        lua_pushliteral(L, "more");
        return 1;
    }
    if (r->state == DONE) {
        lua_pushliteral(L, "done");
        return 1;
    }
    lua_pushstring(L, r->text);
    return ksms_fail(L, r->state == LOST ? "connection_lost" : "bad_response");
}

/***
Takes the next bytes of the reply. Bytes after its end make the connection unfit for
another request; after a failure the same failure is returned again.
@function reader:feed
@tparam string bytes any number of bytes, none included
@treturn[1] string "more" or "done"
@treturn[2] nil
@treturn[2] string why the reply is refused
@treturn[2] string the code "bad_response"
*/
static int l_feed(lua_State *L)
{
    reader *r = self(L);
    size_t n;
    const char *s;
    luaL_checktype(L, 2, LUA_TSTRING);
    s = lua_tolstring(L, 2, &n);
    feed(r, s, n);
    return answer(L, r);
}

/***
Says that no more bytes will come, because the peer closed or the caller gives up.
@function reader:eof
@treturn[1] string "done", where the reply is complete
@treturn[2] nil
@treturn[2] string where the reply broke off, or why it was refused before
@treturn[2] string the code "connection_lost" or "bad_response"
*/
static int l_eof(lua_State *L)
{
    reader *r = self(L);
    end(r);
    return answer(L, r);
}

static void push_text(lua_State *L, const char *text)
{
    if (text[0] != '\0')
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
}

/***
Takes the reply out of the reader; raises unless it is complete. The body is handed over
once: a second call finds it empty.
@function reader:result
@treturn number HTTP status
@treturn string body
@treturn ?string value of the header Retry-After
@treturn ?string value of the header Date
@treturn boolean whether the connection may carry another request
*/
static int l_result(lua_State *L)
{
    reader *r = self(L);
    if (r->state != DONE)
        return luaL_error(L, "the reply is not complete");
    lua_pushinteger(L, r->head.status);
    lua_pushlstring(L, r->body.n > 0 ? r->body.bytes : "", r->body.n);
    push_text(L, r->head.retry_after);
    push_text(L, r->head.date);
    lua_pushboolean(L, r->reusable);
    /* The collector does not know how large the buffers are: do not wait for it. */
    release(r);
    return 5;
}

/* Finalizer; also works on a reader that is all zero, and twice. */
static int l_gc(lua_State *L)
{
    release(self(L));
    return 0;
}

/***
Makes a reader for one reply.
@function reader
@tparam[opt=1048576] number cap largest body that is taken, in bytes
@treturn userdata the reader
*/
static int l_reader(lua_State *L)
{
    lua_Number cap = luaL_optnumber(L, 1, CAP_DEFAULT);
    reader *r;
    luaL_argcheck(L, cap >= 0 && cap <= CAP_MAX, 1, "out of range");
    r = (reader *)ksms_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    ksms_setclass(L, CLASS);
    ksms_head_reset(&r->head);
    r->cap = (size_t)cap;
    return 1;
}

void ksms_open_reader(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"feed", l_feed},
        {"eof", l_eof},
        {"result", l_result},
        {NULL, NULL},
    };
    ksms_newclass(L, CLASS, methods, l_gc);
    lua_pushcfunction(L, l_reader);
    lua_setfield(L, -2, "reader");
}

#endif
