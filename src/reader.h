/*
** reader.h - reads one HTTP/1.1 reply from bytes as they come.
*/
#ifndef ksms_reader_h
#define ksms_reader_h

#include <stddef.h>

#include "buffer.h"
#include "head.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* The order matters: all states before KSMS_DONE want more bytes. */
enum {
    KSMS_STATUS,      /* the status line, again after each 1xx */
    KSMS_FIELDS,      /* header lines, to the empty one */
    KSMS_LENGTH,      /* a body of known length */
    KSMS_UNTIL_CLOSE, /* a body that ends with the connection */
    KSMS_CHUNK_LINE,  /* the size of a chunk and its extensions */
    KSMS_CHUNK,       /* the bytes of a chunk */
    KSMS_CHUNK_END,   /* the line end after them */
    KSMS_TRAILERS,    /* header lines after the last chunk */
    KSMS_DONE,
    KSMS_LOST,
    KSMS_REFUSED
};

typedef struct ksms_reader {
    ksms_head head;
    int state;
    int reusable;     /* nothing speaks against another request */
    const char *text; /* of the failure, static */
    size_t cap;       /* of the body */
    size_t left;      /* bytes of the body, or of this chunk, that may come */
    ksms_buffer line; /* a line whose end has not come yet */
    ksms_buffer body;
} ksms_reader;

/* Makes a zeroed or used reader ready for a reply whose body has 'cap' bytes at most. */
void ksms_reader_start(ksms_reader *r, size_t cap);

/* Takes all bytes; r->state tells what they came to. */
void ksms_reader_feed(ksms_reader *r, const char *s, size_t n);

/* The peer has closed, or the caller gives up. */
void ksms_reader_end(ksms_reader *r);

/* Gives the buffers back; works on a zeroed reader and twice. */
void ksms_reader_release(ksms_reader *r);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
