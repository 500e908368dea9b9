/*
** head.h - the strict judge of one reply's head.
**
** Takes the lines of a reply one by one from the reader, and keeps the little that koresms has
** to know. What two parties could read in two ways is refused. No Lua, no allocation, no input or output.
*/
#ifndef ksms_head_h
#define ksms_head_h

#include <stddef.h>

/* All head lines of one reply: the 1xx heads before it and its trailers included. */
#ifndef KSMS_HEAD_MAX
#define KSMS_HEAD_MAX (256u * 1024u)
#endif

typedef struct ksms_head {
    int status;           /* 0 until a status line was read */
    int minor;            /* of HTTP/1.minor */
    int done;             /* the final head is complete; what follows are trailers */
    int chunked;          /* Transfer-Encoding: chunked, alone */
    int close;            /* Connection: close, HTTP/1.0 without keep-alive, or LF alone */
    double length;        /* Content-Length, -1 where there is none */
    size_t bytes;         /* of all lines given so far */
    char retry_after[64]; /* text, "" where there is none (or it is longer than this) */
    char date[64];
    int state;      /* private to head.c */
    int keep_alive; /* private to head.c */
} ksms_head;

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

void ksms_head_reset(ksms_head *h);

/*
** Judges one line, with or without its line end. NULL where it is good, else a static
** text that says why the reply is refused. An empty line ends the head: after a 1xx a
** new status line has to follow, after the final head only trailers, which are judged
** by their form and otherwise ignored. After a refusal the head is of no more use.
*/
const char *ksms_head_line(ksms_head *h, const char *line, size_t n);

/* True where the reply has no body whatever its fields say: 1xx, 204, 304. */
int ksms_head_bodyless(const ksms_head *h);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
